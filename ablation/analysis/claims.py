"""The claims of Otero, Mateus & Balestriero (arXiv 2410.04289), each put to a study: effect, interval, n, verdict.

A verdict is computed from an interval and a rule that stands beside it: ``supported`` where the whole 95 % interval of
the effect is on the claim's side, ``contradicted`` where it is on the other, ``undecided`` otherwise or where the study
lacks what the claim is about. Intervals are each at 95 %; there is no correction over the claims. The paper's numbers
are not public, so only the direction of a claim can be tested. C1 to C7: abstract, C2b, C3, C4: summaries of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ablation.analysis import factors, selectors, statistics
from ablation.analysis.findings import prevalences
from ablation.analysis.statistics import Interval, mover
from ablation.analysis.style import SUPERVISED, level_label
from ablation.analysis.tables import column, measured, preference
from ablation.errors import NothingMatched

NAMED = ("simclr", "barlow_twins")
"""The joint-embedding methods that the abstract names."""
RECONSTRUCTION = ("mae", "mae_dense")
RANKME = "label_free/rankme"
ADEQUATE = 0.5
"""Rank correlation from which a label-free metric would be called adequate. A convention of this project."""
EXTREME, COMMON, NUM_TRIALS = 0.02, 0.05, 250
BACKBONES = ("resnet18", "vit_tiny")
COLUMNS = ("claim", "statement", "verdict", "effect", "lo", "hi", "n", "measure", "rule", "note")


class _Missing(Exception):
    """The study lacks what a claim is about."""


@dataclass(frozen=True)
class _Evidence:
    effect: float
    lo: float
    hi: float
    n: int
    note: str = ""
    verdict: str = ""
    """Where the rule is not "which side of 0"."""


@dataclass(frozen=True)
class _Study:
    """Finished trials; ``quality`` = the metric, turned so that higher is better."""

    trials: pd.DataFrame
    planned: pd.DataFrame
    metric: str
    share: dict[object, float]
    """Prevalence of each level, mean over its subsets; NaN where it was not recorded."""

    @property
    def own(self) -> pd.DataFrame:
        return self.trials[self.trials["method"] != SUPERVISED]

    @property
    def methods(self) -> list[str]:
        return list(dict.fromkeys(self.own["method"]))

    def table(self, rows: pd.DataFrame, *across: str) -> pd.DataFrame:
        """Quality with ``across`` as columns and what is left of the factors and seed as rows; gaps are NaN."""
        names = [name for name in ("backbone", "imbalance", "method", "seed") if name not in across]
        return rows.pivot_table(index=names, columns=list(across), values="quality", aggfunc="mean", sort=False)

    def levels(self) -> list[object]:
        """Levels of known prevalence that have results, rarest first."""
        there = [level for level in dict.fromkeys(self.own["imbalance"]) if math.isfinite(self.share[level])]
        return sorted(there, key=lambda level: self.share[level])


def claims(trials: pd.DataFrame, metric: str = "probe/auroc") -> pd.DataFrame:
    """One row per claim: claim, statement, verdict, effect, lo, hi, n, measure, rule, note. Raises ``NothingMatched``
    when no trial has finished with ``metric``."""
    finished, (score,) = measured(trials, metric)
    study = _Study(finished.assign(quality=preference(finished[score].to_numpy(float), metric)), trials, metric,
                   prevalences(trials))
    rows = []
    for name, (statement, measure, rule, judge) in CLAIMS.items():
        try:
            found = judge(study)
        except (_Missing, NothingMatched) as reason:
            found = _Evidence(math.nan, math.nan, math.nan, 0, f"not in this study: {reason}", "undecided")
        verdict = found.verdict or _side(found.lo, found.hi)
        rows.append((name, statement, verdict, found.effect, found.lo, found.hi, found.n, measure, rule, found.note))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _side(lo: float, hi: float, zero: float = 0.0) -> str:
    return "supported" if lo > zero else "contradicted" if hi < zero else "undecided"


def _paired(differences: pd.Series[float], cells: Sequence[str], note: str = "") -> _Evidence:
    """Student t over the seeds of fixed cells, named by index levels; trials of one level and seed share pictures.

    Pairs of which one side is unfinished are counted in the note.
    """
    known = differences.dropna()
    if not len(known):
        raise _Missing("no seed has finished on both sides of the comparison")
    index = known.index.to_frame().astype(str)
    level = index["imbalance"].to_numpy(str) if "imbalance" in index else np.full(len(known), "")
    names = index[list(cells)].agg("|".join, axis=1).to_numpy(str) if cells else np.full(len(known), "")
    units = np.char.add(np.char.add(level, "|"), index["seed"].to_numpy(str))
    value, lo, hi, _, _ = statistics.paired_difference(known.to_numpy(float), names, 0.95, units, level)
    missing = len(differences) - len(known)
    notes = [note] if note else []
    notes += [f"{missing} of {len(differences)} pairs unfinished"] if missing else []
    return _Evidence(value, lo, hi, len(known), "; ".join(notes))


def _need(rows: pd.DataFrame, name: str, values: Sequence[str]) -> list[str]:
    there = [value for value in values if value in set(rows[name])]
    if not there:
        raise _Missing(f"no finished trial of {name} {' or '.join(values)}")
    return there


def _joint_over_mae(study: _Study) -> _Evidence:
    joint, masked = _need(study.own, "method", NAMED), _need(study.own, "method", RECONSTRUCTION[:1])
    wide = study.table(study.own, "method")
    note = "" if len(joint) == len(NAMED) else f"of the two only {joint[0]}"
    return _paired(wide[joint].mean(axis=1, skipna=False) - wide[masked[0]], ("backbone", "imbalance"), note)


def _drops(study: _Study) -> tuple[pd.DataFrame, str]:
    """(backbone, seed) x method: quality at the most balanced level less that at the rarest; what was compared."""
    levels = study.levels()
    if len(levels) < 2:
        raise _Missing("two levels of imbalance")
    rarest, balanced = levels[0], min(levels, key=lambda level: abs(study.share[level] - 0.5))
    if rarest == balanced:
        raise _Missing("a level rarer than the most balanced one")
    wide = study.table(study.own, "method", "imbalance")
    found = {name: wide[(name, balanced)] - wide[(name, rarest)] for name in study.methods
             if {(name, balanced), (name, rarest)} <= set(wide)}
    table = pd.DataFrame({name: values for name, values in found.items() if values.notna().any()})
    absent = [name for name in study.methods if name not in table]
    note = f"{level_label(study.share[rarest])} against {level_label(study.share[balanced])}"
    return table, note + (f"; without {', '.join(absent)}" if absent else "")


def _mae_drop(study: _Study) -> _Evidence:
    table, note = _drops(study)
    joint = [name for name in table if name not in RECONSTRUCTION]
    if RECONSTRUCTION[0] not in table or not joint:
        raise _Missing("mae and a joint-embedding method at both levels")
    return _paired(table[RECONSTRUCTION[0]] - table[joint].mean(axis=1), ("backbone",), note)


def _byol_drop(study: _Study) -> _Evidence:
    table, note = _drops(study)
    others = [name for name in table if name != "byol"]
    if "byol" not in table or not others:
        raise _Missing("byol and another method at both levels")
    found = _paired(table[others].mean(axis=1) - table["byol"], ("backbone",), note)
    rarest = study.share[study.levels()[0]]
    if rarest > EXTREME:
        note = f"{found.note}; the claim is about 1 %, this study begins at {level_label(rarest)}"
        return replace(found, note=note, verdict="undecided")
    return found


def _method_over_backbone(study: _Study) -> _Evidence:
    planned = study.planned[study.planned["method"] != SUPERVISED]
    table = factors.variance(planned, study.metric).set_index("term")
    if not {"method", "backbone"} <= set(table.index):
        raise _Missing("two methods and two backbones in complete cells")
    method, backbone = (dict(table.loc[name]) for name in ("method", "backbone"))

    def apart(value: str, lo: str, hi: str) -> Interval:
        return mover(method[value], (method[lo], method[hi]), backbone[value], (backbone[lo], backbone[hi]))

    shares, swings = apart("omega2", "lo", "hi"), apart("swing", "swing_lo", "swing_hi")
    sides = {_side(*shares), _side(*swings)}
    note = (f"omega squared {method['omega2']:.3f} and {backbone['omega2']:.3f}, their difference "
            f"{shares[0]:+.3f} to {shares[1]:+.3f}") if math.isfinite(shares[0]) else "one seed: no interval"
    note += f"; {method['note']}" if method["note"] else ""
    return _Evidence(float(method["swing"] - backbone["swing"]), *swings, int(method["n"]), note,
                     sides.pop() if len(sides) == 1 else "undecided")


def _no_backbone_leads(study: _Study) -> _Evidence:
    names = list(dict.fromkeys(study.own["backbone"]))
    if len(names) < 2:
        raise _Missing("two backbones")
    first, second = BACKBONES if set(BACKBONES) <= set(names) else names[:2]
    wide = study.table(study.own, "backbone")
    differences = wide[first] - wide[second]
    found = _paired(differences, ("imbalance", "method"), f"{first} less {second}")
    tests = [statistics.paired_difference(rows.to_numpy(float), np.zeros(len(rows)), 0.95)
             for _, rows in differences.dropna().groupby(level=["imbalance", "method"])]
    adjusted = statistics.holm(np.array([p for *_, p, _ in tests]))
    leads = [sum(q <= 0.05 and sign * value > 0 for q, (value, *_) in zip(adjusted, tests, strict=True))
             for sign in (1, -1)]
    note = f"{found.note}; {first} leads in {leads[0]} and {second} in {leads[1]} of {len(tests)} cells (Holm, 5 %)"
    verdict = "undecided"
    if min(leads) > 0:
        verdict = "supported"
    elif (found.lo > 0 or found.hi < 0) and len({value > 0 for value, *_ in tests}) == 1:
        verdict = "contradicted"
    return replace(found, note=note, verdict=verdict)


def _simclr_resnet(study: _Study) -> _Evidence:
    levels = [level for level in study.levels() if study.share[level] > COMMON + 1e-9]
    if not levels:
        raise _Missing("a level above 5 %")
    wide = study.table(study.own[study.own["imbalance"].isin(levels)], "method", "backbone")
    mine = ("simclr", "resnet18")
    others = [name for name in wide if name != mine]
    if mine not in wide or not others:
        raise _Missing("simclr on resnet18 and another cell above 5 %")
    named = ", ".join(level_label(study.share[level]) for level in levels)
    return _paired(wide[mine] - wide[others].mean(axis=1), ("imbalance",),
                   f"levels {named}; against {len(others)} other cells")


def _rankme_fails(study: _Study) -> _Evidence:
    column(study.own, RANKME)
    table = selectors.correlate(study.own, RANKME, "quality", ("method", "backbone", "imbalance")).set_index("level")
    row = dict(table.loc["within"])
    if not math.isfinite(row["rho"]):
        raise _Missing("two seeds of one method, backbone and level with RankMe")
    note = ""
    try:
        cost = selectors.regret(study.own, [RANKME], "quality").iloc[0]
        note = f"choosing by RankMe gains {cost['gain']:+.3f} on a blind choice"
        if math.isfinite(cost["gain_lo"]):
            note += f" ({cost['gain_lo']:+.3f} to {cost['gain_hi']:+.3f})"
    except NothingMatched:
        pass
    side = {"supported": "contradicted", "contradicted": "supported"}.get(_side(row["lo"], row["hi"], ADEQUATE))
    return _Evidence(float(row["rho"]), float(row["lo"]), float(row["hi"]), int(row["n"]), note, side or "undecided")


def _gap_to_supervised(study: _Study) -> _Evidence:
    _need(study.trials, "method", (SUPERVISED,))
    wide = study.table(study.trials, "method")
    gaps = {}
    for name in study.methods:
        try:
            gaps[name] = _paired(wide[SUPERVISED] - wide[name], ("backbone", "imbalance"))
        except _Missing:
            continue
    if not gaps:
        raise _Missing("a self-supervised method beside supervised")
    name, least = min(gaps.items(), key=lambda item: item[1].effect)
    absent = [other for other in study.methods if other not in gaps]
    verdict = "undecided"
    if all(gap.lo > 0 for gap in gaps.values()):
        verdict = "supported"
    elif any(gap.hi < 0 for gap in gaps.values()):
        verdict = "contradicted"
    notes = [f"smallest gap: {name}", least.note, f"without {', '.join(absent)}" if absent else ""]
    return replace(least, note="; ".join(filter(None, notes)), verdict=verdict)


def _count(study: _Study) -> _Evidence:
    own = study.planned[study.planned["method"] != SUPERVISED]
    finished = int((own["state"] == "FINISHED").sum())
    note = f"{finished} of {len(own)} planned self-supervised trials finished"
    return _Evidence(float(finished), math.nan, math.nan, len(own), note,
                     "supported" if finished >= NUM_TRIALS else "undecided")


POSITIVE = "interval above 0: supported; below: contradicted"
CLAIMS: dict[str, tuple[str, str, str, Callable[[_Study], _Evidence]]] = {
    "C1": ("Joint embedding (SimCLR, Barlow Twins) beats reconstruction (MAE)", "mean of both less MAE, paired by seed",
           POSITIVE, _joint_over_mae),
    "C1b": ("MAE loses more than joint embedding when defects are rare", "drop of MAE less mean drop of the others",
            POSITIVE, _mae_drop),
    "C2": ("The method matters more than the backbone", "swing by method less swing by backbone",
           "both this interval and that of the omega squared above 0: supported; both below: contradicted",
           _method_over_backbone),
    "C2b": ("Neither backbone leads consistently", "one backbone less the other, paired by seed",
            "both lead in some cell: supported; interval off 0 and every cell on one side: contradicted",
            _no_backbone_leads),
    "C3": ("SimCLR on ResNet-18 does notably well above 5 % of defects", "its score less the mean of all other cells",
           POSITIVE, _simclr_resnet),
    "C4": ("BYOL holds up at the extreme level (1 %)", "mean drop of the others less drop of BYOL",
           f"{POSITIVE}; needs a level of 2 % or less", _byol_drop),
    "C5": ("RankMe does not evaluate representation quality adequately", "Spearman's ρ within cells",
           f"interval below {ADEQUATE}: supported; above: contradicted", _rankme_fails),
    "C6": ("A gap to supervised models remains", "supervised less the closest self-supervised method",
           "interval of every method above 0: supported; that of one below 0: contradicted", _gap_to_supervised),
    "C7": ("250 experiments", "finished self-supervised trials", "250 or more: supported", _count),
}
