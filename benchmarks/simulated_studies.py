"""Studies of known truth: 5 methods x 2 backbones x 5 levels x 5 seeds = 250 trials, drawn, not trained.

Trials of one level and seed share their pictures, whatever their method and backbone: every scenario has an effect of
these subsets (deviation ``SUBSET`` beside seed noise of 1), in the score and, by itself, in the label-free metric.
Each scenario draws one study and gives what the analysis says of it as ``Outcome`` s: a p-value where nothing is to be
found, or an interval whose truth is known (``truth`` None: the long-run mean of the estimate stands for it).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from ablation.analysis import anova, correlation, power, ranking
from ablation.analysis.statistics import (
    holm,
    interval,
    location,
    mover,
    paired_difference,
    paired_ratio,
    skewed_mean,
)

SHAPE = (5, 2, 5, 5)
NUM = math.prod(SHAPE)
METHOD, BACKBONE, LEVEL, SEED = (index.ravel() for index in np.indices(SHAPE))
CELLS = (METHOD * 2 + BACKBONE) * 5 + LEVEL
PAIRS = METHOD * 2 + BACKBONE
BLOCKS = (BACKBONE * 5 + LEVEL).reshape(SHAPE)[0].ravel()
"""Block of each (backbone, level, seed)."""
FIXED = np.random.default_rng(20241005)
METHOD_EFFECT = FIXED.normal(0, 1.5, (5, 1, 1))
BACKBONE_EFFECT = np.array([0.2, -0.2]).reshape(1, 2, 1)
LEVEL_EFFECT = np.linspace(-0.7, 0.7, 5).reshape(1, 1, 5)
INTERACTION = FIXED.normal(0, 0.3, (5, 1, 5))
UNITS = LEVEL * 5 + SEED
"""Pre-training subset of each trial."""
LEVELS = (np.indices(SHAPE)[2])[0].ravel()
SUBSETS = UNITS.reshape(SHAPE)[0].ravel()
"""Level and subset of each (backbone, level, seed)."""
SUBSET = 0.7
PERMUTATIONS = 500


@dataclass(frozen=True)
class Outcome:
    """One number of one simulated study."""

    name: str
    p: float = math.nan
    value: float = math.nan
    lo: float = math.nan
    hi: float = math.nan
    truth: float | None = None


def related(rng: np.random.Generator, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Two metrics of 250 trials: offsets of methods, an effect of the level and one of the subset in each, unrelated,
    and seed noise of correlation ``strength``."""
    effect = np.broadcast_to(LEVEL_EFFECT[..., None], SHAPE).ravel()
    x = rng.normal(0, 1, 5)[METHOD] + rng.normal(0, 0.7, 5)[LEVEL] + subset_effect(rng).ravel()
    y = rng.normal(0, 1, 5)[METHOD] + effect + subset_effect(rng).ravel()
    noise = rng.normal(size=(2, NUM))
    return x + noise[0], y + strength * noise[0] + math.sqrt(1 - strength**2) * noise[1]


def subset_effect(rng: np.random.Generator) -> np.ndarray:
    """What the pictures of one (level, seed) do to all trials on them, as (5, 2, 5, 5)."""
    effect: np.ndarray = np.broadcast_to(rng.normal(0, SUBSET, (1, 1, 5, 5)), SHAPE)
    return effect


def _correlations(name: str, x: np.ndarray, y: np.ndarray, truth: float | None, seed: int) -> list[Outcome]:
    """``seed``: one set of permutations for all studies would make their p-values rise and fall together."""
    within = functools.partial(correlation.within_correlation, x, y, units=UNITS, strata=LEVEL, seed=seed,
                               num_perm=PERMUTATIONS)
    dummies = np.stack([(level == LEVEL).astype(float) for level in range(1, 5)], axis=1)
    found = {
        "within cells (50 groups)": within(CELLS),
        "within method x backbone, given the level": within(PAIRS, control=dummies),
        "within method, given the level": within(METHOD, control=dummies),
        "between methods (n = 5)": correlation.between_correlation(x, y, METHOD),
        "pooled, 5 methods as clusters": correlation.pooled_correlation(x, y, METHOD, seed=seed),
    }
    return [Outcome(f"{name}: {label}", row.p, row.rho, row.lo, row.hi,
                    None if label.startswith("pooled") else truth) for label, row in found.items()]


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(2**31))


