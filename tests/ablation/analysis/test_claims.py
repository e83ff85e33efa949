"""Verdicts follow the evidence: studies in which a claim is true, false, or cannot be told."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ablation.analysis.claims import CLAIMS, claims
from ablation.analysis.extension import extension
from ablation.errors import NothingMatched
from ablation.spec import StudySpec
from tests.ablation.analysis.frames import LEVELS, Score, trials_frame, with_metric, without

METRIC, RANKME = "probe/auroc", "label_free/rankme"


def paper(method: str, backbone: str, level: float) -> float:
    """A world in which every claim holds."""
    base = {"simclr": 0.80, "barlow_twins": 0.79, "byol": 0.75, "dino": 0.76, "mae": 0.66, "supervised": 0.93}[method]
    rare = math.log10(0.5 / level)
    loss = {"mae": 0.10, "byol": 0.0, "supervised": 0.02}.get(method, 0.03) * rare
    lead = 0.04 if (method in ("simclr", "dino")) == (backbone == "resnet18") else 0.0
    star = 0.08 if (method, backbone) == ("simclr", "resnet18") and level > 0.05 else 0.0
    return base - loss + lead + star


def upside_down(method: str, backbone: str, level: float) -> float:
    """A world in which every claim is wrong."""
    base = {"simclr": 0.70, "barlow_twins": 0.71, "byol": 0.72, "dino": 0.70, "mae": 0.75, "supervised": 0.60}[method]
    rare = math.log10(0.5 / level)
    star = 0.2 if (method, backbone) == ("simclr", "resnet18") and level > 0.05 else 0.0
    return base - {"mae": 0.0, "byol": 0.1}.get(method, 0.04) * rare + 0.15 * (backbone == "vit_tiny") - star


def verdicts(score: Score, rank: float, **settings: object) -> pd.DataFrame:
    """``rank`` = how much RankMe follows what a trial scores beyond its cell."""
    trials = trials_frame(score, **settings)  # type: ignore[arg-type]
    cells = trials.groupby(["method", "backbone"])[f"metrics.{METRIC}"].transform("mean")
    beyond = (trials[f"metrics.{METRIC}"] - cells).to_numpy(float)
    noise = np.random.default_rng(5).normal(size=len(trials))
    return claims(with_metric(trials, RANKME, 100 + rank * beyond + noise)).set_index("claim")


def test_a_world_as_the_paper_says_supports_it() -> None:
    table = verdicts(paper, 0.0, levels=(0.01, 0.02, 0.05, 0.15, 0.5))
    assert table["verdict"].to_dict() == dict.fromkeys(CLAIMS, "supported")
    assert (table["n"] > 0).all()
    assert np.isfinite(table.loc[table.index != "C7", ["effect", "lo", "hi"]]).all(axis=None)
    assert table.loc["C6", "note"] == "smallest gap: simclr"
    assert table.loc["C1", "lo"] < table.loc["C1", "effect"] < table.loc["C1", "hi"]


def test_the_opposite_world_contradicts_it() -> None:
    table = verdicts(upside_down, 1000.0)
    verdict = table["verdict"].to_dict()
    assert verdict.pop("C7") == "undecided"
    assert table.loc["C7", "note"] == "200 of 200 planned self-supervised trials finished"
    assert verdict == dict.fromkeys(verdict, "contradicted")


def test_noise_decides_nothing() -> None:
    table = verdicts(lambda m, b, p: 0.7, 0.0, noise=0.03, seeds=3, seed=4)
    assert set(table.drop(index=["C5"])["verdict"]) == {"undecided"}


def test_a_study_that_lacks_what_a_claim_is_about_is_undecided_and_says_why() -> None:
    trials = trials_frame(paper, methods=["byol", "dino"], backbones=["resnet18"], levels=[0.2])
    table = claims(trials).set_index("claim")
    assert set(table["verdict"]) == {"undecided"}, table["verdict"].to_dict()
    notes = table["note"].to_dict()
    assert notes["C1"] == "not in this study: no finished trial of method simclr or barlow_twins"
    assert notes["C1b"] == "not in this study: two levels of imbalance"
    assert notes["C2b"] == "not in this study: two backbones"
    assert notes["C6"] == "not in this study: no finished trial of method supervised"
    assert "label_free/rankme" in notes["C5"]


def test_the_extreme_level_is_needed_for_what_is_said_of_it() -> None:
    trials = trials_frame(paper, levels=[0.08, 0.5])
    row = claims(trials).set_index("claim").loc["C4"]
    assert row["verdict"] == "undecided"
    assert "this study begins at 8 %" in row["note"]
    assert row["lo"] > 0  # the evidence stands there all the same


def test_one_failed_cell_does_not_stop_the_claims() -> None:
    trials = without(trials_frame(paper), method="mae", backbone="vit_tiny", imbalance=0.01)
    table = claims(trials).set_index("claim")
    assert table.loc["C1", "verdict"] == "supported"
    assert table.loc["C1", "n"] == 2 * len(LEVELS) * 5 - 5
    assert "left out" in table.loc["C2", "note"]


def test_no_finished_trial_is_said() -> None:
    with pytest.raises(NothingMatched, match="no finished trial has a number for 'probe/auroc'"):
        claims(without(trials_frame(paper, seeds=1), backbone="resnet18").assign(state="FAILED"))


def spec(**grid: object) -> StudySpec:
    return StudySpec.from_dict({"name": "demo", "data": {"dataset": "sewer-sim"}, "grid": {
        "method": ["simclr", "byol", "mae"], "backbone": ["resnet18", "vit_tiny"], "imbalance": list(LEVELS),
        "seed": [0, 1, 2]} | grid})


def close_race(difference: float) -> pd.DataFrame:
    skill = {"simclr": 0.800, "byol": 0.800 + difference, "mae": 0.70}
    return trials_frame(lambda m, b, p: skill[m], methods=list(skill), noise=0.02, seeds=3, seed=2)


def test_next_adds_the_seeds_that_settle_open_pairs() -> None:
    found = extension(close_race(0.006), spec(), METRIC, max_more=200)
    assert found.more_seeds > 0
    assert found.spec is not None
    assert found.spec.grid.seed == tuple(range(3 + found.more_seeds))
    assert StudySpec.from_dict(found.spec.to_dict()).grid.method == ("simclr", "byol", "mae")
    text = "\n".join(found.lines())
    assert "2 of 3 pairs of methods are settled." in text
    assert f"{found.more_seeds} more seeds are likely to settle 1 of 1 open pairs" in text


def test_next_says_when_more_seeds_are_not_worth_it() -> None:
    found = extension(close_race(0.0), spec(), METRIC, max_more=2)
    assert (found.more_seeds, found.spec) == (0, None)
    assert "differ by too little to tell" in found.lines()[-1]


def test_next_takes_up_what_has_no_result() -> None:
    trials = without(close_race(0.1), state="PENDING", seed=2, method="byol", backbone="resnet18")
    found = extension(trials, spec(), METRIC)
    assert found.unfinished == len(LEVELS)
    assert found.spec is not None
    assert found.spec.grid.seed == (0, 1, 2)
    assert f"{len(LEVELS)} planned trials have no result; running the study again takes them up." in found.lines()
