"""Power of paired t tests equals statsmodels', and its inverses are inverses."""

from __future__ import annotations

import math

import pytest
from statsmodels.stats.power import TTestPower

from ablation.analysis.power import power_of, seeds_needed, smallest_difference


def test_power_of_one_cell_is_that_of_statsmodels() -> None:
    for effect, n in ((0.5, 10), (1.2, 5), (0.1, 40)):
        assert power_of(effect, 1.0, 1, n, 0.05) == pytest.approx(TTestPower().power(effect, n, 0.05), abs=1e-6)
        assert power_of(-2 * effect, 2.0, 1, n, 0.05) == pytest.approx(power_of(effect, 1.0, 1, n, 0.05))


def test_the_smallest_difference_is_shown_with_its_power() -> None:
    for cells, seeds in ((1, 5), (10, 5), (10, 3)):
        shown = smallest_difference(0.02, cells, seeds, 0.005, 0.8)
        assert power_of(shown, 0.02, cells, seeds, 0.005) == pytest.approx(0.8, abs=1e-6)
    assert math.isnan(smallest_difference(0.02, 1, 2, 0.05))
    assert math.isnan(smallest_difference(0.0, 10, 5, 0.05))


def test_the_seeds_needed_are_the_least_that_do() -> None:
    needed = seeds_needed(0.01, 0.03, 10, 0.005)
    assert needed is not None
    assert power_of(0.01, 0.03, 10, needed, 0.005) >= 0.8 > power_of(0.01, 0.03, 10, needed - 1, 0.005)
    assert seeds_needed(1.0, 0.01, 10, 0.05) == 2
    assert seeds_needed(1e-6, 1.0, 10, 0.05) is None
    assert seeds_needed(0.0, 1.0, 10, 0.05) is None
