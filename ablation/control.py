"""What a person does to a study from beside its driver: read its log, stop it or a trial of it, let trials run again.

Everything goes through the store: a driver is found by its lock, a trial is asked by a file that its worker looks for
after every epoch. Nothing here needs Ray.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ablation.errors import NothingMatched, StudyLocked
from ablation.ledger import PRUNED
from ablation.store import StudyStore, TrialState
from trainers.config import suggest

STOP_SECONDS = 180.0
"""A driver lets its trials save their epoch, writes the report and brings MLflow up to date before it ends."""
POLL_SECONDS = 0.5
RETRIED = (TrialState.FAILED, TrialState.STOPPED, TrialState.STALE)


def matching_keys(study: StudyStore, wanted: Sequence[str]) -> list[str]:
    """The planned keys, or those of ``wanted``. Raises ``NothingMatched`` for one that is not planned."""
    planned = study.planned_keys()
    for key in wanted:
        if key not in planned:
            raise NothingMatched(f"study '{study.name}' has no trial '{key}'{suggest(key, planned)}; "
                                 f"see: ablation status {study.name}")
    return list(wanted) or planned


def stop_trials(study: StudyStore, keys: Sequence[str]) -> list[str]:
    """Ask running trials to save and end after their present epoch. Returns the keys that were asked."""
    running = [key for key in matching_keys(study, keys) if study.read_state(key).state is TrialState.RUNNING]
    if not running:
        raise NothingMatched(f"study '{study.name}': none of these trials is running")
    for key in running:
        study.request_stop(key)
    return running


def stop_driver(study: StudyStore, patience: float = STOP_SECONDS) -> int:
    """End the driver in order, as Ctrl-C does, and wait for it. Returns its process id.

    On another host it is asked through the store. Raises ``NothingMatched`` when none runs, ``StudyLocked`` when it
    belongs to somebody else or does not end in time.
    """
    holder = study.lock_holder()
    for _ in range(4):
        if holder != {}:
            break
        time.sleep(POLL_SECONDS)  # it is just writing its name, or taking it away
        holder = study.lock_holder()
    if holder is None:
        raise NothingMatched(f"no driver runs study '{study.name}'")
    pid, host = holder.get("pid"), holder.get("host")
    if not isinstance(pid, int):
        raise StudyLocked(f"study '{study.name}' is run by process {pid} on {host}: stop it there")
    if host != socket.gethostname():
        study.request_stop()  # it looks for this at every heartbeat
    else:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            return pid  # it has just ended
        except PermissionError:
            raise StudyLocked(f"process {pid} belongs to another user: only they can stop '{study.name}'") from None
    deadline = time.monotonic() + patience
    while (now := study.lock_holder()) is not None and now.get("pid") == pid:
        if time.monotonic() > deadline:
            raise StudyLocked(f"process {pid} still runs study '{study.name}' after {patience:.0f} s; "
                              f"end it on {host} with: kill -9 {pid}")
        time.sleep(POLL_SECONDS)
    return pid


def retry_trials(study: StudyStore, keys: Sequence[str]) -> list[str]:
    """Make failed, stopped and stale trials PENDING again; they continue from their checkpoints at the next run.

    Raises ``StudyLocked`` while a driver runs: it may be about to write what would be reset. What a search has ended
    stays ended.
    """
    wanted = matching_keys(study, keys)
    if not any(study.read_state(key).state in RETRIED for key in wanted):
        raise NothingMatched(f"study '{study.name}': none of these trials has failed or was stopped")
    with study.lock():
        states = {key: study.read_state(key) for key in wanted}
        chosen = [key for key, status in states.items()
                  if status.state in RETRIED and status.reason != PRUNED["reason"]]
        for key in chosen:
            study.reset(key)
    return chosen


def log_lines(study: StudyStore, keys: Sequence[str], follow: bool = False) -> Iterator[str]:
    """Lines of the trials' logs, then the traceback of a failed one. With several trials each line begins with its key.

    ``follow``: go on until no driver runs.
    """
    chosen = matching_keys(study, keys)
    seen: dict[Path, int] = {}
    while True:
        alive = study.lock_holder() is not None
        for key in chosen:
            for name in ("log.txt", "error.txt"):
                for line in _new_lines(study.trial_dir(key) / name, seen):
                    yield line if len(chosen) == 1 else f"{key}: {line}"
        if not (follow and alive):
            return
        time.sleep(POLL_SECONDS)


def _new_lines(path: Path, seen: dict[Path, int]) -> list[str]:
    """Whole lines behind what was read before; a file that was replaced by a shorter one is read anew."""
    try:
        data = path.read_bytes()
    except OSError:
        return []
    start = seen.get(path, 0) if len(data) >= seen.get(path, 0) else 0
    end = len(data) if path.name == "error.txt" else data.rfind(b"\n", start) + 1 or start
    seen[path] = max(start, end)
    return data[start:end].decode(errors="replace").splitlines()
