"""docker/Dockerfile, read and carried out without an engine.

Every stage becomes a folder in the place of ``/``: paths of the image are rewritten into it, `RUN` runs there, `COPY`
copies what .dockerignore lets through, `FROM` and `COPY --from` take the files of an earlier stage. What only root in
a container may do (useradd) is left out. The base image is a fresh virtual environment of this Python.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGE_PATHS = re.compile(r"(?<![\w./-])/(?=(?:opt|build|studies|cache|data|home/ablation|usr/local)\b)")
NEEDS_A_CONTAINER = ("groupadd", "useradd")
# Byte-compiling takes minutes here, and what uv has downloaded once need not come again.
FASTER = {"UV_COMPILE_BYTECODE": "0", "UV_LINK_MODE": "hardlink"}
UMASK = 0o022  # an engine's, whatever the caller's is


def callers_configuration() -> dict[str, str]:
    """Where pip and uv look for packages on this machine: the steps have a HOME of their own, in the image."""
    kept = {key: value for key, value in os.environ.items()
            if key.lower().startswith(("pip_", "uv_", "ssl_", "http", "no_proxy", "all_proxy", "netrc"))
            or key in ("XDG_CONFIG_HOME", "XDG_CONFIG_DIRS")}
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    for name, places in (("UV_CONFIG_FILE", (settings / "uv" / "uv.toml",)),
                         ("PIP_CONFIG_FILE", (settings / "pip" / "pip.conf", Path.home() / ".pip" / "pip.conf")),
                         ("NETRC", (Path.home() / ".netrc",))):
        for place in places:
            if place.is_file():
                kept.setdefault(name, str(place))
    return kept | {"UV_CACHE_DIR": str(uv_cache())}


def uv_cache() -> Path:
    """The folder that uv would take for the caller."""
    settings = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "uv" / "uv.toml"
    settings = Path(os.environ.get("UV_CONFIG_FILE") or settings)
    written = tomllib.loads(settings.read_text()).get("cache-dir") if settings.is_file() else None
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
    return Path(os.environ.get("UV_CACHE_DIR") or written or default).expanduser()


@dataclass(frozen=True)
class Step:
    kind: str
    text: str

    def words(self) -> list[str]:
        """Arguments in either form, ``["a", "b"]`` or ``a b``."""
        return list(json.loads(self.text)) if self.text.startswith("[") else shlex.split(self.text)


@dataclass
class Stage:
    name: str
    base: str
    steps: list[Step] = field(default_factory=list)


def read_dockerfile(text: str) -> list[Stage]:
    """Raises ``ValueError`` at a line that is no instruction."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE))
    stages: list[Stage] = []
    for line in filter(None, (line.strip() for line in joined.splitlines())):
        match = re.fullmatch(r"(FROM|RUN|COPY|ENV|WORKDIR|USER|EXPOSE|VOLUME|ENTRYPOINT|CMD) (.+)", line)
        if match is None:
            raise ValueError(f"not understood: {line}")
        kind, rest = match.groups()
        if kind == "FROM":
            parts = rest.split()
            if len(parts) != 3 or parts[1] != "AS":
                raise ValueError(f"a stage needs a name: {line}")
            stages.append(Stage(parts[2], parts[0]))
        else:
            stages[-1].steps.append(Step(kind, rest))
    return stages


def chain(stages: list[Stage], name: str) -> list[Stage]:
    """The stage and what it is based on, outermost first."""
    by_name = {stage.name: stage for stage in stages}
    stage = by_name[name]
    return [*(chain(stages, stage.base) if stage.base in by_name else []), stage]


def setting(stages: list[Stage], name: str, kind: str) -> str | None:
    """The last ``USER``, ``ENTRYPOINT`` … that holds for a stage."""
    found = [step.text for stage in chain(stages, name) for step in stage.steps if step.kind == kind]
    return found[-1] if found else None