def no_relation(rng: np.random.Generator) -> list[Outcome]:
    """Methods, levels and subsets move both metrics, without a relation. The last is what a plain analysis does."""
    x, y = related(rng, 0.0)
    plain = stats.spearmanr(x, y)
    take = rng.integers(0, NUM, (200, NUM))
    ranks = [stats.rankdata(values) for values in (x, y)]
    a, b = (values[take] - values[take].mean(1, keepdims=True) for values in ranks)
    samples = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    lo, hi = np.quantile(samples, [0.025, 0.975])
    return [*_correlations("correlation, none", x, y, 0.0, _seed(rng)),
            Outcome("NOT USED: plain Spearman over all trials, bootstrap of trials", float(plain.pvalue),
                    float(plain.statistic), float(lo), float(hi), 0.0)]


def a_relation(rng: np.random.Generator) -> list[Outcome]:
    """Seed noise of correlation 0.5."""
    found = _correlations("correlation, planted", *related(rng, 0.5), None, _seed(rng))
    return [Outcome(o.name, value=o.value, lo=o.lo, hi=o.hi) for o in found[:3]]


def means() -> np.ndarray:
    """True scores of all cells (5, 2, 5); noise between seeds has deviation 1."""
    return np.broadcast_to(METHOD_EFFECT + BACKBONE_EFFECT + LEVEL_EFFECT + INTERACTION, SHAPE[:3])


def _shares() -> dict[tuple[int, ...], float]:
    table = anova.sums_of_squares(np.repeat(means()[..., None], 2, axis=-1))
    shares = {name: ss / (2 * means().size) for name, (_, ss) in table.items() if name}
    total = sum(shares.values()) + 1.0 + SUBSET**2
    return {name: share / total for name, share in shares.items()}


def _true_swing(axis: int) -> float:
    pairs = itertools.combinations(np.moveaxis(means(), axis, 0), 2)
    return math.sqrt(float(np.mean([(first - second)**2 for first, second in pairs])))


SHARES, SWINGS = _shares(), [_true_swing(axis) for axis in range(3)]
_MANY = means().reshape(50, 1) + np.random.default_rng(1).normal(0, math.hypot(1, SUBSET), (50, 20_000))
LOCATIONS = {name: float(location(_MANY[:10].ravel(), name)) for name in ("mean", "iqm", "median")}


def effects(rng: np.random.Generator) -> list[Outcome]:
    """Variance shares, swings, means and differences of one study with real effects."""
    values = means()[..., None] + subset_effect(rng) + rng.normal(size=SHAPE)
    names = ("method", "backbone", "imbalance")
    found = anova.omega_squared(values, shared=2)
    by_factor = {effect.factors: effect for effect in found if effect.factors}
    outcomes = [Outcome(f"omega squared of {':'.join(names[f] for f in factors)} (true {SHARES[factors]:.3f})",
                        effect.p if factors in ((0, 1), (1, 2), (0, 1, 2)) else math.nan, effect.omega2, effect.lo,
                        effect.hi, SHARES[factors]) for factors, effect in by_factor.items()]
    swings = [anova.swing(values, axis, shared=2) for axis in range(3)]
    outcomes += [Outcome(f"swing by {names[axis]}", value=row.value, lo=row.lo, hi=row.hi, truth=SWINGS[axis])
                 for axis, row in enumerate(swings)]
    outcomes.append(_apart("omega squared of method less backbone", by_factor[0,].omega2,
                           (by_factor[0,].lo, by_factor[0,].hi), by_factor[1,].omega2,
                           (by_factor[1,].lo, by_factor[1,].hi), SHARES[0,] - SHARES[1,]))
    outcomes.append(_apart("swing by method less by backbone", swings[0].value, (swings[0].lo, swings[0].hi),
                           swings[1].value, (swings[1].lo, swings[1].hi), SWINGS[0] - SWINGS[1]))
    return outcomes + _locations(values)


