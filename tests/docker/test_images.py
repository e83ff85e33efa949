"""Every step of docker/Dockerfile, carried out; and what the images then do."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.docker.dockerfile import (
    ROOT,
    Image,
    Step,
    callers_configuration,
    chain,
    copy_options,
    environment,
    in_context,
    link_or_copy,
    read_dockerfile,
    setting,
    uv_cache,
)

STAGES = read_dockerfile((ROOT / "docker" / "Dockerfile").read_text())
TARGETS = ("driver", "worker", "mlflow")
PINNED = re.compile(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*")
LIST = "import importlib.metadata as m; print(*sorted({d.name.lower().replace('_', '-') for d in m.distributions()}))"


def locked(lock: str) -> dict[str, str]:
    """Names and versions of a lock that this machine takes."""
    from packaging.requirements import Requirement

    lines = re.findall(r"^([A-Za-z0-9][^\\\n]*?)\s*\\?$", (ROOT / lock).read_text(), flags=re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    return {item.name.lower().replace("_", "-"): str(item.specifier)[2:] for item in wanted
            if item.marker is None or item.marker.evaluate()}


def test_stages_are_pinned_and_the_driver_is_the_default() -> None:
    names = [stage.name for stage in STAGES]
    assert len(set(names)) == len(names)
    assert set(TARGETS) < set(names)
    assert names[-1] == "driver"
    for number, stage in enumerate(STAGES):
        assert stage.base in names[:number] or PINNED.fullmatch(stage.base), stage.base
    outside = {stage.base for stage in STAGES} - set(names)
    assert len(outside) == 1, "driver and worker must have the same Python, to the patch"
    assert outside.pop().startswith("python:3.11.")


@pytest.mark.parametrize("target", TARGETS)
def test_images_do_not_run_as_root(target: str) -> None:
    assert setting(STAGES, target, "USER") == "10001:10001"
    made = " ".join(step.text for stage in chain(STAGES, target) for step in stage.steps if step.kind == "RUN")
    assert "--uid 10001" in made
    assert "--gid 10001" in made
    after = [step.kind for step in chain(STAGES, target)[-1].steps]
    assert "RUN" not in after[after.index("USER"):] if "USER" in after else "RUN" not in after


def test_only_the_worker_asks_for_gpus() -> None:
    assert environment(STAGES, "worker")["NVIDIA_VISIBLE_DEVICES"] == "all"
    assert environment(STAGES, "worker")["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert "NVIDIA_VISIBLE_DEVICES" not in environment(STAGES, "driver")


def test_nothing_is_installed_without_a_hash() -> None:
    runs = [step.text for stage in STAGES for step in stage.steps if step.kind == "RUN"]
    installs = [run for run in runs if "pip install" in run]
    assert len(installs) == 4
    assert all("--require-hashes -r requirements" in run or "--offline --no-deps /build/dist/" in run
               for run in installs)
    assert not [run for run in runs if re.search(r"curl|wget|git clone|://|apt", run)]


def test_no_secret_can_reach_an_image(tmp_path: Path) -> None:
    for path in ("docker/secrets/ray_token", "docker/data/picture.png", "studies/s/study.yaml", ".git/config",
                 ".venv/x", ".env", "docker/.env", "ablation/__pycache__/cli.pyc", "mlflow.db",
                 "tests/docker/conftest.py"):
        assert not in_context(path), path
    assert in_context("ablation/analysis/tables.py")
    values = [value for target in TARGETS for value in environment(STAGES, target)]
    assert not [name for name in values if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]
    ignored = subprocess.run(["git", "check-ignore", "docker/secrets/ray_token", "docker/data/a.png", "docker/.env"],
                             cwd=ROOT, capture_output=True, text=True)
    assert ignored.returncode in (0, 128)  # 128: not a git clone
    assert ignored.returncode == 128 or len(ignored.stdout.split()) == 3


def test_a_mistake_in_a_dockerfile_is_found() -> None:
    with pytest.raises(ValueError, match="not understood: ADD"):
        read_dockerfile("FROM python:3.11.14 AS base\nADD https://example/x /x\n")
    with pytest.raises(ValueError, match="needs a name"):
        read_dockerfile("FROM python:latest\n")
    with pytest.raises(ValueError, match="not understood: RUNN"):
        read_dockerfile("FROM a AS b\nRUNN true\n")
    for option in ("--chown=1:1", "--chmod=u+x", "--link"):
        with pytest.raises(ValueError, match="not understood: COPY"):
            copy_options(Step("COPY", f"{option} a b"))


def test_copies_between_file_systems_and_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("new")
    link_or_copy(source, target)
    assert target.samefile(source)

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    other = tmp_path / "other"
    os.link(source, other)
    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        link_or_copy(source, target)
    assert target.read_text() == "new"
    assert not target.samefile(source)
    assert other.stat().st_nlink == 2  # what lay there was replaced, its other names left alone
    assert copy_options(Step("COPY", "--from=a --chmod=0755 x y")) == ({"from": "a", "chmod": "0755"}, ["x", "y"])


def test_the_callers_package_index_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_CONFIG_FILE", "PIP_CONFIG_FILE", "UV_CACHE_DIR", "XDG_CACHE_HOME", "NETRC", "UV_NO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("uv/uv.toml", "pip/pip.conf"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("UV_INDEX_URL", "https://index.example/simple")
    found = callers_configuration()
    assert found["UV_CONFIG_FILE"] == str(tmp_path / "uv" / "uv.toml")
    assert found["PIP_CONFIG_FILE"] == str(tmp_path / "pip" / "pip.conf")
    assert (found["XDG_CONFIG_HOME"], found["UV_INDEX_URL"]) == (str(tmp_path), "https://index.example/simple")
    assert uv_cache() == Path.home() / ".cache" / "uv"
    (tmp_path / "uv" / "uv.toml").write_text('cache-dir = "/elsewhere"')
    assert uv_cache() == Path("/elsewhere")
    monkeypatch.setenv("UV_CACHE_DIR", "/here")
    assert uv_cache() == Path("/here")
    (tmp_path / "image").mkdir()
    image = Image(tmp_path / "image")
    assert "UV_NO_CACHE" not in image.environment(STAGES, "builder")
    monkeypatch.setenv("UV_NO_CACHE", "1")
    assert image.environment(STAGES, "builder")["UV_NO_CACHE"] == "1"


@pytest.mark.parametrize("target", TARGETS)
def test_scripts_can_be_run_whatever_the_clones_modes_are(target: str) -> None:
    steps = [step for stage in chain(STAGES, target) for step in stage.steps if step.kind == "COPY"]
    scripts = [step for step in steps if "docker/" in step.text]
    assert scripts
    assert all(copy_options(step)[0] == {"chmod": "0755"} for step in scripts)
    assert all(copy_options(step)[0].keys() == {"from"} for step in steps if step not in scripts)


@pytest.mark.parametrize("target", ["worker", "driver"])
def test_cluster_images(image: Image, target: str) -> None:
    image.build(target)
    start = [*json_words(target, "ENTRYPOINT"), *json_words(target, "CMD")]
    shown = image.run(target, start)
    assert shown.returncode == 0, shown.stderr
    assert "Usage:" in shown.stdout
    version = image.run(target, ["ablation", "--version"])
    assert version.stdout.strip() == importlib.metadata.version("ablation")
    methods = image.run(target, ["ablation", "methods"])
    assert methods.returncode == 0, methods.stderr
    assert "barlow_twins" in methods.stdout
    assert set(image.run(target, ["python", "-c", LIST]).stdout.split()) == {*locked("requirements.lock"), "ablation"}
    inside = image.run(target, ["python", "-c", "import ablation, search_spaces; print(ablation.__file__)"])
    assert inside.stdout.startswith(str(image.path("/opt/ablation/lib")))
    assert not image.path("/build").exists()  # neither sources nor tools
    readable(image.path("/opt/ablation"))


def test_driver_script_hands_everything_on(image: Image) -> None:
    """Without Ray: what does not train needs no node."""
    image.build("driver")
    listed = image.run("driver", ["driver.sh", "methods"])
    assert listed.returncode == 0, listed.stderr
    assert "simclr" in listed.stdout
    refused = image.run("driver", ["driver.sh", "plan", "no-such-study"])
    assert refused.returncode == 2


def test_torch_cannot_do_without_the_cuda_libraries(image: Image) -> None:
    """Why the driver's image has them: the day this fails, it can be gigabytes smaller."""
    image.build("driver")
    code = ["python", "-c", "import torch; print(torch.__version__)"]
    assert image.run("driver", code).stdout.startswith(locked("requirements.lock")["torch"])
    (packages,) = image.path("/opt/ablation/lib").glob("python*/site-packages")
    (packages / "nvidia").rename(packages / "away")
    try:
        bare = image.run("driver", code)
    finally:
        (packages / "away").rename(packages / "nvidia")
    assert bare.returncode != 0
    assert re.search(r"lib\w+\.so", bare.stderr)


def json_words(target: str, kind: str) -> list[str]:
    text = setting(STAGES, target, kind)
    assert text is not None
    assert text.startswith("["), "the form without a shell, so that signals arrive"
    return next(step.words() for stage in reversed(chain(STAGES, target)) for step in stage.steps if step.kind == kind)


def readable(folder: Path) -> None:
    """User 10001 owns nothing in it: everybody must be able to read, nobody to write. Where the caller keeps files from
    others, so does the caller's uv cache, from which those of the dependencies come: then ours alone tell."""
    os.umask(callers := os.umask(0o077))
    ours = [folder / "bin", *(path for name in ("ablation", "trainers", "search_spaces")
                              for path in folder.glob(f"lib/python*/site-packages/{name}"))]
    assert len(ours) == 4
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        cached = callers & stat.S_IROTH and stat.S_ISREG(mode) and not any(path.is_relative_to(one) for one in ours)
        if not stat.S_ISLNK(mode) and not cached:
            assert mode & stat.S_IROTH, path
            assert not stat.S_ISDIR(mode) or mode & stat.S_IXOTH, path
            assert not mode & stat.S_IWOTH, path
