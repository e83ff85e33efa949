"""The first five losses of every method have not moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.golden.first_steps import FILE, NUM_STEPS, first_losses, read
from tests.trainers.methods.steps import BACKBONE_NAMES
from trainers.config import NUMERICS
from trainers.methods import METHODS


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("method", METHODS)
def test_first_losses_are_the_recorded_ones(method: str, backbone: str, cache: Path) -> None:
    golden = read()
    assert (method, backbone) in golden, "a new entry: make golden"
    assert len(golden[method, backbone]) == NUM_STEPS
    assert first_losses(method, backbone, cache) == pytest.approx(golden[method, backbone], rel=1e-5)


def test_a_renewed_file_goes_with_a_raised_version() -> None:
    """Else trials of before would be taken for trials of now; see ``trainers.config.NUMERICS``."""
    assert FILE.read_text().splitlines()[0] == f"# numerics {NUMERICS}"


def test_nothing_is_recorded_of_methods_that_are_gone() -> None:
    assert set(read()) == {(method, backbone) for method in METHODS for backbone in BACKBONE_NAMES}