def _apart(name: str, first: float, first_interval: tuple[float, float], second: float,
           second_interval: tuple[float, float], truth: float) -> Outcome:
    lo, hi = mover(first, first_interval, second, second_interval)
    return Outcome(name, value=first - second, lo=lo, hi=hi, truth=truth)


def _locations(values: np.ndarray) -> list[Outcome]:
    outcomes = []
    one, ten = values[0, 0, 0], values[0].ravel()
    lo, hi = interval(one, np.zeros(5), "mean", 0.95, 0, 0)
    outcomes.append(Outcome("mean of one cell (5 seeds)", value=float(one.mean()), lo=lo, hi=hi,
                            truth=float(means()[0, 0, 0])))
    for name, truth in LOCATIONS.items():
        lo, hi = interval(ten, BLOCKS, name, 0.95, 300, 0, SUBSETS, LEVELS)  # type: ignore[arg-type]
        outcomes.append(Outcome(f"{name} of one method (10 cells)", value=float(location(ten, name)),  # type: ignore[arg-type]
                                lo=lo, hi=hi, truth=truth))
    value, lo, hi, _, _ = paired_difference((values[0] - values[1]).ravel(), BLOCKS, 0.95, SUBSETS, LEVELS)
    outcomes.append(Outcome("difference of two methods, paired", value=value, lo=lo, hi=hi,
                            truth=float((means()[0] - means()[1]).mean())))
    dropped = (values[0, :, 4] - values[0, :, 0]).ravel()
    value, lo, hi, _, _ = paired_difference(dropped, np.repeat([0, 1], 5), 0.95, np.tile(np.arange(5), 2),
                                              np.zeros(10))
    outcomes.append(Outcome("drop of one method (10 pairs)", value=value, lo=lo, hi=hi,
                            truth=float((means()[0, :, 4] - means()[0, :, 0]).mean())))
    blocks = [list(part.reshape(10, 5)) for part in (values[2], values[3])]
    value, lo, hi = ranking.probability_of_improvement(*blocks)
    truth = float(stats.norm.cdf((means()[2] - means()[3]) / math.sqrt(2)).mean())
    outcomes.append(Outcome("probability of improvement", value=value, lo=lo, hi=hi, truth=truth))
    return outcomes


def equal_methods(rng: np.random.Generator) -> list[Outcome]:
    """Five equal methods in blocks that differ: rank tests and the smallest p of all pairs after correction."""
    values = (BACKBONE_EFFECT + 3 * LEVEL_EFFECT)[..., None] + subset_effect(rng) + rng.normal(size=SHAPE)
    blocks = values.mean(-1).reshape(5, 10).T
    pairs = list(itertools.combinations(range(5), 2))
    ranks = ranking.mean_ranks(blocks)
    wilcoxon = np.array([ranking.wilcoxon(blocks[:, i] - blocks[:, j]) for i, j in pairs])
    nemenyi = min(ranking.nemenyi(ranks[i] - ranks[j], 5, 10) for i, j in pairs)
    _, _, _, p, _ = paired_difference((values[0] - values[1]).ravel(), BLOCKS, 0.95, SUBSETS, LEVELS)
    levels = (BACKBONE_EFFECT[..., None] + subset_effect(rng) + rng.normal(size=SHAPE))
    level_p = next(effect.p for effect in anova.omega_squared(levels, shared=2) if effect.factors == (2,))
    return [Outcome("F test of the level, which has no effect", level_p),
            Outcome("Friedman (Iman & Davenport), 10 blocks", ranking.friedman(blocks)[1]),
            Outcome("Wilcoxon, one pair, 10 blocks", float(wilcoxon[0])),
            Outcome("Wilcoxon with Holm, any of 10 pairs", float(holm(wilcoxon).min())),
            Outcome("Nemenyi, any of 10 pairs", nemenyi),
            Outcome("paired t of two methods", p)]


