"""What the encoders are worth where they would be used: rates at the deployment prevalence, thresholds, maps."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd

from ablation.analysis import calibration, detection, detection_figures, operating_points
from ablation.analysis.bundle import Bundle
from ablation.analysis.contact_sheet import PROBE, StudyData, pick
from ablation.analysis.document import Block, Cell, Columns, Heading, Note, Pictures, Section, Table, Text, code
from ablation.analysis.findings import method_order
from ablation.analysis.formats import fixed3, number, spanned, whole, words
from ablation.analysis.patch_map import patch_maps
from ablation.analysis.sections.scores import problems
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import backbone_label, level_label, method_style
from ablation.analysis.tables import CELL, aggregate, labels, preference, prevalence, self_supervised
from ablation.errors import AblationError

DEPLOYMENT = "params.evaluation.deployment_prevalence"
COST_MISS, NUM_MAPS = 10.0, 4
SEWER = {"sewer/f2_ciw": "F2-CIW", "sewer/f1_normal": "F1-Normal"}
QUANTITIES = {"auroc": "AUROC", "ap": "AP there", "tpr_at_budget": "Found at the budget",
              "fpr_at_budget": "False alarms"}
TRIAL = {"auroc": "AUROC", "ap": "Average precision at the deployment prevalence",
         "tpr_at_budget": "Defects found at the false-alarm budget", "fpr_at_budget": "Normals flagged at it"}


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """The level nearest to deployment: all its cells over seeds, and one trial of its best self-supervised cell."""
    share = prevalence(view.done) if len(view.done) else pd.Series(dtype=float)
    if share.notna().sum() == 0:
        return None
    deployed = _deployment(view.done)
    distance = np.abs(np.log(share.to_numpy(float)) - math.log(deployed))
    level = view.done["imbalance"].iloc[int(np.nanargmin(distance))]
    here = view.done[view.done["imbalance"] == level]
    cells = _cells(view, level, deployed)
    if cells.empty:
        return None
    bundle.table("detection", cells)
    blocks: list[Block] = [Note(
        f"Trials pre-trained at {level_label(level)} defects, the level nearest to the {level_label(deployed)} that "
        "are expected in use (`evaluation.deployment_prevalence`). Test images are reweighted to that share. "
        "The budget flags 5 % of normals; its threshold comes from validation normals alone and needs no defect. "
        "Intervals of this table are over seeds, the test images being the same.")]
    blocks.append(_cell_table(cells, view))
    blocks += _sewer_table(here, view, bundle)
    key = _typical(view, here)
    blocks += _trial_blocks(view, key, deployed, bundle)
    return Section("detection", "Detection in practice", tuple(blocks))


def _deployment(trials: pd.DataFrame) -> float:
    values = trials[DEPLOYMENT].dropna() if DEPLOYMENT in trials else pd.Series(dtype=float)
    return float(values.iloc[0]) if len(values) else detection.PREVALENCE


def _scores(view: StudyView, key: str) -> pd.DataFrame | None:
    try:
        return view.results.scores(key)
    except (AblationError, OSError, ValueError):
        return None


def _cells(view: StudyView, level: object, deployed: float) -> pd.DataFrame:
    """Long: the cell's names, quantity, value, lo, hi, n, planned, problems; every planned cell, with or without
    results."""
    parts = []
    for _, rows in view.trials[view.trials["imbalance"] == level].groupby(["method", "backbone"], sort=False):
        done = rows.loc[rows.index.isin(view.done.index), "key"]
        frames = [frame for key in done if (frame := _scores(view, key)) is not None]
        found = detection.over_seeds(frames, PROBE, prevalence=deployed)
        bounded = found[["lo", "hi"]].clip(0, 1)  # of shares, which Student's t does not know
        cell = {name: rows[name].iloc[0] for name in CELL} | {"problems": ", ".join(problems(rows))}
        names = pd.DataFrame([cell] * len(found))
        parts.append(pd.concat([names, found.assign(lo=bounded["lo"], hi=bounded["hi"], planned=len(rows))], axis=1))
    cells = pd.concat(parts, ignore_index=True)
    return cells if cells["n"].sum() else cells.iloc[:0]


def _cell_table(cells: pd.DataFrame, view: StudyView) -> Table:
    order = method_order(view.trials)
    rows = []
    for (method, backbone), part in cells.groupby(["method", "backbone"], sort=False):
        row: dict[str, object] = {"name": f"{method_style(str(method), order).label}, {backbone_label(str(backbone))}",
                                  "n": part["n"].max(), "problems": part["problems"].iloc[0]}
        for found in part.to_dict("records"):
            row |= {f"{found['quantity']}_{end}": found[end] for end in ("value", "lo", "hi")}
        rows.append(row)
    estimates: Columns = {(f"{key}_value", f"{key}_lo", f"{key}_hi"): (title, spanned)
                          for key, title in QUANTITIES.items()}
    columns: Columns = {"name": ("Cell", words), ("n", "problems"): ("Seeds", _seeds)}
    return Table.from_frame("detection", "Linear probe at the deployment prevalence, mean over seeds",
                            pd.DataFrame(rows), {**columns, **estimates})


def _seeds(n: object, found: object) -> Cell:
    return Cell(whole(n), problems=(str(found),) if found else ())


def _sewer_table(here: pd.DataFrame, view: StudyView, bundle: Bundle) -> list[Block]:
    """F2-CIW and F1-Normal where the data carry Sewer-ML's 17 codes."""
    known = [name for name in SEWER if f"metrics.{name}" in here and here[f"metrics.{name}"].notna().any()]
    if not known:
        return []
    parts = [aggregate(here, name, by=("method", "backbone")).assign(metric=name) for name in known]
    frame = pd.concat(parts, ignore_index=True)
    bundle.table("sewer", frame)
    order = method_order(view.trials)
    named = frame.assign(cell=[f"{method_style(m, order).label}, {backbone_label(b)}"
                               for m, b in zip(frame["method"], frame["backbone"], strict=True)],
                         title=[SEWER[name] for name in frame["metric"]])
    return [Table.from_frame("sewer", "Sewer-ML's own scores of the same cells", named, {
        "cell": ("Cell", words), "title": ("Score", words), "n": ("Seeds", whole),
        ("value", "lo", "hi"): ("Mean", spanned)},
        "Multi-label probe behind the binary one, thresholds from validation (Haurum and Moeslund, CVPR 2021).")]


