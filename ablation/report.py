"""A study as one HTML page that needs nothing else: figures, tables, pictures and provenance, plus CSV, PNG and SVG.

The same store gives the same bytes: nothing here reads a clock, and figures carry no dates or random ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ablation.analysis import figures
from ablation.analysis.bundle import Bundle, Section, page_colors, write
from ablation.analysis.contact_sheet import Images, Sheet, StudyData, contact_sheet
from ablation.analysis.findings import (
    correlation_sentence,
    correlations,
    counts_sentence,
    flag_names,
    level_findings,
    method_order,
    prevalences,
    score_tables,
    shared,
    untrained,
)
from ablation.analysis.statistics import within_correlation
from ablation.analysis.style import (
    SUPERVISED,
    backbone_label,
    context_entries,
    house_style,
    level_label,
    level_order,
    method_entries,
    method_style,
)
from ablation.analysis.tables import CELL, higher_is_better
from ablation.errors import AblationError
from trainers.evaluation.catalogue import METRICS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ablation.results import StudyResults

SELECTORS = ["label_free/rankme", "label_free/rankme_embedding"]
LOSS = "train/loss"
MIN_FOR_RHO = 5
"""Least trials of one method and backbone for a panel to show a correlation."""
MAX_SHEETS = 6
"""Most imbalance levels with a contact sheet, so that the page stays small enough to mail."""


def write_report(
    results: StudyResults, out_dir: Path | None = None, metric: str = "probe/auroc", images: Images | None = None
) -> Path:
    """Write ``report.html``, ``tables/*.csv`` and ``figures/*.{png,svg}`` of a study; returns the HTML file.

    ``out_dir`` defaults to ``report/`` in the study's folder. ``images`` maps image ids to ``(H, W, 3)`` uint8 arrays;
    null opens the data set of the trials, and the report says so where that is gone. Any state of a study will do.
    """
    out = Path(out_dir) if out_dir is not None else Path(results.study_dir) / "report"
    trials = results.trials_dataframe()
    bundle = Bundle()
    with house_style():
        view = _view(results, trials, metric, images, bundle)
    bundle.files["report.html"] = _render(view).encode()
    write(out, bundle.files)
    return out / "report.html"


def _view(
    results: StudyResults, trials: pd.DataFrame, metric: str, images: Images | None, bundle: Bundle
) -> dict[str, Any]:
    every_cell = _cells(results, trials, metric)
    cells = every_cell[every_cell["n"] > 0].reset_index(drop=True)
    baseline = untrained(trials, metric)
    failures, flagged = _failures(results, trials)
    bundle.table("trials", trials)
    bundle.table("scores", every_cell)
    bundle.table("failures", failures)
    selectors = _selectors(trials, metric, bundle)
    provenance = shared(trials)
    study_file = Path(results.study_dir) / "study.yaml"
    metric_keys = [c.removeprefix("metrics.") for c in trials.columns if c.startswith("metrics.")]
    return {
        "name": results.name,
        "metric": metric,
        "about_metric": METRICS.get(metric),
        "counts": counts_sentence(trials),
        "findings": level_findings(cells, baseline, metric),
        "single": bool(len(cells) and (cells["n"] < 2).all()),
        "scores": _score_section(trials, cells, baseline, metric, bundle),
        "tables": score_tables(trials, cells, baseline, metric),
        "selectors": selectors,
        "curves": _curve_section(results, trials, bundle),
        "sheets": _sheets(results, trials, metric, images),
        "failures": failures.to_dict("records"),
        "flagged": flagged.to_dict("records"),
        "study_yaml": study_file.read_text() if study_file.is_file() else "",
        "provenance": provenance,
        "glossary": [(k, METRICS[k]) for k in METRICS if k in metric_keys],
        "subsets": _subsets(trials),
        "higher": higher_is_better(metric),
        "level_label": level_label,
        "labels": {
            **{m: method_style(m).label for m in trials["method"]},
            **{b: backbone_label(b) for b in trials["backbone"]},
        },
    }


def _cells(results: StudyResults, trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The metric per (method, backbone, imbalance) with interval and n; empty where nothing has finished."""
    column = f"metrics.{metric}"
    if column not in trials or not (trials["state"].eq("FINISHED") & trials[column].notna()).any():
        return pd.DataFrame(columns=[*CELL, "n", "planned", "value", "lo", "hi"])
    return results.aggregate(metric, by=CELL)


def _score_section(
    trials: pd.DataFrame, cells: pd.DataFrame, baseline: pd.DataFrame, metric: str, bundle: Bundle
) -> Section:
    share = prevalences(trials)
    known = [level for level, p in share.items() if np.isfinite(p)]
    drawn = cells[cells["imbalance"].isin(known)]
    if drawn.empty:
        return Section(
            missing=f"No finished trial has {metric} yet."
            if cells.empty
            else "The prevalence of the natural level was not recorded, so there is no axis to draw it on."
        )
    drawn = drawn.assign(prevalence=drawn["imbalance"].map(share))
    start = baseline[baseline["imbalance"].isin(known)]
    start = start.assign(prevalence=start["imbalance"].map(share))
    methods = [m for m in method_order(trials) if m in set(drawn["method"])]
    limits = _limits(pd.concat([drawn["value"], drawn["lo"], drawn["hi"], start["value"]]))

    def panel(backbone: str) -> Callable[[Axes], object]:
        def draw(ax: Axes) -> None:
            figures.score_vs_imbalance(
                drawn[drawn["backbone"] == backbone],
                metric=metric,
                ax=ax,
                methods=methods,
                baseline=start[start["backbone"] == backbone],
                limits=limits,
                legend=False,
            )
            ax.set_title(backbone_label(backbone))

        return draw

    backbones = [b for b in trials["backbone"].drop_duplicates() if b in set(drawn["backbone"])]
    titles = [
        f"{metric} against the share of defects in pre-training, {backbone_label(b)}: one line per method; "
        "the numbers are in the table of section 2"
        for b in backbones
    ]
    return bundle.plot(
        "score_vs_imbalance",
        titles,
        [panel(b) for b in backbones],
        columns=2,
        width=4.3,
        height=3.1,
        legend=method_entries(methods, baseline=len(start) > 0),
    )


def _limits(values: pd.Series) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 0.02
    return low - pad, high + pad


def _selectors(trials: pd.DataFrame, metric: str, bundle: Bundle) -> list[dict[str, Any]]:
    found, rows = [], []
    for selector in SELECTORS:
        x, y = f"metrics.{selector}", f"metrics.{metric}"
        if x not in trials or y not in trials:
            continue
        points = trials[trials["state"].eq("FINISHED") & np.isfinite(trials[[x, y]].to_numpy(float)).all(axis=1)]
        if points.empty:
            continue
        points = points[points["method"] != SUPERVISED] if (points["method"] != SUPERVISED).any() else points
        table = correlations(points, selector, metric)
        rows.append(table.assign(selector=selector, metric=metric))
        found.append(
            {
                "key": selector,
                "section": _scatter(points, x, y, bundle),
                "rows": table.to_dict("records"),
                "sentence": correlation_sentence(table.iloc[0], selector, metric),
            }
        )
    columns = ["selector", "metric", "level", "n", "rho", "lo", "hi", "p", "note"]
    bundle.table("correlation", pd.concat(rows).reindex(columns=columns) if rows else pd.DataFrame(columns=columns))
    return found


def _scatter(points: pd.DataFrame, x: str, y: str, bundle: Bundle) -> Section:
    levels, backbones = level_order(points["imbalance"].tolist()), sorted(set(points["backbone"]))
    limits = _limits(points[y])

    def panel(method: str) -> Callable[[Axes], object]:
        rows = points[points["method"] == method]
        groups = rows["backbone"].to_numpy(str)
        rho = within_correlation(rows[x].to_numpy(float), rows[y].to_numpy(float), groups, num_boot=0).rho
        shown = np.isfinite(rho) and rows["backbone"].value_counts().max() >= MIN_FOR_RHO
        note = (f"ρ = {rho:+.2f}, ".replace("-", "−") if shown else "") + f"n = {len(rows)}"

        def draw(ax: Axes) -> None:
            figures.selector_scatter(
                rows, x, y, ax=ax, title=method_style(method).label, note=note, levels=levels, backbones=backbones
            )
            ax.set_ylim(*limits)

        return draw

    methods = method_order(points)
    titles = [
        f"{x.removeprefix('metrics.')} against {y.removeprefix('metrics.')}, one point per {m} trial" for m in methods
    ]
    return bundle.plot(
        x.split("/")[-1],
        titles,
        [panel(m) for m in methods],
        columns=3,
        width=2.9,
        height=2.5,
        legend=context_entries(levels, backbones),
    )


def _curve_section(results: StudyResults, trials: pd.DataFrame, bundle: Bundle) -> Section:
    history = results.history()
    if len(history):
        history = history[(history["metric"] == LOSS) & np.isfinite(history["value"].to_numpy(float))]
    curves = (
        history.merge(trials[["key", "method", "backbone", "imbalance", "state"]], on="key")
        if len(history)
        else history
    )
    if curves.empty:
        return Section(missing="No trial has reported a training loss yet.")
    levels, backbones = level_order(curves["imbalance"].tolist()), sorted(set(curves["backbone"]))

    def panel(method: str) -> Callable[[Axes], object]:
        rows = curves[curves["method"] == method]
        return lambda ax: figures.learning_curves(
            rows, ax=ax, title=method_style(method).label, levels=levels, backbones=backbones, ylabel=LOSS
        )

    methods = method_order(curves)
    titles = [f"{LOSS} over epochs, one line per {method} trial" for method in methods]
    return bundle.plot(
        "learning_curves",
        titles,
        [panel(m) for m in methods],
        columns=3,
        width=2.9,
        height=2.2,
        legend=context_entries(levels, backbones, lines=True),
    )


def _sheets(results: StudyResults, trials: pd.DataFrame, metric: str, images: Images | None) -> list[Sheet]:
    """One contact sheet per level, of the trial that scores best among the self-supervised (else all) finished ones."""
    column = f"metrics.{metric}"
    if column not in trials:
        return []
    done = trials[trials["state"].eq("FINISHED") & trials[column].notna()]
    done = done[done["method"] != SUPERVISED] if (done["method"] != SUPERVISED).any() else done
    sheets, data = [], StudyData()
    for level in level_order(done["imbalance"].tolist())[:MAX_SHEETS]:
        here = done[done["imbalance"] == level]
        row = here.sort_values([column, "key"], ascending=[not higher_is_better(metric), True], kind="stable").iloc[0]
        heading = (
            f"{level_label(level)}: {method_style(row['method']).label} on {backbone_label(row['backbone'])}, "
            f"seed {row['seed']}, {metric} {row[column]:.3f}"
        )
        folder = Path(results.study_dir) / "trials" / row["key"]
        try:
            scores = results.scores(row["key"])
        except (AblationError, OSError, ValueError):
            sheets.append(Sheet(row["key"], heading, [], "The trial stored no scores.parquet."))
            continue
        sheets.append(contact_sheet(scores, images or data.images(folder), key=row["key"], heading=heading))
    return sheets


def _failures(results: StudyResults, trials: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Trials that ended without a result, and finished ones with flags."""
    columns = ["key", *CELL, "seed", "state", "reason", "message"]
    failed = trials[trials["state"].isin(["FAILED", "STOPPED", "STALE"])].sort_values(["state", "key"])
    # The message of a stale trial counts its seconds of silence: it would change with every report.
    keys, states = failed["key"].tolist(), failed["state"].tolist()
    messages = [
        None if at == "STALE" else results.store.read_state(key).message for key, at in zip(keys, states, strict=True)
    ]
    failed = failed.assign(message=pd.Series(messages, index=failed.index, dtype=object))
    flags = trials["flags"].map(flag_names)
    flagged = trials.assign(flags=flags.map(", ".join))[trials["state"].eq("FINISHED") & flags.map(bool)]
    return failed[columns].fillna(""), flagged[["key", *CELL, "seed", "flags"]]


def _subsets(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """Pre-training images per level, as text."""
    if not {"num_defects", "num_normals"} <= set(trials):
        return []
    rows = []
    for level in level_order(trials["imbalance"].tolist()):
        known = (
            trials[trials["imbalance"] == level][["num_defects", "num_normals"]].dropna().astype(int).drop_duplicates()
        )
        pairs = sorted(known.itertuples(index=False, name=None))
        if pairs:
            rows.append((level_label(level), " or ".join(f"{d:,} defects + {n:,} normals" for d, n in pairs[:3])))
    return rows


def _render(view: dict[str, Any]) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("ablation"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["inks"] = page_colors
    return environment.get_template("report.html.j2").render(view)
