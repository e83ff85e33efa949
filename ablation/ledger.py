"""What one running trial writes about itself: state with heartbeat, history, result. One writer per trial."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from ablation.errors import StoreError
from ablation.machine_load import machine_load
from ablation.store import HEARTBEAT_SECONDS, StudyStore, TrialState, TrialStatus
from trainers.records import EpochReport, TrainResult

STOPPED: dict[str, Any] = {"state": TrialState.STOPPED, "reason": "stopped",
                           "message": "interrupted; run again to continue"}
ASKED: dict[str, Any] = {"state": TrialState.STOPPED, "reason": "stop_requested",
                         "message": "stopped by 'ablation stop'; run again to continue"}

PRUNED: dict[str, Any] = {"state": TrialState.STOPPED, "reason": "pruned",
                          "message": "ended early by the search"}


class Ledger:
    """Opens a trial as RUNNING and beats until it ends. Usable without Ray."""

    def __init__(self, store: StudyStore, key: str, epochs: int, alive: Callable[[], bool] = lambda: True) -> None:
        """``alive`` is asked before every beat: silent while it says no."""
        self.store, self.key = store, key
        self._alive = alive
        self._lock = threading.Lock()
        self._closed = threading.Event()
        before = store.written_status(key)
        self._status = TrialStatus(
            state=TrialState.RUNNING, started=time.time(), heartbeat=time.time(), epoch=0, epochs=epochs,
            attempt=before.attempt + 1, host=socket.gethostname(), pid=os.getpid())
        store.write_state(key, self._status)
        self._beat = threading.Thread(target=self._beating, name=f"heartbeat-{key}", daemon=True)
        self._beat.start()

    @property
    def status(self) -> TrialStatus:
        return self._status

    def log(self, message: str) -> None:
        """One line for people, in ``log.txt``. A full disk may not end the trial over a log line."""
        with contextlib.suppress(OSError), (self.store.trial_dir(self.key) / "log.txt").open("a") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def report(self, report: EpochReport) -> None:
        """Append an epoch; lines that a resumed trial repeats are replaced."""
        self._require_mine()
        history = self.store.read_history(self.key) if report.epoch == 1 or self._status.epoch == 0 else []
        if any(record["step"] >= report.step for record in history):
            self.store.truncate_history(self.key, report.step - 1)
        self.store.append_history(self.key, dataclasses.asdict(report))
        self._change(epoch=report.epoch, heartbeat=time.time(), flags=tuple(report.flags), load=machine_load())

    def finish(self, result: TrainResult) -> None:
        """The result first: from then on the trial is FINISHED, whatever happens to this process."""
        self._require_mine()
        self.store.write_result(self.key, dataclasses.asdict(result))
        self._close(TrialState.FINISHED, flags=tuple(result.flags), epoch=result.epochs)

    def fail(self, reason: str, message: str, details: str) -> None:
        self._require_mine()
        self.store.write_error(self.key, details)
        self._close(TrialState.FAILED, reason=reason, message=message)

    def stop(self) -> None:
        """Leave an unfinished trial STOPPED; it continues from its checkpoint at the next run."""
        if self._status.state is TrialState.RUNNING:
            self._close(**STOPPED)

    def stop_as_asked(self) -> None:
        """As ``stop``, for a trial that a person has stopped."""
        self._close(**ASKED)

    def prune(self) -> None:
        """End for good a trial that its search has no further use for."""
        self._close(**PRUNED)

    def _close(self, state: TrialState, **changes: Any) -> None:
        self._closed.set()
        self._change(state=state, finished=time.time(), **changes)
        self.store.clear_stop(self.key)

    def abandon(self) -> None:
        """Write nothing more: what becomes of the trial is for the driver to say."""
        self._closed.set()
        self._status = dataclasses.replace(self._status, state=TrialState.STALE)

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._write(dataclasses.replace(self._status, **changes))

    def _write(self, status: TrialStatus) -> None:
        self._require_mine()
        self._status = status
        self.store.write_state(self.key, status)

    def _require_mine(self) -> None:
        """A later attempt, or another process, means that this one is left over from a driver that was killed: it may
        say no more."""
        now, mine = self.store.written_status(self.key), self._status
        other = (now.pid, now.host) not in ((mine.pid, mine.host), (None, None))
        if now.attempt > mine.attempt or (now.attempt == mine.attempt and other):
            raise StoreError(f"{self.key}: another process has taken this trial over")

    def _beating(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            if not self._alive():
                continue
            try:
                with self._lock:
                    if self._closed.is_set():
                        return
                    self._write(dataclasses.replace(self._status, heartbeat=time.time(), load=machine_load()))
            except Exception:  # a store that is briefly away must not end the beat; the next one tries again
                continue
