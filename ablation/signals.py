"""What signals do to a driver: Ctrl-C and SIGTERM end it in order; what it owes to readers it still writes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def on_signal(handle: Callable[[int, Any], Any], number: int = signal.SIGTERM) -> Iterator[list[int]]:
    """Handle a signal (default SIGTERM) this way; outside the main thread, where Python cannot, leave it.

    Yields a list that grows with each signal.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return

    def note_and_handle(number: int, frame: Any) -> None:
        came.append(number)
        handle(number, frame)

    before = signal.signal(number, note_and_handle)
    try:
        yield came
    finally:
        signal.signal(number, before if before is not None else signal.SIG_DFL)


def interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt("terminated")


def stop_tune(number: int, frame: Any) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)


def finish_first(number: int, frame: Any) -> None:
    """The report and the MLflow copy take seconds; half of them would be worth less than the wait."""
