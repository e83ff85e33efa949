"""Every step of docker/Dockerfile, carried out; and what the images then do."""

from __future__ import annotations

import importlib.metadata
import re
import stat
import subprocess
from pathlib import Path

import pytest

from tests.docker.dockerfile import ROOT, Image, chain, environment, in_context, read_dockerfile, setting

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
                 ".venv/x", ".env", "ablation/__pycache__/cli.pyc", "mlflow.db", "tests/docker/conftest.py"):
        assert not in_context(path), path
    assert in_context("ablation/analysis/tables.py")
    values = [value for target in TARGETS for value in environment(STAGES, target)]
    assert not [name for name in values if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]
    ignored = subprocess.run(["git", "check-ignore", "docker/secrets/ray_token", "docker/data/a.png"], cwd=ROOT,
                             capture_output=True, text=True)
    assert ignored.returncode in (0, 128)  # 128: not a git clone
    assert ignored.returncode == 128 or len(ignored.stdout.split()) == 2


def test_a_mistake_in_a_dockerfile_is_found() -> None:
    with pytest.raises(ValueError, match="not understood: ADD"):
        read_dockerfile("FROM python:3.11.14 AS base\nADD https://example/x /x\n")
    with pytest.raises(ValueError, match="needs a name"):
        read_dockerfile("FROM python:latest\n")
    with pytest.raises(ValueError, match="not understood: RUNN"):
        read_dockerfile("FROM a AS b\nRUNN true\n")


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
    """User 10001 owns nothing in it: everybody must be able to read, nobody to write."""
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            assert mode & stat.S_IROTH, path
            assert not stat.S_ISDIR(mode) or mode & stat.S_IXOTH, path
            assert not mode & stat.S_IWOTH, path
