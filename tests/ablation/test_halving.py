"""The rules that end candidates early, on values worked out by hand."""

from __future__ import annotations

import pytest

from ablation.halving import Halving, MedianRule


@pytest.mark.parametrize(("grace", "factor", "every", "epochs", "rungs"), [
    (1, 3, 1, 27, [1, 3, 9]), (1, 3, 2, 27, [2, 4, 10]), (2, 2, 1, 9, [2, 4, 8]), (5, 3, 5, 6, [5]), (9, 3, 1, 9, []),
    (1, 2, 4, 9, [4, 8]),
])
def test_rungs_are_where_there_is_a_score(grace: int, factor: int, every: int, epochs: int, rungs: list[int]) -> None:
    assert Halving(grace, factor, every, epochs).rungs == rungs


def test_one_in_three_goes_on_and_the_best_so_far_always_does() -> None:
    rule = Halving(grace=1, factor=3, every=1, epochs=9)
    scores = [0.5, 0.4, 0.6, 0.55, 0.3, 0.58, 0.7]
    ended = [rule.prunes(0, 1, str(number), score) for number, score in enumerate(scores)]
    # Of n that came, n // 3 (at least one) go on: ranks 1/1, 2/2, 1/3, 2/4, 5/5, 2/6, 1/7.
    assert ended == [False, True, False, True, True, False, False]
    assert not rule.prunes(0, 2, "late", 0.0)  # epoch 2 is no rung


def test_seeds_are_compared_among_themselves() -> None:
    rule = Halving(grace=1, factor=3, every=1, epochs=9)
    assert not rule.prunes(0, 1, "a", 0.9)
    assert not rule.prunes(1, 1, "a", 0.1)
    assert rule.prunes(0, 1, "b", 0.5)
    assert not rule.prunes(1, 1, "b", 0.5)


def test_below_the_median_of_enough_others() -> None:
    rule = MedianRule(grace=2, n_startup=3)
    for number, score in enumerate((0.2, 0.4, 0.6)):
        assert not rule.prunes(0, 2, str(number), score)
    assert rule.prunes(0, 2, "d", 0.39)
    assert not rule.prunes(0, 2, "e", 0.4)
    assert not rule.prunes(0, 1, "f", 0.0)  # grace, and nobody to compare with
    assert not rule.prunes(0, 2, "a", 0.6)
