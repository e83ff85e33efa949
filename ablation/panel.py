"""The live view of a running study: at most 25 lines on a terminal, one line per event anywhere else. On stderr."""

from __future__ import annotations

import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablation.events import Event

MAX_RUNNING, MAX_NOTES = 10, 5
EPOCH_LINE_SECONDS = 20.0
"""Without a terminal, a trial's epochs are said no more often than this."""


class Panel:
    """Feed it every ``Event`` of ``ablation.run(on_event=panel)``; use it as a context manager."""

    def __init__(self, name: str, epochs: dict[str, int], num_finished: int, console: Console,
                 num_planned: int | None = None) -> None:
        """``num_planned``: of a search, whose trials are not known yet."""
        self.name, self.epochs, self.console = name, epochs, console
        self.num_planned, self.num_before = num_planned or len(epochs), num_finished
        self.num_pruned = 0
        self.usual = max(epochs.values(), default=0)
        self.begun = time.monotonic()
        self.running: dict[str, tuple[int, str]] = {}
        self.done: dict[str, float | None] = {}
        self.failed: dict[str, str] = {}
        self.notes: deque[str] = deque(maxlen=MAX_NOTES)
        self._said: dict[str, float] = {}
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True) \
            if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
        if kind is None or self.running or self.done or self.failed:  # else it ended before anything began
            self.console.print(self.summary(), highlight=False)

    def __call__(self, event: Event) -> None:
        self._record(event)
        if self._live is None:
            line = self.line(event)
            if line:
                self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _record(self, event: Event) -> None:
        if event.kind in ("start", "epoch"):
            self.running[event.key] = (event.epoch, event.text)
        elif event.kind in ("finished", "failed", "stopped", "pruned", "retry"):
            self.running.pop(event.key, None)
        if event.kind == "finished":
            self.done[event.key] = event.score
        self.num_pruned += event.kind == "pruned"
        if event.kind == "failed":
            self.failed[event.key] = event.text
        if event.kind in ("note", "warning", "retry", "failed", "stopped") or (event.kind == "finished" and event.text):
            self.notes.append(f"{event.kind}: {event.key} {event.text}".replace("  ", " ").removeprefix("note: "))

    def line(self, event: Event) -> str:
        """One line of a log, or "" for what would only repeat itself."""
        if event.kind == "epoch":
            now = time.monotonic()
            if now - self._said.get(event.key, self.begun) < EPOCH_LINE_SECONDS:
                return ""
            self._said[event.key] = now
            return f"  {event.key}  epoch {event.epoch}/{self.epochs.get(event.key, self.usual)}  {event.text}"
        if event.kind in ("note", "warning"):
            return event.text if event.kind == "note" else f"warning: {event.text}"
        count = f"[{self.num_ended}/{self.num_planned}]"
        score = "" if event.score is None else f"  probe/auroc {event.score:.3f}"
        return f"{count} {event.kind:<8} {event.key}{score}  {event.text}".rstrip()

    @property
    def num_ended(self) -> int:
        return self.num_before + len(self.done) + len(self.failed) + self.num_pruned

    def summary(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        pruned = f"{self.num_pruned} ended early, " if self.num_pruned else ""
        return (f"{self.name}: {self.num_before + len(self.done)} of {self.num_planned} finished, {pruned}"
                f"{len(self.failed)} failed, {minutes} min {seconds:02d} s")

    def render(self) -> Any:
        """The whole panel; 25 lines at most whatever the study's size."""
        head = Table.grid(padding=(0, 2))
        head.add_row(Text(self.name, "bold"), ProgressBar(self.num_planned, self.num_ended, width=30),
                     f"{self.num_ended}/{self.num_planned}", f"{len(self.failed)} failed", self._eta())
        rows = Table.grid(padding=(0, 2))
        for key, (epoch, text) in list(self.running.items())[:MAX_RUNNING]:
            rows.add_row("", key, f"epoch {epoch}/{self.epochs.get(key, self.usual)}", text)
        if len(self.running) > MAX_RUNNING:
            rows.add_row("", f"… and {len(self.running) - MAX_RUNNING} more running")
        best = sorted(((score, key) for key, score in self.done.items() if score is not None), reverse=True)[:3]
        lines = [Text(f"  best   {key}  {score:.3f}", "green") for score, key in best]
        notes = [Text(f"  {note}", "yellow", no_wrap=True, overflow="ellipsis") for note in self.notes]
        return Group(head, rows, *lines, *notes)

    def _eta(self) -> str:
        """From epochs done in this launch; says nothing before the first."""
        steps = sum(epoch for epoch, _ in self.running.values())
        steps += sum(self.epochs.get(key, self.usual) for key in (*self.done, *self.failed))
        mean = sum(self.epochs.values()) / max(1, len(self.epochs))
        total = mean * (self.num_planned - self.num_before)
        elapsed = time.monotonic() - self.begun
        if not steps:
            return f"{elapsed:.0f} s"
        left = elapsed * max(0.0, total - steps) / steps
        return f"{elapsed:.0f} s, about " + (f"{left / 60:.0f} min left" if left > 90 else f"{left:.0f} s left")