def selection(rng: np.random.Generator) -> list[Outcome]:
    """25 contexts of 10 trials: a selector that knows nothing, and one that correlates 0.7 with the score."""
    scores = rng.normal(size=(25, 10))
    blind = scores.max(1) - scores.mean(1)
    outcomes = []
    for name, knows in (("blind selector", 0.0), ("useful selector", 1.0)):
        wish = knows * scores + rng.normal(size=scores.shape)
        cost = scores.max(1) - np.take_along_axis(scores, wish.argmax(1)[:, None], 1)[:, 0]
        value, lo, hi = skewed_mean(cost, 0.95)
        outcomes.append(Outcome(f"regret of a {name}", value=value, lo=lo, hi=hi))
        gain, lo, hi, p, _ = paired_difference(blind - cost, np.zeros(25), 0.95)
        outcomes.append(Outcome(f"gain of a {name} on a blind choice", p if not knows else math.nan, gain, lo, hi))
    return outcomes


def tuning(rng: np.random.Generator) -> list[Outcome]:
    """All methods with recipes, tuned by labels (better by 1) and without (by 0.6). What tuning gains differs between
    subsets (deviation 0.4, the same for both), and every trial has noise of its own."""
    shared = rng.normal(0, 0.4, (1, 1, 5, 5))
    recipe, labelled, free = (gain + (shared if gain else 0) + rng.normal(size=SHAPE) for gain in (0.0, 1.0, 0.6))
    first, second = ((arm - recipe).ravel() for arm in (free, labelled))
    outcomes = []
    for name, values, truth in (("gain of tuning by labels", second, 1.0),
                                ("cost of tuning without", second - first, 0.4)):
        value, lo, hi, _, _ = paired_difference(values, CELLS, 0.95, UNITS, LEVEL)
        outcomes.append(Outcome(name, value=value, lo=lo, hi=hi, truth=truth))
    kept, lo, hi = paired_ratio(first, second, CELLS, 0.95, UNITS, LEVEL)
    return [*outcomes, Outcome("share of the gain kept without labels", value=kept, lo=lo, hi=hi, truth=0.6)]


SMALLEST = power.smallest_difference(1.0, 5, 5, 0.05)


def smallest_shown(rng: np.random.Generator) -> list[Outcome]:
    """Two methods that differ by exactly the smallest difference said to be shown with 80 % power."""
    first, second = rng.normal(SMALLEST, 1, (2, 5, 5)), rng.normal(0, 1, (2, 5, 5))
    _, _, _, p, _ = paired_difference((first - second).ravel(), BLOCKS, 0.95, SUBSETS, LEVELS)
    return [Outcome("power at the smallest difference said to be shown", p)]


SCENARIOS: tuple[Callable[[np.random.Generator], list[Outcome]], ...] = (
    no_relation, a_relation, effects, equal_methods, selection, tuning, smallest_shown)


@dataclass(frozen=True)
class Rate:
    """Of many simulated studies: how often p <= 0.05, how often the interval holds the truth."""

    name: str
    studies: int
    positives: float
    coverage: float
    width: float


def simulate(scenario: Callable[[np.random.Generator], list[Outcome]], studies: int, seed: int = 0) -> list[Rate]:
    """Rates of each outcome of a scenario; NaN where it has no p or no interval."""
    children = np.random.SeedSequence(seed).spawn(studies)
    drawn = [scenario(np.random.default_rng(child)) for child in children]
    rates = []
    for column in zip(*drawn, strict=True):
        p, value, lo, hi = (np.array([getattr(o, name) for o in column]) for name in ("p", "value", "lo", "hi"))
        truth = column[0].truth if column[0].truth is not None else float(np.mean(value))
        known = np.isfinite(lo)
        inside = float(np.mean((lo <= truth) & (truth <= hi))) if known.all() else math.nan
        positives = float(np.mean(p <= 0.05)) if np.isfinite(p).all() else math.nan
        width = float(np.mean(hi - lo)) if known.all() else math.nan
        rates.append(Rate(column[0].name, studies, positives, inside, width))
    return rates
