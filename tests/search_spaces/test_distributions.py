"""Distributions stay inside their bounds, on their own scale, and refuse what is none; so do parameters and spaces."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ablation.distributions import Categorical, Distribution, Integer, LogUniform, Parameter, Space, Uniform
from ablation.errors import SpecError

ROOT = Path(__file__).resolve().parents[2]
LR = Parameter("train.lr", LogUniform(1e-4, 1e-2), source="test")


def draws(distribution: Distribution, count: int = 4000) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.array([distribution.draw(rng) for _ in range(count)])


@pytest.mark.parametrize(
    ("distribution", "median"),
    [(Uniform(2, 4), 3), (LogUniform(1e-4, 1e-2), 1e-3), (Integer(1, 9), 5), (Integer(10, 1000, log=True), 100)],
)
def test_draws_fill_the_range_evenly_on_its_scale(distribution: Uniform | LogUniform | Integer, median: float) -> None:
    found = draws(distribution)
    assert distribution.low <= found.min() <= found.max() <= distribution.high
    positions = [distribution.position(value) for value in found]
    assert np.median(positions) == pytest.approx(distribution.position(median), abs=0.05)
    # A uniform variable has a standard deviation of 1 / sqrt(12) of its width; whole numbers come near it.
    assert np.std(positions) == pytest.approx(12**-0.5, abs=0.04)


def test_every_integer_and_choice_is_drawn_equally_often() -> None:
    for distribution, values in ((Integer(1, 4), [1, 2, 3, 4]), (Categorical(("a", "b", "c")), ["a", "b", "c"])):
        seen, counts = np.unique(draws(distribution), return_counts=True)
        assert list(seen) == values
        assert counts.min() > 0.85 * counts.max()


def test_draws_are_plain_python_values() -> None:
    rng = np.random.default_rng(0)
    kinds = [(Uniform(0, 1), float), (LogUniform(1, 2), float), (Integer(0, 3), int), (Integer(1, 3, log=True), int),
             (Categorical(("a", "b")), str)]
    assert [type(distribution.draw(rng)) for distribution, _ in kinds] == [kind for _, kind in kinds]


def test_position_follows_the_scale() -> None:
    assert LogUniform(1e-4, 1e-2).position(1e-3) == pytest.approx(0.5)
    assert Uniform(0, 4).position(1) == 0.25
    assert Integer(1, 8, log=True).position(2) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Uniform(2, 1), "uniform 2 to 1: needs two numbers, the lower one first"),
        (lambda: Uniform(0, float("inf")), "needs two numbers"),
        (lambda: LogUniform(0, 1), "log-uniform 0 to 1: a logarithmic scale begins above 0"),
        (lambda: Integer(0, 4, log=True), "log-integer 0 to 4: a logarithmic scale begins at 1"),
        (lambda: Integer(1, 2.5), "bounds must be whole numbers, got 1 and 2.5"),  # type: ignore[arg-type]
        (lambda: Categorical((1,)), "two or more different values"),
        (lambda: Categorical((1, 1)), "two or more different values"),
        (lambda: Parameter("lr", Uniform(0, 1), source="x"), "lr: only fields below train can be searched"),
        (lambda: Parameter("data.image_size", Integer(32, 64), source="x"), "only fields below train"),
        (lambda: Parameter("train.lr", Uniform(0, 1), source=" "), "train.lr: say where the range comes from"),
        (lambda: Parameter("train.lr", 0.1, source="x"), "expected a distribution"),  # type: ignore[arg-type]
        (lambda: Parameter("train.lr", Uniform(0, 1), "x", backbone="cnn"), "unknown kind of backbone 'cnn'"),
        (lambda: Space("byol", ()), "the space of byol has no parameter for a resnet"),
        (lambda: Space("byol", (Parameter("train.lr", Uniform(0, 1), "x", "vit"),)), "no parameter for a resnet"),
        (lambda: Space("byol", (LR, Parameter("train.lr", Uniform(0, 1), "x", "vit"))), "is there twice for a vit"),
    ],
)
def test_what_is_no_space_is_one_line(make: Callable[[], object], expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_without_torch_numpy_or_optuna() -> None:
    code = ("import sys, ablation.distributions; "
            "print(*sorted({'torch', 'numpy', 'optuna', 'pandas', 'pydantic'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == ""
