"""What to do when Ray has ended processes because a node ran low on memory: the same with fewer trials at once."""

from __future__ import annotations

import time
from typing import Any

from ablation.ledger import STOPPED
from ablation.store import StudyStore, TrialState

SIGN = "running low on memory"
"""In Ray's message. Tune does not take it for a lost process but gives the whole study up."""


def message(job: dict[str, Any]) -> str:
    """One line with the fix."""
    return (f"the node ran out of memory at batch_size {job['config']['train']['batch_size']}: lower "
            "train.batch_size, or run fewer trials at once with --max-concurrent")


def fewer_at_once(study: StudyStore, jobs: list[dict[str, Any]], at_once: int | None,
                  retries: int) -> tuple[list[dict[str, Any]], int]:
    """The jobs that are left, and how many may run together from now on.

    A trial that is alone and still does not fit after ``retries`` more attempts ends as FAILED ``out_of_memory``.
    """
    states = {job["key"]: study.read_state(job["key"]) for job in jobs}
    running = [key for key, status in states.items() if status.state in (TrialState.RUNNING, TrialState.STALE)]
    together = len(running) if at_once is None else min(at_once, max(1, len(running)))
    for key in running:
        if together == 1 and states[key].attempt > retries:
            study.update_state(key, state=TrialState.FAILED, reason="out_of_memory", finished=time.time(),
                               message=message(next(job for job in jobs if job["key"] == key)))
        else:
            study.update_state(key, finished=time.time(), **STOPPED)
    done = (TrialState.FINISHED, TrialState.FAILED)
    left = [job for job in jobs if study.read_state(job["key"]).state not in done]
    return left, max(1, together // 2)
