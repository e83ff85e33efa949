"""The claims of Otero, Mateus & Balestriero (arXiv 2410.04289), each put to a study: effect, interval, n, verdict.

A verdict is computed from an interval and a rule that stands beside it: ``supported`` where the whole 95 % interval of
the effect is on the claim's side, ``contradicted`` where it is on the other, ``undecided`` otherwise or where the study
lacks what the claim is about. Intervals are each at 95 %; there is no correction over the claims. The paper's numbers
are not public, so only the direction of a claim can be tested. C1 to C7: abstract, C2b, C3, C4: summaries of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablation.analysis import factors, selectors, statistics
from ablation.analysis.statistics import Interval, mover
from ablation.analysis.style import SUPERVISED, level_label
from ablation.analysis.tables import column, measured, preference, prevalence
from ablation.errors import NothingMatched

NAMED = ("simclr", "barlow_twins")
"""The joint-embedding methods that the abstract names."""
RECONSTRUCTION = ("mae", "mae_dense")
RANKME = "label_free/rankme"
ADEQUATE = 0.5
"""Rank correlation from which a label-free metric would be called adequate. A convention of this project."""
EXTREME, COMMON, NUM_TRIALS = 0.02, 0.05, 250
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

    @property
    def own(self) -> pd.DataFrame:
        return self.trials[self.trials["method"] != SUPERVISED]

    def wide(self, rows: pd.DataFrame, *across: str) -> pd.DataFrame:
        """Quality with ``across`` as columns and what is left of the factors and seed as rows; complete rows only."""
        names = [name for name in ("backbone", "share", "method", "seed") if name not in across]
        table = rows.pivot_table(index=names, columns=list(across), values="quality", aggfunc="mean", sort=False)
        return table.dropna()


def claims(trials: pd.DataFrame, metric: str = "probe/auroc") -> pd.DataFrame:
    """One row per claim: claim, statement, verdict, effect, lo, hi, n, measure, rule, note. Raises ``NothingMatched``
    when no trial has finished with ``metric``."""
    finished, (score,) = measured(trials, metric)
    study = _Study(finished.assign(quality=preference(finished[score].to_numpy(float), metric),
                                   share=prevalence(finished)), trials, metric)
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


def _paired(differences: pd.Series[float], cells: Sequence[str]) -> _Evidence:
    """Student t over the seeds of fixed cells, named by index levels."""
    if not len(differences):
        raise _Missing("no seed has finished on both sides of the comparison")
    names = differences.index.to_frame()[list(cells)].astype(str).agg("|".join, axis=1).to_numpy() if cells else (
        np.zeros(len(differences)))
    value, lo, hi, _, _ = statistics.paired_difference(differences.to_numpy(float), names, 0.95)
    return _Evidence(value, lo, hi, len(differences))


def _need(rows: pd.DataFrame, name: str, values: Sequence[str]) -> list[str]:
    there = [value for value in values if value in set(rows[name])]
    if not there:
        raise _Missing(f"no finished trial of {name} {' or '.join(values)}")
    return there


def _joint_over_mae(study: _Study) -> _Evidence:
    joint, masked = _need(study.own, "method", NAMED), _need(study.own, "method", RECONSTRUCTION[:1])
    wide = study.wide(study.own[study.own["method"].isin([*joint, *masked])], "method")
    return _paired(wide[joint].mean(axis=1) - wide[masked[0]], ("backbone", "share"))


def _drops(study: _Study) -> tuple[pd.DataFrame, str]:
    """(backbone, seed) x method: quality at the most balanced level less that at the rarest; what was compared."""
    shares = sorted(study.own["share"].dropna().unique())
    if len(shares) < 2:
        raise _Missing("two levels of imbalance")
    balanced = min(shares, key=lambda share: abs(share - 0.5))
    rarest = shares[0]
    if rarest == balanced:
        raise _Missing("a level rarer than the most balanced one")
    wide = study.wide(study.own, "method", "share")
    methods = [name for name in dict.fromkeys(study.own["method"]) if {(name, balanced), (name, rarest)} <= set(wide)]
    table = pd.DataFrame({name: wide[name][balanced] - wide[name][rarest] for name in methods})
    return table, f"{level_label(rarest)} against {level_label(balanced)}"


def _mae_drop(study: _Study) -> _Evidence:
    table, what = _drops(study)
    joint = [name for name in table if name not in RECONSTRUCTION]
    if RECONSTRUCTION[0] not in table or not joint:
        raise _Missing("mae and a joint-embedding method at both levels")
    found = _paired(table[RECONSTRUCTION[0]] - table[joint].mean(axis=1), ("backbone",))
    return _Evidence(found.effect, found.lo, found.hi, found.n, what)


def _byol_drop(study: _Study) -> _Evidence:
    table, what = _drops(study)
    others = [name for name in table if name != "byol"]
    if "byol" not in table or not others:
        raise _Missing("byol and another method at both levels")
    found = _paired(table[others].mean(axis=1) - table["byol"], ("backbone",))
    rarest = float(study.own["share"].min())
    if rarest > EXTREME:
        return _Evidence(found.effect, found.lo, found.hi, found.n,
                         f"{what}; the claim is about 1 %, this study begins at {level_label(rarest)}", "undecided")
    return _Evidence(found.effect, found.lo, found.hi, found.n, what)


def _method_over_backbone(study: _Study) -> _Evidence:
    table = factors.variance(study.own, study.metric).set_index("term")
    if not {"method", "backbone"} <= set(table.index):
        raise _Missing("two methods and two backbones in complete cells")
    method, backbone = (dict(table.loc[name]) for name in ("method", "backbone"))

    def apart(value: str, lo: str, hi: str) -> Interval:
        return mover(method[value], (method[lo], method[hi]), backbone[value], (backbone[lo], backbone[hi]))

    shares, swings = apart("omega2", "lo", "hi"), apart("swing", "swing_lo", "swing_hi")
    sides = {_side(*shares), _side(*swings)}
    note = (f"omega squared {method['omega2']:.3f} and {backbone['omega2']:.3f}, their difference "
            f"{shares[0]:+.3f} to {shares[1]:+.3f}")
    note += f"; {method['note']}" if method["note"] else ""
    return _Evidence(float(method["swing"] - backbone["swing"]), *swings, int(method["n"]), note,
                     sides.pop() if len(sides) == 1 else "undecided")


def _no_backbone_leads(study: _Study) -> _Evidence:
    names = list(dict.fromkeys(study.own["backbone"]))
    if len(names) < 2:
        raise _Missing("two backbones")
    first, second = names[:2]
    wide = study.wide(study.own[study.own["backbone"].isin(names[:2])], "backbone")
    differences = wide[first] - wide[second]
    found = _paired(differences, ("share", "method"))
    tests = [statistics.paired_difference(rows.to_numpy(float), np.zeros(len(rows)), 0.95)
             for _, rows in differences.groupby(level=["share", "method"])]
    adjusted = statistics.holm(np.array([p for *_, p, _ in tests]))
    leads = [sum(q <= 0.05 and sign * value > 0 for q, (value, *_) in zip(adjusted, tests, strict=True))
             for sign in (1, -1)]
    note = f"{first} leads in {leads[0]} and {second} in {leads[1]} of {len(tests)} cells (Holm, 5 %)"
    verdict = "undecided"
    if min(leads) > 0:
        verdict = "supported"
    elif (found.lo > 0 or found.hi < 0) and len({value > 0 for value, *_ in tests}) == 1:
        verdict = "contradicted"
    return _Evidence(found.effect, found.lo, found.hi, found.n, note, verdict)


def _simclr_resnet(study: _Study) -> _Evidence:
    rows = study.own[study.own["share"] > COMMON + 1e-9]
    if rows.empty:
        raise _Missing("a level above 5 %")
    wide = study.wide(rows, "method", "backbone")
    mine = ("simclr", "resnet18")
    others = [name for name in wide if name != mine]
    if mine not in wide or not others:
        raise _Missing("simclr on resnet18 and another cell above 5 %")
    levels = ", ".join(level_label(share) for share in sorted(set(wide.index.get_level_values("share"))))
    found = _paired(wide[mine] - wide[others].mean(axis=1), ("share",))
    return _Evidence(found.effect, found.lo, found.hi, found.n, f"levels {levels}; against {len(others)} other cells")


def _rankme_fails(study: _Study) -> _Evidence:
    column(study.own, RANKME)
    row = selectors.correlate(study.own, RANKME, study.metric, ("method", "backbone")).iloc[0]
    cost = selectors.regret(study.own, [RANKME], study.metric).iloc[0]
    note = f"choosing by RankMe gains {cost['gain']:+.3f} on a blind choice"
    if math.isfinite(cost["gain_lo"]):
        note += f" ({cost['gain_lo']:+.3f} to {cost['gain_hi']:+.3f})"
    side = {"supported": "contradicted", "contradicted": "supported"}.get(_side(row["lo"], row["hi"], ADEQUATE))
    return _Evidence(float(row["rho"]), float(row["lo"]), float(row["hi"]), int(row["n"]), note, side or "undecided")


def _gap_to_supervised(study: _Study) -> _Evidence:
    _need(study.trials, "method", (SUPERVISED,))
    wide = study.wide(study.trials, "method")
    methods = [name for name in wide if name != SUPERVISED]
    if not methods or SUPERVISED not in wide:
        raise _Missing("a self-supervised method beside supervised")
    gaps = {name: _paired(wide[SUPERVISED] - wide[name], ("backbone", "share")) for name in methods}
    name, least = min(gaps.items(), key=lambda item: item[1].effect)
    verdict = "undecided"
    if all(gap.lo > 0 for gap in gaps.values()):
        verdict = "supported"
    elif any(gap.hi < 0 for gap in gaps.values()):
        verdict = "contradicted"
    return _Evidence(least.effect, least.lo, least.hi, least.n, f"smallest gap: {name}", verdict)


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
    "C2b": ("Neither backbone leads consistently", "first backbone less second, paired by seed",
            "both lead in some cell: supported; interval off 0 and every cell on one side: contradicted",
            _no_backbone_leads),
    "C3": ("SimCLR on ResNet-18 does notably well above 5 % of defects", "its score less the mean of all other cells",
           POSITIVE, _simclr_resnet),
    "C4": ("BYOL holds up at the extreme level (1 %)", "mean drop of the others less drop of BYOL",
           f"{POSITIVE}; needs a level of 2 % or less", _byol_drop),
    "C5": ("RankMe does not evaluate representation quality adequately", "Spearman's ρ within method and backbone",
           f"interval below {ADEQUATE}: supported; above: contradicted", _rankme_fails),
    "C6": ("A gap to supervised models remains", "supervised less the closest self-supervised method",
           "interval of every method above 0: supported; that of one below 0: contradicted", _gap_to_supervised),
    "C7": ("250 experiments", "finished self-supervised trials", "250 or more: supported", _count),
}
