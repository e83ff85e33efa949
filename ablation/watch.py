"""Notices running trials whose process has gone silent, and has it ended, so that Tune starts the trial anew."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from ablation.events import Event, OnEvent
from ablation.store import HEARTBEAT_SECONDS, STALE_SECONDS, StudyStore, TrialState, TrialStatus


@dataclass
class _Pulse:
    """The last heartbeat of a trial, and when this process first saw it, by a clock that never jumps."""

    heartbeat: float | None
    seen: float
    ended_attempt: int = 0


def stop_this_process() -> None:
    """As ``kill PID`` would: the driver ends in order."""
    os.kill(os.getpid(), signal.SIGTERM)


class Watch:
    """Looks at the trials that have begun, and for a request to stop from another machine.

    ``end`` must kill the process that a status names, wherever it is.
    """

    def __init__(self, study: StudyStore, end: Callable[[TrialStatus], None], tell: OnEvent,
                 stop: Callable[[], None] = stop_this_process) -> None:
        self._study, self._end, self._tell, self._stop = study, end, tell, stop
        self._lock = threading.Lock()
        self._pulses: dict[str, _Pulse] = {}
        self._closed = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._looking, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()
        self._thread.join(timeout=HEARTBEAT_SECONDS)

    def began(self, key: str) -> None:
        with self._lock:
            before = self._pulses.get(key)
            self._pulses[key] = _Pulse(None, time.monotonic(), before.ended_attempt if before else 0)

    def ended(self, key: str) -> None:
        with self._lock:
            self._pulses.pop(key, None)

    def look(self, now: float) -> None:
        """End what has been silent for ``STALE_SECONDS`` at ``now`` (monotonic seconds), each attempt once."""
        with self._lock:
            pulses = list(self._pulses.items())
        for key, pulse in pulses:
            status = self._study.read_state(key)
            if status.heartbeat != pulse.heartbeat:
                pulse.heartbeat, pulse.seen = status.heartbeat, now
            silent = now - pulse.seen
            alive = status.state not in (TrialState.RUNNING, TrialState.STALE) or silent < STALE_SECONDS
            if alive or status.attempt <= pulse.ended_attempt:
                continue
            pulse.ended_attempt = status.attempt
            self._tell(Event("warning", f"{key}: no sign of life for {silent:.0f} s, its process is ended"))
            self._end(status)

    def _looking(self) -> None:
        while not self._closed.wait(HEARTBEAT_SECONDS):
            if not self._stopping and self._study.stop_requested():
                self._stopping = True
                self._study.clear_stop()
                self._stop()
            try:
                self.look(time.monotonic())
            except Exception as error:  # a store that is briefly away: the next look sees it
                self._tell(Event("warning", f"could not look after the trials: {error}"))
