"""Which factor moves a score, what rarity costs, and which treatments differ: tables over trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis import anova, power, ranking, statistics
from ablation.analysis.complete import balanced_values
from ablation.analysis.tables import CELL, column, labels, measured, preference, prevalence
from ablation.errors import NothingMatched

ALPHA = 0.05
TOO_FEW = "too few seeds to tell anything"


def variance(trials: pd.DataFrame, metric: str, factors: Sequence[str] = CELL, ci: float = 0.95) -> pd.DataFrame:
    """Balanced analysis of variance: which factor moves the score.

    Columns term, n (trials), df, ss, omega2, lo, hi, p, swing, swing_lo, swing_hi, note. ``swing`` is the root mean
    square difference when only that factor changes, in units of the metric and without noise: read it beside omega2,
    which favours factors with many values. The residual is seed noise. Only complete cells enter; the note says what
    was left out. The factors are fixed: nothing is claimed about methods that were not run. All trials of one level
    and seed share their pictures: the level is judged against the spread of these subsets, the rest without it.
    """
    finished, (score,) = measured(trials, metric)
    columns = [column(trials, name) for name in factors]
    values, used, note = balanced_values(finished, trials.drop_duplicates(columns), columns, score)
    shared = used.index("imbalance") if "imbalance" in used and len(used) > 1 else None
    rows = []
    for effect in anova.omega_squared(values, ci, shared):
        term = ":".join(used[factor] for factor in effect.factors) or "residual"
        moved = anova.swing(values, effect.factors[0], ci, shared) if len(effect.factors) == 1 else None
        rows.append({"term": term, "n": values.size, "df": effect.df, "ss": effect.ss, "omega2": effect.omega2,
                     "lo": effect.lo, "hi": effect.hi, "p": effect.p, "swing": moved.value if moved else math.nan,
                     "swing_lo": moved.lo if moved else math.nan, "swing_hi": moved.hi if moved else math.nan,
                     "note": note})
    return pd.DataFrame(rows)


def drop(trials: pd.DataFrame, metric: str, by: Sequence[str] = ("method",), ci: float = 0.95) -> pd.DataFrame:
    """What rarity costs: the score at the level nearest to balance less that at every other level, paired by seed.

    Columns of ``by``, imbalance, n (pairs), value, lo, hi, p, note; positive = worse than at balance. Cells are what is
    left of method and backbone; a pair is one seed of one cell, and seeds are what varies: subsets are nested.
    """
    finished, (score,) = measured(trials, metric)
    groups = [column(trials, name) for name in by]
    shares = prevalence(trials)
    order = list(dict.fromkeys(trials.loc[shares.sort_values().index, "imbalance"]))
    reference = trials.loc[(shares - 0.5).abs().sort_values(kind="stable").index[0], "imbalance"]
    keys = [name for name in ("method", "backbone", "seed") if name in trials]
    wide = finished.assign(quality=preference(finished[score].to_numpy(float), metric)).pivot_table(
        index=keys, columns="imbalance", values="quality", aggfunc="mean", sort=False)
    rows = []
    for names, planned in trials.groupby(groups, sort=False) if groups else [((), trials)]:
        part = wide[wide.index.isin(planned.set_index(keys).index)]
        for level in (name for name in order if name != reference):
            both = {reference, level} <= set(part)
            pairs = (part[reference] - part[level]).dropna() if both else pd.Series(dtype=float)
            cells = np.array([f"{key[0]}|{key[1]}" for key in pairs.index])
            seeds = np.array([str(key[2]) for key in pairs.index])
            value, lo, hi, p, _ = _difference(_Pairs(pairs.to_numpy(float), cells, seeds, np.zeros(len(pairs))), ci)
            rows.append(dict(zip(groups, names, strict=True)) | {
                "imbalance": level, "n": len(pairs), "value": value, "lo": lo, "hi": hi, "p": p,
                "note": f"against {reference}"})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class _Pairs:
    """Differences (N,) of trials of equal seed, their cells, the subsets they share, and the levels of these."""

    values: np.ndarray
    cells: np.ndarray
    units: np.ndarray
    strata: np.ndarray

    def by_unit(self) -> tuple[np.ndarray, np.ndarray]:
        """((U,) mean of each unit without its cells' means, (U,) strata)."""
        _, cell, counts = np.unique(self.cells, return_inverse=True, return_counts=True)
        residuals = self.values - (np.bincount(cell, self.values) / counts)[cell]
        _, first, unit, sizes = np.unique(self.units, return_index=True, return_inverse=True, return_counts=True)
        return np.bincount(unit, residuals) / sizes, self.strata[first]


def _difference(pairs: _Pairs, ci: float) -> tuple[float, float, float, float, int]:
    if not len(pairs.values):
        return math.nan, math.nan, math.nan, math.nan, 0
    return statistics.paired_difference(pairs.values, pairs.cells, ci, pairs.units, pairs.strata)


def compare(trials: pd.DataFrame, metric: str, by: str = "method", blocks: Sequence[str] | None = None,
            ci: float = 0.95) -> pd.DataFrame:
    """Do the values of ``by`` differ? First row: Friedman over blocks; then each pair.

    Columns test, a, b, n (blocks), num_pairs (seeds paired inside blocks), statistic (Iman & Davenport's F),
    difference (mean of a - b), lo, hi (Student t over subsets, for these blocks), prob_better (P(a beats b) over seeds
    inside blocks), prob_lo, prob_hi, rank_a, rank_b (mean rank, 1 = best), critical_difference (Nemenyi's, of mean
    ranks), p_nemenyi, p (Wilcoxon signed-rank over blocks), p_holm, note. A block is one cell of ``blocks`` (default:
    what is left of method, backbone, imbalance); incomplete blocks are left out and counted in the note. Blocks that
    share data are not independent, so p is on the small side.
    """
    block_values, levels, names, note = _blocks(trials, metric, by, blocks)
    keys = list(block_values)
    means = np.array([[block_values[key][name].mean() for name in names] for key in keys])
    quality = preference(means, metric)
    ranks = ranking.mean_ranks(quality)
    statistic, p = ranking.friedman(quality)
    width = ranking.critical_difference(len(names), len(keys)) if len(names) > 1 else math.nan
    rows: list[dict[str, Any]] = [{"test": "friedman", "a": "", "b": "", "statistic": statistic, "p": p}]
    pairs = list(itertools.combinations(range(len(names)), 2))
    p_values = np.array([ranking.wilcoxon(means[:, i] - means[:, j]) for i, j in pairs])
    for (i, j), raw, adjusted in zip(pairs, p_values, statistics.holm(p_values), strict=True):
        a, b = names[i], names[j]
        runs = [[preference(block_values[key][name].to_numpy(float), metric) for key in keys] for name in (a, b)]
        odds = ranking.probability_of_improvement(runs[0], runs[1], ci)
        paired = _paired(block_values, levels, a, b)
        value, lo, hi, _, _ = _difference(paired, ci)
        rows.append({"test": "pair", "a": a, "b": b, "num_pairs": len(paired.values), "difference": value, "lo": lo,
                     "hi": hi,
                     "prob_better": odds[0], "prob_lo": odds[1], "prob_hi": odds[2], "rank_a": ranks[i],
                     "rank_b": ranks[j], "p_nemenyi": ranking.nemenyi(ranks[i] - ranks[j], len(names), len(keys)),
                     "p": raw, "p_holm": adjusted})
    order = ["test", "a", "b", "n", "num_pairs", "statistic", "difference", "lo", "hi", "prob_better", "prob_lo",
             "prob_hi", "rank_a", "rank_b", "critical_difference", "p_nemenyi", "p", "p_holm", "note"]
    return pd.DataFrame(rows).assign(n=len(keys), note=note, critical_difference=width).reindex(columns=order)


def pair_power(trials: pd.DataFrame, metric: str, by: str = "method",
               blocks: Sequence[str] | None = None) -> pd.DataFrame:
    """What the present seeds can show of each pair of ``by``, and how many more would settle it.

    Columns a, b, n (pairs of equal seed), blocks, difference, lo, hi (at 1 - 0.05 / pairs, so that all pairs hold
    together), settled, smallest (true difference shown with 80 % power), seeds, more_seeds (per cell, for the
    difference as seen; missing above 1,000 and where one seed tells nothing), note. The difference as seen is
    uncertain, so is the number of seeds.
    """
    block_values, levels, names, note = _blocks(trials, metric, by, blocks)
    pairs = list(itertools.combinations(names, 2))
    alpha = ALPHA / max(1, len(pairs))
    rows = [_power_row(_paired(block_values, levels, a, b), alpha, note) | {"a": a, "b": b} for a, b in pairs]
    return pd.DataFrame(rows, columns=["a", "b", "n", "blocks", "difference", "lo", "hi", "settled", "smallest",
                                       "seeds", "more_seeds", "note"])


def _power_row(paired: _Pairs, alpha: float, note: str) -> dict[str, Any]:
    value, lo, hi, _, df = _difference(paired, 1 - alpha)
    units, strata = paired.by_unit()
    num_strata = len(np.unique(strata))
    seeds = len(units) / max(1, num_strata)
    deviation = math.sqrt(float(units @ units) / df) if df > 0 else math.nan
    settled = bool(lo > 0 or hi < 0)
    row = {"n": len(paired.values), "blocks": len(np.unique(paired.cells)), "difference": value, "lo": lo, "hi": hi,
           "settled": settled, "seeds": seeds, "more_seeds": 0.0 if settled else math.nan, "note": note,
           "smallest": power.smallest_difference(deviation, num_strata, round(seeds), alpha)}
    if settled:
        return row
    if not math.isfinite(lo):
        return row | {"note": "; ".join(filter(None, (note, TOO_FEW)))}
    needed = power.seeds_needed(value, deviation, num_strata, alpha)
    if needed is None:
        return row | {"note": "; ".join(filter(None, (note, f"more than {power.MAX_SEEDS} seeds")))}
    return row | {"more_seeds": float(max(1, math.ceil(needed - seeds)))}


Blocks = dict[str, dict[Any, "pd.Series[float]"]]


def _blocks(trials: pd.DataFrame, metric: str, by: str,
            blocks: Sequence[str] | None) -> tuple[Blocks, dict[str, str], list[Any], str]:
    """Scores by seed of every option in each complete block, the level of each block, the options with any result, and
    what was left out."""
    finished, (score,) = measured(trials, metric)
    treatment = column(trials, by)
    keys = [column(trials, name) for name in (blocks if blocks is not None else [name for name in CELL if name != by])]
    there = set(finished[treatment])
    names = [name for name in dict.fromkeys(trials[treatment]) if name in there]
    absent = [str(name) for name in dict.fromkeys(trials[treatment]) if name not in there]
    level = labels(finished, ["imbalance"] if "imbalance" in keys else [])
    groups = finished.assign(block=labels(finished, keys), level=level).set_index("seed").groupby(
        ["block", treatment], sort=False)
    found: dict[str, dict[Any, pd.Series[float]]] = {}
    levels: dict[str, str] = {}
    for (block, option), rows in groups[[score, "level"]]:
        found.setdefault(str(block), {})[option] = rows[score]
        levels[str(block)] = str(rows["level"].iloc[0])
    complete = {block: options for block, options in found.items() if all(name in options for name in names)}
    if not complete:
        raise NothingMatched(f"no cell of {', '.join(keys) or 'the study'} has a finished trial of every {by}")
    note = _block_note(len(complete), len(np.unique(labels(trials, keys))), len(names))
    if absent:
        note = "; ".join(filter(None, (f"without any result: {', '.join(absent)}", note)))
    return complete, levels, names, note


def complete_blocks(trials: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, str]:
    """The finished trials of the blocks in which every method that has results has one, so that no method is judged on
    its easy cells alone; and what was left out."""
    block_values, _, names, note = _blocks(trials, metric, "method", None)
    finished, _ = measured(trials, metric)
    kept = np.isin(labels(finished, ["backbone", "imbalance"]), list(block_values))
    return finished[kept & finished["method"].isin(names).to_numpy()], note


def _paired(blocks: Blocks, levels: dict[str, str], a: Any, b: Any) -> _Pairs:
    """Differences of trials of equal seed, which share their pre-training subset."""
    values, cells, units, strata = [], [], [], []
    for name, options in blocks.items():
        first, second = (options[option].groupby(level=0).mean() for option in (a, b))
        pairs = (first - second).dropna()
        values.append(pairs.to_numpy(float))
        cells += [name] * len(pairs)
        units += [f"{levels[name]}|{seed}" for seed in pairs.index]
        strata += [levels[name]] * len(pairs)
    return _Pairs(np.concatenate(values), np.array(cells), np.array(units), np.array(strata))


def _block_note(num_complete: int, num_planned: int, num_options: int) -> str:
    notes = []
    if num_complete < num_planned:
        notes.append(f"{num_planned - num_complete} of {num_planned} blocks left out (unfinished trials)")
    if ranking.exact_p_floor(num_complete) > ALPHA:
        notes.append(f"{num_complete} blocks: a Wilcoxon p cannot be below {ranking.exact_p_floor(num_complete):.3g}")
    if num_options < 3:
        notes.append("Friedman needs three or more values")
    return "; ".join(notes)
