"""What to do when Ray has ended processes because a node ran low on memory: the same with fewer trials at once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ablation.ledger import ASKED, STOPPED
from ablation.store import StudyStore, TrialState

if TYPE_CHECKING:
    from ablation.trial import Trial

SIGN = "running low on memory"
"""In Ray's message. Tune does not take it for a lost process but gives the whole study up."""


def message(batch_size: int | None) -> str:
    """One line with the fix."""
    return (f"the node ran out of memory at batch_size {batch_size}: lower train.batch_size, or run fewer trials at "
            "once with --max-concurrent")


def fewer_at_once(study: StudyStore, trials: list[Trial], at_once: int | None, retries: int,
                  before: Mapping[str, int] | None = None) -> tuple[list[Trial], int]:
    """The trials that are left, and how many may run together from now on.

    A trial that is alone and still does not fit after ``retries`` more attempts ends as FAILED ``out_of_memory``;
    ``before`` has the attempts of earlier launches.
    Where processes are ended before any trial has begun, the first one pays for it, so that this comes to an end.
    """
    done = (TrialState.FINISHED, TrialState.FAILED)
    states = {trial.key: study.read_state(trial.key) for trial in trials}
    left = [trial for trial in trials if states[trial.key].state not in done
            and states[trial.key].reason != ASKED["reason"]]
    struck = [trial for trial in left if states[trial.key].state in (TrialState.RUNNING, TrialState.STALE)]
    together = max(1, len(struck)) if at_once is None else min(at_once, max(1, len(struck)))
    for trial in struck or left[:1]:
        attempt = states[trial.key].attempt + (not struck)
        if together == 1 and attempt - (before or {}).get(trial.key, 0) > retries:
            study.update_state(trial.key, state=TrialState.FAILED, reason="out_of_memory", attempt=attempt,
                               finished=time.time(), message=message(trial.config.train.batch_size))
            study.write_error(trial.key, message(trial.config.train.batch_size))
            left.remove(trial)
        else:
            study.update_state(trial.key, attempt=attempt, finished=time.time(), **STOPPED)
    return left, max(1, together // 2)
