"""Which factor moves a score, what rarity costs, and which treatments differ: tables over trials."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablation.analysis import anova, power, ranking, statistics
from ablation.analysis.complete import balanced_values
from ablation.analysis.tables import CELL, column, labels, measured, preference, prevalence
from ablation.errors import NothingMatched

ALPHA = 0.05


def variance(trials: pd.DataFrame, metric: str, factors: Sequence[str] = CELL, ci: float = 0.95) -> pd.DataFrame:
    """Balanced analysis of variance: which factor moves the score.

    Columns term, n (trials), df, ss, omega2, lo, hi, p, swing, swing_lo, swing_hi, note. ``swing`` is the root mean
    square difference when only that factor changes, in units of the metric and without noise: read it beside omega2,
    which favours factors with many values. The residual is seed noise. Only complete cells enter; the note says what
    was left out. The factors are fixed: nothing is claimed about methods that were not run.
    """
    finished, (score,) = measured(trials, metric)
    columns = [column(trials, name) for name in factors]
    values, used, note = balanced_values(finished, trials.drop_duplicates(columns), columns, score)
    rows = []
    for effect in anova.omega_squared(values, ci):
        term = ":".join(used[factor] for factor in effect.factors) or "residual"
        moved = anova.swing(values, effect.factors[0], ci) if len(effect.factors) == 1 else None
        rows.append({"term": term, "n": values.size, "df": effect.df, "ss": effect.ss, "omega2": effect.omega2,
                     "lo": effect.lo, "hi": effect.hi, "p": effect.p, "swing": moved.value if moved else math.nan,
                     "swing_lo": moved.lo if moved else math.nan, "swing_hi": moved.hi if moved else math.nan,
                     "note": note})
    return pd.DataFrame(rows)


def drop(trials: pd.DataFrame, metric: str, by: Sequence[str] = ("method",), ci: float = 0.95) -> pd.DataFrame:
    """What rarity costs: the score at the level nearest to balance less that at every other level, paired by seed.

    Columns of ``by``, imbalance, n (pairs), value, lo, hi, p, note; positive = worse than at balance. Cells are what is
    left of method and backbone; a pair is one seed of one cell.
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
            value, lo, hi, p, _ = _difference(pairs.to_numpy(float), cells, ci)
            rows.append(dict(zip(groups, names, strict=True)) | {
                "imbalance": level, "n": len(pairs), "value": value, "lo": lo, "hi": hi, "p": p,
                "note": f"against {reference}"})
    return pd.DataFrame(rows)


def _difference(differences: np.ndarray, cells: np.ndarray, ci: float) -> tuple[float, float, float, float, int]:
    if not len(differences):
        return math.nan, math.nan, math.nan, math.nan, 0
    return statistics.paired_difference(differences, cells, ci)


