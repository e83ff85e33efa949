"""Every mistake: its exit code, one line on stderr for each with place and fix, no traceback, nothing half-written."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

import ablation
from ablation import cli
from ablation.spec import StudySpec
from tests.ablation.synthetic_study import write_study
from tests.integration.bad_inputs import CATALOGUE, KEY, PYTHON, Mistake, study
from tests.integration.studies import ablation as run_apart, environment


def pictures(folder: Path, count: int, corrupt: int = 0) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        path = folder / f"{number}.png"
        path.write_bytes(b"not a picture") if number < corrupt else \
            Image.new("RGB", (20, 20), (4 * number, 9, 9)).save(path)


def data_sets(root: Path) -> None:
    """``parts`` is good, of the others each has one fault."""
    for split, count in (("train", 60), ("val", 20)):
        for kind in ("normal", "scratch"):
            pictures(root / "parts" / split / kind, count)
    for split in ("train", "val"):
        pictures(root / "one-class" / split / "normal", 30)
        pictures(root / "no-normal" / split / "dent", 3)
        pictures(root / "corrupt" / split / "normal", 40, corrupt=5)
        pictures(root / "corrupt" / split / "dent", 40)
        (root / "empty-class" / split / "normal").mkdir(parents=True)
        pictures(root / "flat" / split, 2)
    pictures(root / "no-val" / "train" / "normal", 2)
    (root / "bad.parquet").write_bytes(b"PAR1nope")
    (root / "zipped").mkdir()
    for split in ("Train", "Val"):
        rows = [f"{split}{number}.png,{number % 2}" for number in range(40)]
        (root / "zipped" / f"SewerML_{split}.csv").write_text("\n".join(["Filename,Defect", *rows]) + "\n")
    (root / "zipped" / "images.zip").write_bytes(b"PK\x03\x04 and the rest is missing")


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the catalogue's commands find; see its module."""
    from trainers.backbones import build_backbone
    from trainers.data.views import Normalization
    from trainers.export import save_encoder

    root = tmp_path_factory.mktemp("workshop")
    data_sets(root)
    for name, text in (("good.yaml", study()), ("p.py", PYTHON), ("broken.py", "def f(:\n"), ("afile", "x"),
                       ("imports.py", "import no_such_package\n")):
        (root / name).write_text(text)
    for name in ("dir.yaml", "void", "taken", "taken.csv"):
        (root / name).mkdir()
    (root / "taken" / "README.md").write_text("mine")
    done = write_study(root / "studies" / "done", methods=["simclr", "byol"], backbones=["resnet18"],
                       imbalance=[0.05, 0.5], seeds=[0, 1, 2], epochs=2)
    save_encoder(done / "trials" / KEY / "encoder.safetensors", build_backbone("resnet18", 16), Normalization())
    spec = StudySpec.load(root / "good.yaml", [f"data.root={root / 'parts'}"])
    plan = ablation.plan(spec, store=root / "studies")
    plan.save()
    plan.store.write_result(plan.trials[0].key, {"metrics": {"probe/auroc": 0.6}, "provenance": {}, "flags": []})
    (plan.store.path / "report").mkdir()
    (plan.store.path / "report" / "report.html").write_text("")
    return root


@pytest.fixture
def here(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, value in environment(workshop).items():
        monkeypatch.setenv(name, value)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(workshop)
    yield workshop
    (workshop / "study.yaml").unlink(missing_ok=True)


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Whatever is in the working folder and the store; not the cache, which is there to be written."""
    return {str(path): (stat.st_mtime_ns, stat.st_size) for path in folder.rglob("*")
            if "cache" not in path.parts and path.name != "driver.lock" and path.is_file() and (stat := path.stat())}


def call(monkeypatch: pytest.MonkeyPatch, words: list[str]) -> int:
    monkeypatch.setattr(sys, "argv", ["ablation", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code


def judge(mistake: Mistake, code: int, stderr: str) -> None:
    assert code == mistake.exit, stderr
    assert "Traceback" not in stderr
    told = (mistake.told,) if isinstance(mistake.told, str) else mistake.told
    start = "gate not met" if code == 5 else "error: "
    lines = [line for line in stderr.splitlines() if line.startswith(start)]
    assert len(lines) == len(told), stderr
    for line, wanted in zip(lines, told, strict=True):
        assert wanted in line
        assert len(line) < 700


@pytest.mark.parametrize("mistake", CATALOGUE, ids=str)
def test_a_mistake_is_told_in_one_line(mistake: Mistake, here: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:
    content = mistake.file.encode() if isinstance(mistake.file, str) else mistake.file
    (here / "study.yaml").write_bytes(content)
    before = files(here)
    code = call(monkeypatch, shlex.split(mistake.command.replace(" @", " study.yaml")))
    judge(mistake, code, capsys.readouterr().err)
    assert code == 5 or files(here) == before  # a gate is judged after a run


APART = ("plan nowhere.yaml", "status nothere", "pln", "run good.yaml train.epochs=2 --address 127.0.0.1:9")


@pytest.mark.parametrize("mistake", [entry for entry in CATALOGUE if entry.command in APART], ids=str)
def test_a_process_of_its_own_says_the_same(mistake: Mistake, here: Path) -> None:
    done = run_apart(here, *shlex.split(mistake.command))
    judge(mistake, done.returncode, done.stderr)


def test_what_is_said_to_help_helps(here: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, ["plan", "good.yaml", "grid.imbalance=[0.1]", "--allow-tiny"]) == 0
    assert "1 trials, 1 to run" in capsys.readouterr().out


def test_the_catalogue_is_large_and_names_nothing_twice() -> None:
    assert len(CATALOGUE) >= 150
    assert len({(entry.command, entry.file) for entry in CATALOGUE}) == len(CATALOGUE)
    assert {entry.exit for entry in CATALOGUE} == {2, 4, 5, 6}