def _typical(view: StudyView, here: pd.DataFrame) -> str:
    """The trial of median score in the best self-supervised cell: the best trial would flatter its method."""
    own = self_supervised(here)
    quality = pd.Series(preference(own[view.column].to_numpy(float), view.metric), index=own.index)
    means = quality.groupby(labels(own, ["method", "backbone"]), sort=False).mean()
    inside = own[labels(own, ["method", "backbone"]) == means.idxmax()]
    ranked = quality.loc[inside.index].sort_values(kind="stable")
    return str(inside.loc[ranked.index[(len(ranked) - 1) // 2], "key"])


def _trial_blocks(view: StudyView, key: str, deployed: float, bundle: Bundle) -> list[Block]:
    scores = _scores(view, key)
    if scores is None:
        return [Text(f"{code(key)} stored no scores.")]
    test, validation = (detection.take(scores, PROBE, split) for split in ("test", "validation"))
    budget = operating_points.budget_table(validation.normals, test.normals, test.defects, num_boot=500)
    summary = detection.trial_summary(scores, PROBE, prevalence=deployed)
    types = detection.recall_by_type(test, float(budget["threshold"].iloc[0]))
    cost = operating_points.cost_table((validation.labels, validation.scores), (test.labels, test.scores),
                                       prevalence=deployed, cost_miss=COST_MISS)
    bins, errors = calibration.trial_calibration(scores, PROBE, prevalence=deployed)
    for name, frame in (("trial", summary), ("budget", budget), ("types", types), ("cost", cost),
                        ("reliability", bins), ("calibration", errors)):
        bundle.table(f"detection_{name}", frame)
    spread = budget.to_dict("records")[0]
    blocks: list[Block] = [
        Heading("One typical trial"),
        Note(f"{code(key)}: the trial of median score in the best self-supervised cell of this level. Intervals from "
             "here on are those of its test images (DeLong; Clopper and Pearson; AP: Bayesian bootstrap)."),
        Text(f"Threshold of the 5 % budget: {fixed3(spread['threshold'])}; over resampled validation normals it lies "
             f"between {fixed3(spread['threshold_spread_lo'])} and {fixed3(spread['threshold_spread_hi'])} and then "
             f"finds {_percent(spread['tpr_spread_lo'])} to {_percent(spread['tpr_spread_hi'])} of the defects."
             if math.isfinite(float(spread["threshold"])) else f"No threshold: {spread['note']}."),
        _summary_table(summary)]
    blocks += _trial_plots(scores, budget, bins, types, deployed, bundle)
    return [*blocks, _cost_table(cost, deployed), _calibration_table(errors), *_maps(view, key, scores)]


def _percent(value: object) -> str:
    return f"{number(100 * float(value), '.0f')} %" if isinstance(value, float) else "–"


def _trial_plots(scores: pd.DataFrame, budget: pd.DataFrame, bins: pd.DataFrame, types: pd.DataFrame, deployed: float,
                 bundle: Bundle) -> list[Block]:
    test = detection.take(scores, PROBE, "test")
    curve = detection.curve(test.labels, test.scores, deployed)
    bundle.table("detection_curve", curve)
    if curve.empty:
        return []
    panels = [("ROC curve with its pointwise 95 % band and the budget's point",
               lambda ax: detection_figures.roc(curve, ax, points=budget, title="ROC")),
              (f"Precision over recall at {level_label(deployed)} defects",
               lambda ax: detection_figures.precision_recall(curve, ax, title="Precision and recall"))]
    if len(bins):
        panels.append(("Observed share of defects over predicted probability, before and after calibration",
                       lambda ax: detection_figures.reliability(bins, ax, title="Reliability")))
    if len(types):
        panels.append(("Recall of each defect type at the budget's threshold",
                       lambda ax: detection_figures.recall_by_type(types, ax, title="Recall by type")))
    caption = f"The same trial at {level_label(deployed)} defects. Bands and bars: 95 % intervals."
    return [bundle.plot("detection", caption, panels, kind="wide", height=3.3)]


def _summary_table(summary: pd.DataFrame) -> Table:
    named = summary.assign(name=[TRIAL[key] for key in summary["quantity"]])
    return Table.from_frame("detection_trial", "The trial on its test images", named, {
        "name": ("Quantity", words), ("value", "lo", "hi"): ("Value", spanned), "chance": ("By chance", fixed3),
        "n_normals": ("Normals", whole), "n_defects": ("Defects", whole), "note": ("Note", words)})


def _cost_table(cost: pd.DataFrame, deployed: float) -> Table:
    caption = f"Expected cost of 1,000 images at {level_label(deployed)} defects"
    return Table.from_frame("detection_cost", caption, cost, {
        "rule": ("Threshold for", words), ("cost", "lo", "hi"): ("Cost", _cost), "missed": ("Missed", _one),
        "false_alarms": ("False alarms", _one), "n_defects": ("Defects", whole), "n_normals": ("Normals", whole)},
        f"A miss costs {COST_MISS:.0f} false alarms; thresholds are chosen on validation.")


def _calibration_table(errors: pd.DataFrame) -> Table:
    names = {"brier": "Brier score", "ece": "Expected calibration error"}
    named = errors.assign(name=[names[key] for key in errors["error"]])
    return Table.from_frame("detection_calibration", "Probabilities at the deployment prevalence", named, {
        "stage": ("Probabilities", words), "name": ("Error", words), ("value", "lo", "hi"): ("Value", _fine),
        "chance": ("Saying π always", lambda value: number(value, ".4f")), "n_defects": ("Defects", whole),
        "n_normals": ("Normals", whole)},
        "Calibrated: Platt scaling on validation, then the shift of the prior to the deployment prevalence.")


def _one(value: object) -> str:
    return number(value, ".1f")


def _cost(value: object, lo: object, hi: object) -> str:
    return f"{_one(value)} ({_one(lo)} to {_one(hi)})"


def _fine(value: object, lo: object, hi: object) -> str:
    return " ".join(f"{number(v, '.4f')}{end}" for v, end in ((value, ""), (lo, " to"), (hi, "")))


def _maps(view: StudyView, key: str, scores: pd.DataFrame) -> list[Block]:
    """Detector maps over the strongest alarms and the misses."""
    top = pick(scores, PROBE, count=NUM_MAPS)
    missed = pick(scores, PROBE, count=NUM_MAPS, defect=True, lowest=True)
    folder = view.results.store.trial_dir(key)
    ids = list(dict.fromkeys(picture.image_id for picture in (*top, *missed)))
    found = patch_maps(view.results, key, ids, view.images or StudyData().images(folder))
    if found.problem:
        return [Heading("Detector maps"), Text(f"{found.problem}.")]
    drawn = {one.picture.image_id: dataclasses.replace(one.picture, uri=one.overlay) for one in found.maps}
    return [Heading("Detector maps"), Note(
        "No labels: distance of each patch to the nearest of the patches of "
        f"{found.num_reference} pre-training images ({found.num_reference_defects} of them with defects), one scale "
        "for all pictures; the brighter, the more unusual. A convolution sees far beyond its patch, so read a map as a "
        "hint."),
        Pictures("Maps over the images the probe scores highest", tuple(drawn[p.image_id] for p in top)),
        Pictures("Maps over defects the probe misses", tuple(drawn[p.image_id] for p in missed))]
