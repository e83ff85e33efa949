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
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMAGE_PATHS = re.compile(r"(?<![\w./-])/(?=(?:opt|build|studies|cache|data|home/ablation|usr/local)\b)")
NEEDS_A_CONTAINER = ("groupadd", "useradd")
# Byte-compiling takes minutes here, and what uv has downloaded once need not come again.
FASTER = {"UV_COMPILE_BYTECODE": "0", "UV_NO_CACHE": "0", "UV_LINK_MODE": "hardlink"}


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
        needed = {stage.base} | {word.split("=")[1] for step in stage.steps if step.kind == "COPY"
                                 for word in step.words() if word.startswith("--from=")}
        for other in sorted(needed & names):
            if not (self.done / other).exists():
                self.build(other)
        shutil.rmtree(self.root, ignore_errors=True)
        if stage.base in names:
            _copy(self.done / stage.base, self.root)
        else:
            subprocess.run([sys.executable, "-m", "venv", str(self.root / "usr" / "local")], check=True, timeout=120)
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
        kept = {key: value for key, value in os.environ.items()
                if key.lower().startswith(("pip_", "uv_", "ssl_", "http", "no_proxy"))}
        base = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.path("/home/ablation")), "LANG": "C.UTF-8"}
        image = {key: self.rewrite(value) for key, value in (base | environment(stages, name)).items()}
        cache = os.environ.get("UV_CACHE_DIR") or str(Path.home() / ".cache" / "uv")
        return kept | image | FASTER | {"UV_CACHE_DIR": cache}

    def run(self, name: str, arguments: list[str], timeout: float = 60,
            **more: str) -> subprocess.CompletedProcess[str]:
        """A command in the stage that ``build`` has left in ``root``."""
        place = self.path(setting(self.stages, name, "WORKDIR") or "/")
        environment = self.environment(self.stages, name) | more
        found = shutil.which(arguments[0], path=environment["PATH"])
        assert found, f"{arguments[0]} is not in the image's PATH"
        return subprocess.run([found, *arguments[1:]], cwd=place, capture_output=True, text=True, timeout=timeout,
                              env=environment)

    def _run_step(self, step: Step, place: str, stages: list[Stage]) -> None:
        for command in re.split(r"\s*&&\s*", step.text):
            if command.split()[0] in NEEDS_A_CONTAINER:
                continue
            if os.getuid() != 0:
                command = re.sub(r"--(owner|group)=\d+ ", "", command)
            done = subprocess.run(["sh", "-euc", self.rewrite(command)], cwd=self.path(place), capture_output=True,
                                  text=True, timeout=600, env=self.environment(stages, stages[-1].name))
            assert done.returncode == 0, f"RUN {command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"

    def _copy_step(self, step: Step, place: str) -> None:
        words = step.words()
        source = ROOT
        if words[0].startswith("--from="):
            source = self.done / words.pop(0).split("=")[1]
        *names, target = words
        goal = self.path(target if target.startswith("/") else f"{place}/{target}")
        for name in names:
            assert source is not ROOT or in_context(name), f"{name} is kept out by .dockerignore"
            here = source / name.lstrip("/")
            assert here.exists(), f"COPY {name}: not there"
            end = goal / here.name if target.endswith("/") else goal
            end.parent.mkdir(parents=True, exist_ok=True)
            _copy(here, end)


def _copy(source: Path, target: Path) -> None:
    """Hard links, as the environments are gigabytes; nothing writes into a file that is there."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