def compare(trials: pd.DataFrame, metric: str, by: str = "method", blocks: Sequence[str] | None = None,
            ci: float = 0.95) -> pd.DataFrame:
    """Do the values of ``by`` differ? First row: Friedman over blocks; then each pair.

    Columns test, a, b, n (blocks), num_pairs (seeds paired inside blocks), statistic (Iman & Davenport's F),
    difference (mean of a - b), lo, hi (Student t over seeds, for these blocks), prob_better (P(a beats b) over seeds
    inside blocks), prob_lo, prob_hi, rank_a, rank_b (mean rank, 1 = best), critical_difference (Nemenyi's, of mean
    ranks), p_nemenyi, p (Wilcoxon signed-rank over blocks), p_holm, note. A block is one cell of ``blocks`` (default:
    what is left of method, backbone, imbalance); incomplete blocks are left out and counted in the note. Blocks that
    share data are not independent, so p is on the small side.
    """
    block_values, names, note, turned = _blocks(trials, metric, by, blocks)
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
        odds = ranking.probability_of_improvement([turned(block_values[key][a].to_numpy(float)) for key in keys],
                                                  [turned(block_values[key][b].to_numpy(float)) for key in keys], ci)
        differences, cells = _paired(block_values, a, b)
        value, lo, hi, _, _ = _difference(differences, cells, ci)
        rows.append({"test": "pair", "a": a, "b": b, "num_pairs": len(differences), "difference": value, "lo": lo,
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

    Columns a, b, n (seeds paired inside blocks), blocks, difference, lo, hi (at 1 - 0.05 / pairs, so that all pairs
    hold together), settled, smallest (true difference shown with 80 % power), seeds, more_seeds (per cell, for the
    difference as seen; missing above 1,000), note. The difference as seen is uncertain, so is the number of seeds.
    """
    block_values, names, note, _ = _blocks(trials, metric, by, blocks)
    pairs = list(itertools.combinations(names, 2))
    alpha = ALPHA / max(1, len(pairs))
    rows = []
    for a, b in pairs:
        differences, cells = _paired(block_values, a, b)
        value, lo, hi, _, df = _difference(differences, cells, 1 - alpha)
        num_blocks = len(np.unique(cells))
        seeds = len(differences) / max(1, num_blocks)
        deviation = math.sqrt(sum(((differences[cells == c] - differences[cells == c].mean())**2).sum()
                                  for c in np.unique(cells)) / df) if df > 0 else math.nan
        settled = bool(lo > 0 or hi < 0)
        needed = None if settled or not deviation > 0 else power.seeds_needed(value, deviation, num_blocks, alpha)
        rows.append({"a": a, "b": b, "n": len(differences), "blocks": num_blocks, "difference": value, "lo": lo,
                     "hi": hi, "settled": settled,
                     "smallest": power.smallest_difference(deviation, num_blocks, round(seeds), alpha),
                     "seeds": seeds, "more_seeds": math.nan if needed is None else max(1, math.ceil(needed - seeds)),
                     "note": note if settled or needed else f"{note}; more than {power.MAX_SEEDS} seeds".lstrip("; ")})
    table = pd.DataFrame(rows, columns=["a", "b", "n", "blocks", "difference", "lo", "hi", "settled", "smallest",
                                        "seeds", "more_seeds", "note"])
    settled_rows = table["settled"].astype(bool)
    return table.assign(more_seeds=table["more_seeds"].where(~settled_rows, 0.0))


Blocks = dict[str, dict[Any, "pd.Series[float]"]]


def _blocks(trials: pd.DataFrame, metric: str, by: str,
            blocks: Sequence[str] | None) -> tuple[Blocks, list[Any], str, Any]:
    """Scores by seed of every option in each complete block, the options, what was left out, and ``preference``."""
    finished, (score,) = measured(trials, metric)
    treatment = column(trials, by)
    keys = [column(trials, name) for name in (blocks if blocks is not None else [name for name in CELL if name != by])]
    names = list(dict.fromkeys(trials[treatment]))
    groups = finished.assign(block=labels(finished, keys)).set_index("seed").groupby(["block", treatment], sort=False)
    found: dict[str, dict[Any, pd.Series[float]]] = {}
    for (block, option), rows in groups[score]:
        found.setdefault(str(block), {})[option] = rows
    complete = {block: options for block, options in found.items() if all(name in options for name in names)}
    if not complete:
        raise NothingMatched(f"no cell of {', '.join(keys) or 'the study'} has a finished trial of every {by}")
    note = _block_note(len(complete), len(np.unique(labels(trials, keys))), len(names))
    return complete, names, note, lambda values: preference(values, metric)


def _paired(blocks: Blocks, a: Any, b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Differences of trials of equal seed, which share their pre-training subset, and their blocks."""
    parts, cells = [], []
    for name, options in blocks.items():
        first, second = (options[option].groupby(level=0).mean() for option in (a, b))
        pairs = (first - second).dropna()
        parts.append(pairs.to_numpy(float))
        cells += [name] * len(pairs)
    return np.concatenate(parts), np.array(cells)


def _block_note(num_complete: int, num_planned: int, num_options: int) -> str:
    notes = []
    if num_complete < num_planned:
        notes.append(f"{num_planned - num_complete} of {num_planned} blocks left out (unfinished trials)")
    if ranking.exact_p_floor(num_complete) > ALPHA:
        notes.append(f"{num_complete} blocks: a Wilcoxon p cannot be below {ranking.exact_p_floor(num_complete):.3g}")
    if num_options < 3:
        notes.append("Friedman needs three or more values")
    return "; ".join(notes)
