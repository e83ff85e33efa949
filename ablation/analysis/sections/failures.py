"""Trials that ended without a result, and finished ones with flags."""

from __future__ import annotations

import pandas as pd

from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Block, Bullets, Columns, Heading, Section, Table, Text, code
from ablation.analysis.findings import flag_names
from ablation.analysis.formats import words
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import backbone_label, level_label, method_style
from ablation.analysis.tables import CELL

TITLE = "Trials without a result"


def section(view: StudyView, bundle: Bundle) -> Section:
    """Every trial that failed, was stopped or went stale, with its reason."""
    failures = _failures(view)
    bundle.table("failures", failures)
    blocks: list[Block] = [Text("None: no trial failed, was stopped or went stale.")]
    if len(failures):
        columns: Columns = {
            "key": ("Trial", code),
            "method": ("Method", lambda method: method_style(method).label),
            "backbone": ("Backbone", backbone_label),
            "imbalance": ("Imbalance", level_label),
            "seed": ("Seed", words),
            "state": ("State", words),
            ("reason", "message"): ("Reason", _reason),
        }
        blocks = [Table.from_frame("failures", "Failed, stopped and stale trials", failures, columns)]
    flags = view.trials["flags"].map(flag_names)
    flagged = view.trials["state"].eq("FINISHED") & flags.map(bool)
    if flagged.any():
        items = zip(view.trials["key"][flagged], flags[flagged], strict=True)
        lines = tuple(f"{code(key)}: {', '.join(names)}" for key, names in items)
        blocks += [Heading("Finished, but flagged"), Bullets(lines)]
    return Section("failures", TITLE, tuple(blocks))


def _reason(reason: str, message: str) -> str:
    return (reason or "none recorded") + (f": {message}" if message else "")


def _failures(view: StudyView) -> pd.DataFrame:
    trials = view.trials
    failed = trials[trials["state"].isin(["FAILED", "STOPPED", "STALE"])].sort_values(["state", "key"])
    # The message of a stale trial counts its seconds of silence: it would change with every report.
    keys, states = failed["key"].tolist(), failed["state"].tolist()
    messages = [
        None if at == "STALE" else view.results.store.read_state(key).message
        for key, at in zip(keys, states, strict=True)
    ]
    failed = failed.assign(message=pd.Series(messages, index=failed.index, dtype=object))
    return failed[["key", *CELL, "seed", "state", "reason", "message"]].fillna("")
