"""What MLflow's page shows of a study: saved views under "Views", and links that open them. Never imports mlflow.

The page keeps a saved view as a tag of the experiment. The format is that of MLflow 3.17's web page, which has no
documentation; tests/integration/test_study.py opens the page in a browser.
"""

from __future__ import annotations

import json
from typing import Any

CURVES, SCORES = ("train/loss",), ("probe/auroc", "probe_fixed/auroc", "random_init/auroc", "label_free/rankme")
SCATTER = ("label_free/rankme", "probe/auroc")
COLUMNS = (*(f"tags.`{name}`" for name in ("method", "backbone", "imbalance", "seed", "state")),
           *(f"metrics.`{name}`" for name in ("train/loss", *SCORES)))
VIEWS = {"methods": ("Methods", ("method",)), "cells": ("Cells", ("method", "backbone", "imbalance"))}
SECTION = "ablation"
VIEW_TAG = "mlflow.sharedViewState."
TRAINING = "?workflowType=machine_learning"
"""Without it the page shows its part for language models."""
TRIALS = "tags.method LIKE '%'"
"""The page's own query language: trials have a method, the runs of study and searches have none."""


def experiment_tags(created: int) -> dict[str, str]:
    """Tags of a study's experiment. ``created``: milliseconds since 1970, shown nowhere but needed to be a view."""
    tags = {"mlflow.experimentKind": "custom_model_development",
            "mlflow.experiment.primaryMetric.name": "probe/auroc",
            "mlflow.experiment.primaryMetric.greaterIsBetter": "True"}
    for key, (name, factors) in VIEWS.items():
        tags[VIEW_TAG + key] = json.dumps(
            {"name": name, "createdAt": created, "updatedAt": created, "state": json.dumps(_state(factors))})
    return tags


def view_path(experiment_id: str, view: str = "methods") -> str:
    """Fragment of the address that opens a view as charts."""
    return f"#/experiments/{experiment_id}/runs{TRAINING}&compareRunsMode=CHART&viewStateShareKey={view}"


def _state(factors: tuple[str, ...]) -> dict[str, Any]:
    """Runs in groups of equal ``factors``: lines are means with the spread of their group."""
    charts = [_chart("LINE", name, metricKey=name, xAxisKey="step") for name in CURVES]
    charts += [_chart("BAR", name, metricKey=name) for name in SCORES]
    x, y = SCATTER
    charts.append(_chart("SCATTER", f"{y} against {x}", xaxis={"key": x, "type": "METRIC"},
                         yaxis={"key": y, "type": "METRIC"}))
    return {
        "searchFilter": TRIALS, "orderByKey": "metrics.`probe/auroc`", "orderByAsc": False,
        "selectedColumns": list(COLUMNS), "runsHiddenMode": "SHOW_ALL", "hideEmptyCharts": True,
        "groupBy": {"aggregateFunction": "average",
                    "groupByKeys": [{"mode": "tag", "groupByData": name} for name in factors]},
        "useGroupedValuesInCharts": True, "isAccordionReordered": True, "compareRunCharts": charts,
        "compareRunSections": [{"uuid": SECTION, "name": "Loss and scores", "display": True, "isReordered": True,
                                "deleted": False, "isGenerated": False}]}


def _chart(kind: str, title: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "uuid": f"{SECTION}-{title}", "displayName": title, "metricSectionId": SECTION,
            "runsCountToCompare": 20, "deleted": False, "isGenerated": False, **fields}
