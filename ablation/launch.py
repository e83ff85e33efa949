"""The beginning and the end of a launch: what the store says of its trials, and the report. No Ray."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path

from ablation.events import Event, OnEvent
from ablation.ledger import PRUNED, STOPPED
from ablation.store import Store, StudyStore, TrialState


def make_pending(study: StudyStore, key: str) -> None:
    """What an earlier launch said of a trial (failed, asked to stop) says nothing of this one."""
    study.clear_stop(key)
    status = study.written_status(key)
    if status.reason == PRUNED["reason"]:
        study.truncate_history(key, 0)  # it has no checkpoint and begins anew
    if status.state is not TrialState.PENDING and status.reason != "unreadable":
        study.write_state(key, dataclasses.replace(status, state=TrialState.PENDING, reason=None, message=None,
                                                   heartbeat=None, finished=None, flags=()))


def settle(study: StudyStore, keys: list[str], begun: float) -> None:
    """No trial of this launch may stay RUNNING once its driver is gone."""
    for key in keys:
        status = study.read_state(key)
        waiting = status.state is TrialState.PENDING and status.attempt  # of an earlier launch: it has a checkpoint
        if waiting or (status.state in (TrialState.RUNNING, TrialState.STALE) and (status.started or 0) >= begun):
            study.update_state(key, finished=time.time(), **STOPPED)


def write_report(study: StudyStore, store: Store, tell: OnEvent) -> Path | None:
    """The report, and the winners of a search as study files: worth a warning, never a study.

    ``ABLATION_REPORT=0``: no report.
    """
    from ablation.results import load_study
    from ablation.search_results import write_winners

    try:
        write_winners(study)
        if os.environ.get("ABLATION_REPORT") == "0":
            return None
        tell(Event("phase", "writing the report"))
        results = load_study(study.name, store=store.root)
        return results.report(say=lambda text: tell(Event("phase", text))).parent
    except Exception as error:
        tell(Event("warning", f"no report: {type(error).__name__}: {error}"))
        return None
