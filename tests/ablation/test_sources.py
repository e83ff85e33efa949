"""A study comes from a file, a Python function or a built-in name; anything else is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablation.errors import SpecError
from ablation.sources import builtin_studies
from ablation.spec import StudySpec

STUDY = """\
from ablation import StudySpec

def study():
    return StudySpec(name="from-python", train={"epochs": 3})

def broken():
    return StudySpec(name="x", train={"epoch": 3})

def crash():
    return 1 / 0

def number():
    return 4
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(STUDY)
    return path


def test_a_python_function_can_be_overridden_like_a_file(module: Path) -> None:
    spec = StudySpec.load(f"{module}:study", ["train.batch_size=64"])
    assert (spec.name, spec.train.epochs, spec.train.batch_size) == ("from-python", 3, 64)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("studdy", "mine.py: there is no function 'studdy' (did you mean 'study'?)"),
        ("broken", "mine.py:broken: train.epoch: unknown field (did you mean 'epochs'?)"),
        ("crash", "mine.py:crash: raised ZeroDivisionError: division by zero"),
        ("number", "mine.py:number: returned int, expected a StudySpec"),
    ],
)
def test_a_python_study_that_fails_is_one_line(module: Path, function: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        StudySpec.load(f"{module}:{function}")
    assert str(caught.value) == expected


def test_a_wrong_override_of_a_python_study_names_the_argument(module: Path) -> None:
    with pytest.raises(SpecError, match=r"^argument 'retries=-1': retries: must be 0 or more, got -1$"):
        StudySpec.load(f"{module}:study", ["retries=-1"])


def test_python_that_does_not_parse_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = 1\ndef study(:\n")
    with pytest.raises(SpecError, match=r"^bad\.py:2: not valid Python: "):
        StudySpec.load(f"{tmp_path / 'bad.py'}:study")


def test_a_python_file_without_a_function_says_how_to_name_one(module: Path) -> None:
    with pytest.raises(SpecError, match=r"name the function that returns the study: .*mine\.py:study"):
        StudySpec.load(module)


def test_every_builtin_loads_under_its_listed_name() -> None:
    names = builtin_studies()
    assert "quickstart" in names
    for name in names:
        assert StudySpec.load(name).name


def test_an_unknown_name_suggests_the_nearest_builtin() -> None:
    with pytest.raises(SpecError, match=r"'quickstrat' is neither .* \(did you mean 'quickstart'\?\)"):
        StudySpec.load("quickstrat")
