"""The study's own metrics (``evaluation.metrics``), as tables like that of the main score."""

from __future__ import annotations

import dataclasses

from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Note, Section
from ablation.analysis.sections.scores import score_tables
from ablation.analysis.sections.view import StudyView
from trainers.evaluation.custom import PREFIX


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """None for a study without own metrics, or before any trial has one."""
    names = [str(column).removeprefix("metrics.") for column in view.trials]
    tables = []
    for name in filter(lambda name: name.startswith(PREFIX), names):
        own = StudyView.of(view.results, name)
        bundle.table(name.replace("/", "_"), own.planned)
        for number, table in enumerate(score_tables(own)):
            tables.append(dataclasses.replace(table, name=f"{name.replace('/', '-')}-{number}"))
    if not tables:
        return None
    note = Note("Computed by functions that the study file names, on frozen features. Higher is taken as better, "
                "unless the name ends in loss.")
    return Section("own-metrics", "Own metrics", (note, *tables))
