"""Importance of settings: what is planted is found, on the scale of the space, and noise is called noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from ablation.analysis.importance import LEAST, importance
from ablation.analysis.setting_scale import SettingScale, value_label
from ablation.distributions import Categorical, Integer, LogUniform, Parameter, Uniform
from tests.ablation.analysis.search_frames import candidates_frame


def test_the_planted_setting_has_the_variance() -> None:
    """Over several levels, whose own differences are larger than what any setting does."""
    frame = candidates_frame(methods=["simclr"], levels=(0.05, 0.5), size=25)
    frame["value"] += frame["imbalance"]
    found = importance(frame)
    assert found.loc[0, "setting"] == "set.train.lr"
    assert found.loc[0, "share"] > 0.7 > 10 * found.loc[1, "share"]
    assert found.loc[0, "r2"] > 0.5
    assert found["n"].eq(frame["state"].eq("COMPLETE").sum()).all()
    assert found["share"].sum() <= 1.001
    pd.testing.assert_frame_equal(found, importance(frame))


def test_a_category_is_found_too_and_a_missing_setting_costs_only_its_candidate() -> None:
    frame = candidates_frame(lambda _, s: 0.7 + 0.1 * (s["set.train.batch_size"] == 64.0), methods=["mae"])
    frame["set.train.optimizer"] = np.where(frame.index % 2, "adamw", "sgd")
    frame.loc[[0, 2], "set.train.weight_decay"] = math.nan  # of the recipe, which may be null, and of another
    frame["set.train.options.rare"] = np.where(frame.index > 17, 1.0, math.nan)
    parameters = [Parameter("train.batch_size", Categorical((32, 64, 128, 256)), "test")]
    found = importance(frame, parameters)
    assert found.loc[0, "setting"] == "set.train.batch_size"
    assert found.loc[0, "share"] > 0.7
    assert found["n"].unique().tolist() == [frame["state"].eq("COMPLETE").sum() - 2]
    assert found["note"].unique().tolist() == ["without rare; 1 candidates lack a setting"]
    assert "set.train.options.rare" not in set(found["setting"])


def test_logarithmic_settings_count_over_all_their_decades() -> None:
    """A rate that matters below a hundredth of its range only: on the plain scale that is 1 % of the space."""
    frame = candidates_frame(lambda _, s: 0.8 - 0.2 * (s["set.train.lr"] < 1e-3) - 0.1 * (
        s["set.train.options.temperature"] > 0.2), methods=["simclr"], size=60, pruned=False)
    shares = importance(frame, [Parameter("train.lr", LogUniform(3e-4, 3e-2), "test")]).set_index("setting")["share"]
    assert shares["set.train.lr"] > shares["set.train.options.temperature"] > 0.1


def test_noise_is_not_predicted() -> None:
    found = importance(candidates_frame(lambda *_: 0.7, methods=["simclr"], size=30))
    assert (found["r2"] < 0).all()


@pytest.mark.parametrize("size", [1, LEAST - 1])
def test_too_few_candidates_have_no_importance(size: int) -> None:
    found = importance(candidates_frame(methods=["simclr"], size=size, pruned=False))
    assert found["share"].isna().all()
    assert found["note"].unique().tolist() == [f"{size} complete candidates, {LEAST} are needed"]


def test_equal_values_have_no_importance() -> None:
    found = importance(candidates_frame(methods=["simclr"], noise=0.0, value=lambda *_: 0.5, pruned=False))
    assert found["share"].isna().all()
    assert found["note"].unique().tolist() == ["all candidates have one value"]


def test_places_on_a_scale() -> None:
    values = pd.Series([1e-3, 1e-2, math.nan, 1e-1])
    assert SettingScale.of(values).kind == "log"
    np.testing.assert_allclose(SettingScale.of(values).position(values), [0, 0.5, math.nan, 1])
    wide = SettingScale.of(values, LogUniform(1e-5, 1e-1))
    np.testing.assert_allclose(wide.position(values), [0.5, 0.75, math.nan, 1])
    outside = SettingScale.of(pd.Series([0.0, 0.9]), Uniform(0.1, 0.5))
    assert (outside.kind, outside.low, outside.high) == ("linear", 0.0, 0.9)
    assert SettingScale.of(pd.Series([1.0, 8.0]), Integer(1, 8, log=True)).kind == "log"
    choice = SettingScale.of(pd.Series([64.0, math.nan]), Categorical((32, 64, 128)))
    np.testing.assert_allclose(choice.position(pd.Series([64.0, math.nan])), [0.5, math.nan])
    assert SettingScale.of(pd.Series([True, None], dtype=object)).kind == "choice"
    assert [value_label(v) for v in (64.0, 0.00312, True, None, "sgd")] == ["64", "0.00312", "True", "–", "sgd"]