def environment(stages: list[Stage], name: str) -> dict[str, str]:
    steps = [step for stage in chain(stages, name) for step in stage.steps if step.kind == "ENV"]
    return dict(word.split("=", 1) for step in steps for word in step.words())


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a file of the repository through. The last rule that fits decides."""
    verdict = True
    for rule in (ROOT / ".dockerignore").read_text().splitlines():
        if not rule or rule.startswith("#"):
            continue
        pattern, keep = rule.removeprefix("!"), rule.startswith("!")
        ancestors = ["/".join(path.split("/")[:count + 1]) for count in range(path.count("/") + 1)]
        depth = pattern.removeprefix("**/")
        if any(fnmatch.fnmatch(part, pattern) and part.count("/") == pattern.count("/") for part in ancestors) or (
                depth != pattern and any(fnmatch.fnmatch(part.split("/")[-1], depth) for part in ancestors)):
            verdict = keep
    return verdict


class Image:
    """One stage after another in ``folder / "root"``; the finished stages lie in ``folder / "stages"``."""

    def __init__(self, folder: Path) -> None:
        self.stages = read_dockerfile((ROOT / "docker" / "Dockerfile").read_text())
        self.root, self.done = folder / "root", folder / "stages"
        self.done.mkdir()
        self.current = ""

    def build(self, name: str) -> None:
        """Leave the files of a stage in ``root``."""
        if self.current == name:
            return
        stage = next(stage for stage in self.stages if stage.name == name)
        names = {stage.name for stage in self.stages}
        needed = {stage.base} | {copy_options(step)[0].get("from", "") for step in stage.steps if step.kind == "COPY"}
        for other in sorted(needed & names):
            if not (self.done / other).exists():
                self.build(other)
        shutil.rmtree(self.root, ignore_errors=True)
        if stage.base in names:
            _copy(self.done / stage.base, self.root)
        else:
            subprocess.run([sys.executable, "-m", "venv", str(self.root / "usr" / "local")], check=True, timeout=120,
                           umask=UMASK)
        before = setting(self.stages, stage.base, "WORKDIR") if stage.base in names else None
        place = before or "/"
        for number, step in enumerate(stage.steps):
            if step.kind == "WORKDIR":
                place = step.text
                self.path(place).mkdir(parents=True, exist_ok=True)
            elif step.kind == "COPY":
                self._copy_step(step, place)
            elif step.kind == "RUN":
                partial = Stage(stage.name, stage.base, stage.steps[:number])
                self._run_step(step, place, [*(s for s in self.stages if s.name != name), partial])
        shutil.rmtree(self.done / name, ignore_errors=True)
        _copy(self.root, self.done / name)
        self.current = name

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def rewrite(self, text: str) -> str:
        return IMAGE_PATHS.sub(f"{self.root}/", text)

    def environment(self, stages: list[Stage], name: str) -> dict[str, str]:
        """As in a container of the stage. Of this machine only what reaches the package index is handed on."""
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.path("/home/ablation")), "LANG": "C.UTF-8"}
        image = {key: self.rewrite(value) for key, value in (base | environment(stages, name)).items()}
        image.pop("UV_NO_CACHE", None)  # whether to keep downloads is for this machine to say
        return callers_configuration() | image | FASTER

    def run(self, name: str, arguments: list[str], timeout: float = 60,
            **more: str) -> subprocess.CompletedProcess[str]:
        """A command in the stage that ``build`` has left in ``root``."""
        place = self.path(setting(self.stages, name, "WORKDIR") or "/")
        environment = self.environment(self.stages, name) | more
        found = shutil.which(arguments[0], path=environment["PATH"])
        assert found, f"{arguments[0]} is not in the image's PATH"
        return subprocess.run([found, *arguments[1:]], cwd=place, capture_output=True, text=True, timeout=timeout,
                              env=environment, umask=UMASK)

    def _run_step(self, step: Step, place: str, stages: list[Stage]) -> None:
        for command in re.split(r"\s*&&\s*", step.text):
            if command.split()[0] in NEEDS_A_CONTAINER:
                continue
            if os.getuid() != 0:
                command = re.sub(r"--(owner|group)=\d+ ", "", command)
            done = subprocess.run(["sh", "-euc", self.rewrite(command)], cwd=self.path(place), capture_output=True,
                                  text=True, timeout=600, env=self.environment(stages, stages[-1].name),
                                  umask=UMASK)
            assert done.returncode == 0, f"RUN {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def _copy_step(self, step: Step, place: str) -> None:
        options, (*names, target) = copy_options(step)
        source = self.done / options["from"] if "from" in options else ROOT
        goal = self.path(target if target.startswith("/") else f"{place}/{target}")
        for name in names:
            assert source is not ROOT or in_context(name), f"{name} is kept out by .dockerignore"
            here = source / name.lstrip("/")
            assert here.exists(), f"COPY {name}: not there"
            end = goal / here.name if target.endswith("/") else goal
            end.parent.mkdir(parents=True, exist_ok=True)
            # Never a second name of a file of the repository, nor of one whose mode is about to change.
            _copy(here, end, link=source is not ROOT and "chmod" not in options)
            if "chmod" in options:
                for path in (end, *end.rglob("*")):
                    if not path.is_symlink():
                        path.chmod(int(options["chmod"], 8))


def copy_options(step: Step) -> tuple[dict[str, str], list[str]]:
    """``--from=STAGE`` and ``--chmod=OCTAL``, and what follows. Raises ``ValueError`` at any other option."""
    words, options = step.words(), {}
    while words[0].startswith("--"):
        match = re.fullmatch(r"--(?:(from)=([a-z-]+)|(chmod)=(0?[0-7]{3}))", words.pop(0))
        if match is None:
            raise ValueError(f"not understood: COPY {step.text}")
        options[match[1] or match[3]] = match[2] or match[4]
    return options, words


def _copy(source: Path, target: Path, link: bool = True) -> None:
    function = link_or_copy if link else shutil.copy2
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=function, dirs_exist_ok=True)
    else:
        target.unlink(missing_ok=True)
        function(source, target)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """A hard link, as the environments are gigabytes; a copy between file systems and where links are forbidden. What
    lies at ``target`` may have other names: it is replaced, never written into."""
    try:
        os.link(source, target)
    except OSError:
        Path(target).unlink(missing_ok=True)
        shutil.copy2(source, target)
