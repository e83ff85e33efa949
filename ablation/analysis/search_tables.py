"""What searches spent and found, and whether tuning changes what is said of the methods. Frames in, frames out.

``candidates`` is ``StudyResults.search_dataframe``, ``arms`` is ``StudyResults.arms_dataframe``: trials with recipes
and with found settings on seeds that no search has seen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ablation.analysis import statistics
from ablation.analysis.correlation import within_correlation
from ablation.analysis.factors import ALPHA
from ablation.analysis.setting_scale import PREFIX, missing, settings_of
from ablation.analysis.tables import CELL, SUPERVISED, labels, measured, preference, self_supervised, subset_units
from ablation.distributions import own_value
from ablation.errors import NothingMatched
from ablation.search_settings import RECIPE
from trainers.config import ConfigError

SEARCH = (*CELL, "metric")
PAIR = (*CELL, "seed")


def objectives(candidates: pd.DataFrame) -> list[str]:
    """In the study's order; the rest of the report is about the winners of the first."""
    return [str(name) for name in dict.fromkeys(candidates["metric"])]


def is_labelled(objective: str) -> bool:
    """The probe needs labels; everything else that may drive a search does not."""
    return objective.startswith("probe/")


def with_recipe(candidates: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The recipe is asked without settings: here it has those of its trials, or else of the method. What the method
    itself derives from the data stays missing. ``trials``: ``StudyResults.trials_dataframe``."""
    filled = candidates.copy()
    rows = trials.set_index("key")
    for index, row in candidates[candidates["is_recipe"].astype(bool)].iterrows():
        key = str(row["keys"]).split(",")[0]
        alike = candidates[candidates["method"].eq(row["method"]) & candidates["backbone"].eq(row["backbone"])]
        for name in settings_of(alike):
            path = name.removeprefix(PREFIX)
            value = rows[f"params.{path}"].get(key) if f"params.{path}" in rows else None
            if missing(row[name]):
                filled.loc[index, name] = _own(row["method"], row["backbone"], path) if missing(value) else value
    return filled


def _own(method: str, backbone: str, path: str) -> Any:
    try:
        return own_value(method, backbone, path)
    except (ConfigError, AttributeError):  # a method or field that is no longer there
        return None


def accounting(candidates: pd.DataFrame) -> pd.DataFrame:
    """One row per search: candidates, complete, pruned, failed, running, epochs, images, seconds, recipe and value
    (objective of the recipe and of the winner, NaN without), winner (its number, missing without)."""
    rows = []
    for names, part in candidates.groupby(list(SEARCH), sort=False):
        states = part["state"].value_counts()
        first = part.loc[part["is_recipe"].astype(bool) & part["state"].eq("COMPLETE"), "value"]
        best = part[part["best"].astype(bool)]
        rows.append(dict(zip(SEARCH, names, strict=True)) | {
            "candidates": len(part),
            **{word: int(states.get(state, 0)) for word, state in (
                ("complete", "COMPLETE"), ("pruned", "PRUNED"), ("failed", "FAIL"), ("running", "RUNNING"))},
            "epochs": int(part["epochs"].sum()), "images": float(part["images"].sum()),
            "seconds": float(part["seconds"].sum()),
            "recipe": float(first.iloc[0]) if len(first) else math.nan,
            "value": float(best["value"].iloc[0]) if len(best) else math.nan,
            "winner": int(best["number"].iloc[0]) if len(best) else None})
    frame = pd.DataFrame(rows, columns=[*SEARCH, "candidates", "complete", "pruned", "failed", "running", "epochs",
                                        "images", "seconds", "recipe", "value", "winner"])
    return frame.astype({"winner": "Int64"})


def progress(candidates: pd.DataFrame) -> pd.DataFrame:
    """The candidates of every search in the order of asking, with ``spent`` (images up to and with this one) and
    ``so_far`` (the best complete value yet, NaN before the first)."""
    parts = []
    for names, part in candidates.groupby(list(SEARCH), sort=False):
        part = part.sort_values("number", kind="stable")
        values = part["value"].where(part["state"].eq("COMPLETE")).to_numpy(float)
        quality = np.where(np.isnan(values), -math.inf, preference(values, str(names[-1])))
        leader = np.maximum.accumulate(np.where(quality == np.maximum.accumulate(quality), np.arange(len(part)), 0))
        so_far = np.where(np.isfinite(np.maximum.accumulate(quality)), values[leader], math.nan)
        parts.append(part.assign(spent=part["images"].fillna(0).cumsum(), so_far=so_far))
    return pd.concat(parts, ignore_index=True) if parts else candidates.assign(spent=0.0, so_far=math.nan)


def places(candidates: pd.DataFrame) -> pd.DataFrame:
    """The complete candidates with ``place`` in their search (1 = best, 0 = worst) and ``top`` (the best quarter)."""
    complete = candidates[candidates["state"].eq("COMPLETE") & candidates["value"].notna()]
    parts = []
    for names, part in complete.groupby(list(SEARCH), sort=False):
        rank = stats.rankdata(preference(part["value"].to_numpy(float), str(names[-1])))
        place = (rank - 1) / max(1, len(part) - 1)
        parts.append(part.assign(place=place, top=rank > len(part) - max(1, len(part) // 4)))
    return pd.concat(parts, ignore_index=True) if parts else complete.assign(place=math.nan, top=False)


def paired_arms(arms: pd.DataFrame, metric: str, names: Sequence[str]) -> pd.DataFrame:
    """One row per (method, backbone, imbalance, seed) that every arm of ``names`` has finished, a column per arm."""
    try:
        finished, (score,) = measured(arms[arms["arm"].isin(names)], metric)
    except NothingMatched:
        return pd.DataFrame(columns=[*PAIR, *names])
    wide = finished.pivot_table(index=list(PAIR), columns="arm", values=score, aggfunc="mean", sort=False)
    return wide.reindex(columns=list(names)).dropna().reset_index().rename_axis(columns=None)


def gains(arms: pd.DataFrame, metric: str, objective: str) -> pd.DataFrame:
    """What tuning by an objective does to each method, on fresh seeds, paired by cell and seed.

    Columns method, n (pairs), planned, alike (pairs of one trial with itself: the recipe has won the search), blocks,
    recipe, recipe_lo, recipe_hi, tuned, tuned_lo, tuned_hi, gain (positive = tuned is better), lo, hi, p, rank_recipe,
    rank_tuned (1 = best). Self-supervised methods are ranked over the blocks (backbone and level) in which each of them
    has a pair; supervised references have no rank.
    """
    pairs = complete_pairs(paired_arms(arms, metric, (RECIPE, objective)))
    tuned = arms[arms["arm"].eq(objective)]
    planned = tuned.groupby("method").size()
    recipes = set(arms.loc[arms["arm"].eq(RECIPE), "key"])
    alike = tuned[tuned["key"].isin(recipes)][list(PAIR)]
    rows = []
    for method, rows_of in pairs.groupby("method", sort=False):
        before, after = (rows_of[name].to_numpy(float) for name in (RECIPE, objective))
        row: dict[str, Any] = {"method": method, "n": len(rows_of), "planned": int(planned[method]),
                               "alike": len(rows_of.merge(alike, on=list(PAIR))),
                               "blocks": rows_of[["backbone", "imbalance"]].drop_duplicates().shape[0]}
        cells, (units, strata) = labels(rows_of, CELL), subset_units(rows_of)
        for name, values in (("recipe", before), ("tuned", after)):
            lo, hi = statistics.interval(values, cells, "mean", 0.95, 0, 0, units, strata)
            row |= {name: float(values.mean()), f"{name}_lo": lo, f"{name}_hi": hi}
        found = _difference(rows_of, preference(after, metric) - preference(before, metric), CELL)
        rows.append(row | dict(zip(("gain", "lo", "hi", "p"), found, strict=True)))
    frame = pd.DataFrame(rows, columns=["method", "n", "planned", "alike", "blocks", "recipe", "recipe_lo", "recipe_hi",
                                        "tuned", "tuned_lo", "tuned_hi", "gain", "lo", "hi", "p"])
    own = frame["method"].ne(SUPERVISED)
    for name in ("recipe", "tuned"):
        quality = pd.Series(preference(frame[name].to_numpy(float), metric), frame.index)
        frame[f"rank_{name}"] = quality[own].rank(ascending=False)
    return frame.sort_values("method", key=lambda names: names.eq(SUPERVISED), kind="stable", ignore_index=True)


def complete_pairs(pairs: pd.DataFrame) -> pd.DataFrame:
    """Without the blocks that some self-supervised method lacks, so that none is judged on its easy cells alone; pairs
    of supervised references stay where they are in these blocks."""
    own = pairs[pairs["method"].ne(SUPERVISED)]
    if own.empty:
        return pairs
    blocks = labels(own, ["backbone", "imbalance"])
    counts = pd.Series(own["method"].to_numpy()).groupby(blocks).nunique()
    whole = counts.index[counts == own["method"].nunique()]
    return pairs[np.isin(labels(pairs, ["backbone", "imbalance"]), whole)]


def exchanges(arms: pd.DataFrame, metric: str, objective: str) -> pd.DataFrame:
    """Which pairs of self-supervised methods change places from the recipes to the found settings.

    Columns a, b, n (seeds of cells that both have in both arms), recipe, recipe_lo, recipe_hi, tuned, tuned_lo,
    tuned_hi (a less b in each arm, positive = a is better; intervals at 1 - 0.05 / pairs, so that all hold together),
    swapped (the means change order), shown (both intervals exclude 0, on different sides), kept (on the same side).
    """
    pairs = complete_pairs(paired_arms(arms, metric, (RECIPE, objective)))
    pairs = pairs[pairs["method"].ne(SUPERVISED)]
    quality = pairs.assign(**{name: preference(pairs[name].to_numpy(float), metric) for name in (RECIPE, objective)})
    names = list(dict.fromkeys(pairs["method"]))
    couples = list(itertools.combinations(names, 2))
    keys = ["backbone", "imbalance", "seed"]
    rows = []
    for a, b in couples:
        both = quality[quality["method"].eq(a)].merge(quality[quality["method"].eq(b)], on=keys, suffixes=("_a", "_b"))
        row: dict[str, Any] = {"a": a, "b": b, "n": len(both)}
        for word, arm in (("recipe", RECIPE), ("tuned", objective)):
            values = (both[f"{arm}_a"] - both[f"{arm}_b"]).to_numpy(float)
            found = _difference(both, values, ["backbone", "imbalance"], 1 - ALPHA / len(couples))
            row |= dict(zip((word, f"{word}_lo", f"{word}_hi"), found[:3], strict=True))
        sides = [np.sign(row[f"{word}_lo"]) if row[f"{word}_lo"] * row[f"{word}_hi"] > 0 else 0.0
                 for word in ("recipe", "tuned")]
        rows.append(row | {"swapped": row["recipe"] * row["tuned"] < 0, "shown": sides[0] * sides[1] < 0,
                           "kept": sides[0] * sides[1] > 0})
    return pd.DataFrame(rows, columns=["a", "b", "n", "recipe", "recipe_lo", "recipe_hi", "tuned", "tuned_lo",
                                       "tuned_hi", "swapped", "shown", "kept"])


def rank_agreement(found: pd.DataFrame) -> float:
    """Kendall's tau of the rankings in ``gains``; NaN for fewer than two ranked methods."""
    ranked = found.dropna(subset=["rank_recipe", "rank_tuned"])
    if len(ranked) < 2:
        return math.nan
    return float(stats.kendalltau(ranked["rank_recipe"], ranked["rank_tuned"]).statistic)


def tuning(arms: pd.DataFrame, metric: str, names: Sequence[str]) -> pd.DataFrame:
    """What each objective gains on the recipes, and what a label-free one costs against labelled tuning.

    ``names``: objectives, the first labelled one is the reference. Columns objective, n (pairs), gain, gain_lo, gain_hi
    (positive = better than the recipe), num_regret (pairs that the labelled arm has too), regret, lo, hi (labelled
    tuning less this one, positive = worse than with labels), kept, kept_lo, kept_hi (share of the labelled gain that is
    kept; NaN where that gain is not shown). Self-supervised methods; all means of one row are over the same pairs.
    """
    reference = next(filter(is_labelled, names), None)
    own = self_supervised(arms)
    rows = []
    for name in names:
        pairs = paired_arms(own, metric, (RECIPE, name))
        gain = preference(pairs[name].to_numpy(float), metric) - preference(pairs[RECIPE].to_numpy(float), metric)
        row: dict[str, Any] = {"objective": name, "n": len(pairs)}
        row |= dict(zip(("gain", "gain_lo", "gain_hi"), _difference(pairs, gain, CELL)[:3], strict=True))
        if reference is not None and not is_labelled(name):
            row |= _regret(own, metric, name, reference)
        rows.append(row)
    return pd.DataFrame(rows, columns=["objective", "n", "gain", "gain_lo", "gain_hi", "num_regret", "regret", "lo",
                                       "hi", "kept", "kept_lo", "kept_hi"])


def _regret(arms: pd.DataFrame, metric: str, name: str, reference: str) -> dict[str, Any]:
    pairs = paired_arms(arms, metric, (RECIPE, name, reference))
    recipe, tuned, best = (preference(pairs[arm].to_numpy(float), metric) for arm in (RECIPE, name, reference))
    row: dict[str, Any] = {"num_regret": len(pairs)}
    row |= dict(zip(("regret", "lo", "hi"), _difference(pairs, best - tuned, CELL)[:3], strict=True))
    if len(pairs):
        kept = statistics.paired_ratio(tuned - recipe, best - recipe, labels(pairs, CELL), 0.95, *subset_units(pairs))
        row |= dict(zip(("kept", "kept_lo", "kept_hi"), kept, strict=True))
    return row


def shared_candidates(candidates: pd.DataFrame) -> pd.DataFrame:
    """Does a label-free objective rank candidates as the labelled one does? Of those that both searches have asked.

    Columns objective, n (candidates, by equal ``keys``, in cells with two or more), rho (Spearman inside cells), lo,
    hi, p. An objective that is best near 1 or low enters turned, so that a positive rho says: agrees.
    """
    names = objectives(candidates)
    complete = candidates[candidates["state"].eq("COMPLETE") & candidates["keys"].ne("")]
    rows = []
    reference = next(filter(is_labelled, names), None)
    if reference is not None:
        labelled = _turned(complete, reference)
        for name in itertools.filterfalse(is_labelled, names):
            both = labelled.merge(_turned(complete, name), on=[*CELL, "keys"], suffixes=("_x", "_y"))
            found = within_correlation(both["quality_x"].to_numpy(float), both["quality_y"].to_numpy(float),
                                       labels(both, CELL))
            rows.append({"objective": name, "n": found.n, "rho": found.rho, "lo": found.lo, "hi": found.hi,
                         "p": found.p})
    return pd.DataFrame(rows, columns=["objective", "n", "rho", "lo", "hi", "p"])


def _turned(complete: pd.DataFrame, metric: str) -> pd.DataFrame:
    part = complete[complete["metric"].eq(metric)]
    part = part.assign(quality=preference(part["value"].to_numpy(float), metric))
    return part[[*CELL, "keys", "quality"]].dropna().drop_duplicates([*CELL, "keys"])


def _difference(pairs: pd.DataFrame, values: np.ndarray, cell: Sequence[str],
                ci: float = 0.95) -> tuple[float, float, float, float]:
    """(mean, lo, hi, p) of paired differences; trials of one level and seed share their pictures."""
    if not len(values):
        return math.nan, math.nan, math.nan, math.nan
    return statistics.paired_difference(values, labels(pairs, cell), ci, *subset_units(pairs))[:4]
