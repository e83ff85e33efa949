"""Which searched setting moves an objective: functional ANOVA of a random forest (Hutter, Hoos & Leyton-Brown, ICML
2014). Optuna's default evaluator, PED-ANOVA, answers another question: what gets a candidate into the top quantile."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablation.analysis.setting_scale import SettingScale, scales, setting_label

if TYPE_CHECKING:
    import optuna

    from ablation.distributions import Parameter

LEAST = 8
"""Fewest complete candidates of which anything is said."""
NUM_TREES = 64
COLUMNS = ["setting", "share", "n", "r2", "note"]


def importance(candidates: pd.DataFrame, parameters: Sequence[Parameter] = (), seed: int = 0) -> pd.DataFrame:
    """Share of the variance of ``value`` over the search space that each setting explains by itself.

    ``candidates``: rows of ``StudyResults.search_dataframe`` of one method, backbone and objective; several levels may
    be among them, each enters by its distance from the level's mean. Columns setting, share (0 to 1; what is left of
    their sum is joint effects), n (complete candidates), r2 (of the forest on candidates it was not grown on; at 0 or
    below the shares describe noise), note. Largest share first; shares are NaN below ``LEAST`` candidates and without
    spread. A setting that more than half of the candidates lack is left out, and so is a candidate that lacks one of
    the others; the note says both (not of the recipe, where null is a value). ``parameters``: the space; without it,
    scales come from the values.
    """
    complete = candidates[candidates["state"].eq("COMPLETE") & np.isfinite(candidates["value"].to_numpy(float))]
    known = scales(complete, parameters)
    drawn = complete[~complete["is_recipe"].astype(bool)]
    rare = [name for name in known if drawn[name].isna().mean() > 0.5]
    used = {name: scale for name, scale in known.items() if name not in rare}
    whole = complete.dropna(subset=list(used))
    notes = [f"without {', '.join(map(setting_label, rare))}"] if rare else []
    if lacking := int(drawn[list(used)].isna().any(axis=1).sum()):
        notes.append(f"{lacking} candidates lack a setting")
    levels = whole.groupby("imbalance", sort=False)["value"]
    values = (whole["value"] - levels.transform("mean")).to_numpy(float)
    if len(whole) < LEAST:
        notes.append(f"{len(whole)} complete candidates, {LEAST} are needed")
    elif not np.ptp(values) > 0:
        notes.append("all candidates have one value")
    told = len(whole) >= LEAST and bool(np.ptp(values) > 0)
    shares = _fanova(whole, used, values, seed) if told else {}
    r2 = _predicted(whole, used, values, seed) if told else math.nan
    rows = [{"setting": name, "share": shares.get(name, math.nan), "n": len(whole), "r2": r2, "note": "; ".join(notes)}
            for name in used]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frame.sort_values("share", ascending=False, kind="stable", ignore_index=True)


def _fanova(candidates: pd.DataFrame, used: dict[str, SettingScale], values: np.ndarray,
            seed: int) -> dict[str, float]:
    """Optuna's fANOVA with places on the setting's own scale: given a logarithmic distribution, it would still
    integrate over the plain one, so that only the highest decade counted (5.0, ``transform_log=False``)."""
    import optuna

    distributions = {name: _distribution(scale) for name, scale in used.items()}
    columns = {name: candidates[name].tolist() if scale.kind == "choice" else
               scale.position(candidates[name]).clip(0, 1).tolist() for name, scale in used.items()}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # it says that a study in memory was made
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    optuna.logging.set_verbosity(verbosity)
    study.add_trials([optuna.trial.create_trial(
        params={name: column[i] for name, column in columns.items()}, distributions=distributions, value=float(value))
        for i, value in enumerate(values)])
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # ``normalize``
        return optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)


def _distribution(scale: SettingScale) -> optuna.distributions.BaseDistribution:
    import optuna

    if scale.kind == "choice":
        return optuna.distributions.CategoricalDistribution(scale.choices)
    return optuna.distributions.FloatDistribution(0.0, 1.0)


def _predicted(candidates: pd.DataFrame, used: dict[str, SettingScale], values: np.ndarray, seed: int) -> float:
    """R² out of bag of the forest that ``_fanova`` grows."""
    from sklearn.ensemble import RandomForestRegressor

    columns = []
    for name, scale in used.items():
        place = scale.position(candidates[name])
        if scale.kind == "choice":
            columns += [place == other for other in np.unique(place)]
        else:
            columns.append(place)
    forest = RandomForestRegressor(NUM_TREES, random_state=seed, oob_score=True)
    return float(forest.fit(np.stack(columns, axis=1).astype(float), values).oob_score_)
