"""The live view of a running study: at most 25 lines on a terminal, one line per event anywhere else. On stderr."""

from __future__ import annotations

import threading
import time
from collections import deque
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ablation.console import one_line, one_line_grid, redraws
from ablation.events import Event
from trainers.countdown import duration

MAX_LINES, MAX_RUNNING, MAX_BEST, MAX_NOTES = 25, 12, 3, 5
EPOCH_LINE_SECONDS = 20.0
"""Without a terminal, a trial's epochs are said no more often than this."""
ENDS = ("finished", "failed", "stopped", "pruned", "retry")


class Panel:
    """Feed it every ``Event`` of ``ablation.run(on_event=panel)``, from any thread; use it as a context manager."""

    def __init__(self, name: str, epochs: dict[str, int], num_finished: int, console: Console,
                 num_planned: int | None = None) -> None:
        """``num_planned``: of a search, whose trials are not known yet."""
        self.name, self.epochs, self.console = name, epochs, console
        self.num_planned, self.num_before = num_planned or len(epochs), num_finished
        self.usual = max(epochs.values(), default=0)
        self.mean = sum(epochs.values()) / max(1, len(epochs))
        self.begun = time.monotonic()
        self.phase = ""
        self.running: dict[str, tuple[int, str, float]] = {}
        self.done: dict[str, float | None] = {}
        self.failed: set[str] = set()
        self.num_pruned = 0
        self.notes: deque[str] = deque(maxlen=MAX_NOTES)
        self._evaluations: deque[float] = deque(maxlen=20)
        self._work = 0.0
        self._said: dict[str, float] = {}
        self._lock = threading.Lock()
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True) \
            if redraws(console) else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
        self._print(self.summary())

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._record(event)
        line = self.line(event) if self._live is None or event.kind == "warning" else ""
        if line:
            self._print(line)

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _record(self, event: Event) -> None:
        kind, key, now = event.kind, event.key, time.monotonic()
        if kind == "phase":
            self.phase = event.text
        elif kind == "start":
            self.phase = ""
        if kind in ("start", "epoch"):
            self.running[key] = (event.epoch, event.text, now)
        elif kind in ENDS:
            epoch, _, since = self.running.pop(key, (0, "", now))
            if kind == "finished" and epoch >= self._budget(key):
                self._evaluations.append(now - since)
        if kind in ("finished", "failed", "pruned"):
            self._work += self._budget(key) + 1
        if kind == "finished":
            self.done[key] = event.score
        self.num_pruned += kind == "pruned"
        if kind == "failed":
            self.failed.add(key)
        if kind in ("retry", "failed", "stopped") or (kind == "finished" and event.text):
            self.notes.append(f"{kind}: {key} {event.text}")

    def line(self, event: Event) -> str:
        """One line of a log, or "" for what would only repeat itself."""
        if event.kind == "epoch":
            now = time.monotonic()
            if now - self._said.get(event.key, self.begun) < EPOCH_LINE_SECONDS:
                return ""
            self._said[event.key] = now
            return f"  {event.key}  epoch {event.epoch}/{self._budget(event.key)}  {event.text}"
        if event.kind in ("phase", "warning"):
            return event.text if event.kind == "phase" else f"warning: {event.text}"
        count = f"[{self.num_ended}/{self.num_planned}]"
        score = "" if event.score is None else f"  probe/auroc {event.score:.3f}"
        return f"{count} {event.kind:<8} {event.key}{score}  {event.text}".rstrip()

    @property
    def num_ended(self) -> int:
        return self.num_before + len(self.done) + len(self.failed) + self.num_pruned

    def _budget(self, key: str) -> int:
        return self.epochs.get(key, self.usual)

    def summary(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.begun), 60)
        pruned = f"{self.num_pruned} ended early, " if self.num_pruned else ""
        return (f"{self.name}: {self.num_before + len(self.done)} of {self.num_planned} finished, {pruned}"
                f"{len(self.failed)} failed, {minutes} min {seconds:02d} s")

    def render(self) -> Any:
        """The whole panel; each entry takes one line, and all of them fit the screen."""
        with self._lock:
            best = sorted(((score, key) for key, score in self.done.items() if score is not None), reverse=True)
            room = min(MAX_LINES, self.console.height - 1)
            best, notes = best[:min(MAX_BEST, room // 7)], list(self.notes)[-(room // 4):]
            left = room - 1 - bool(self.phase) - len(best) - len(notes)
            shown = max(1, min(MAX_RUNNING, len(self.running), left - (len(self.running) > left)))
            entries: list[Any] = [self._head()]
            entries += [one_line(f"  {self.phase}", "cyan")] if self.phase else []
            entries += [self._rows(shown)] if self.running else []
            entries += [one_line(f"  best   {score:.3f}  {key}", "green") for score, key in best]
            entries += [one_line(f"  {note}", "yellow") for note in notes]
        return Group(*entries)

    def _head(self) -> Table:
        head = one_line_grid(True, False, False, False, False)
        failed = Text(f"{len(self.failed)} failed", "red" if self.failed else "")
        head.add_row(one_line(self.name, "bold"), ProgressBar(self.num_planned, self.num_ended, width=20),
                     f"{self.num_ended}/{self.num_planned}", failed, self._eta())
        return head

    def _rows(self, shown: int) -> Table:
        rows = one_line_grid(True, False, True)
        now = time.monotonic()
        for key, (epoch, text, since) in list(self.running.items())[:shown]:
            budget = self._budget(key)
            doing = f"epoch {epoch}/{budget}"
            if 0 < budget <= epoch:
                doing = "evaluating"
                if self._evaluations:
                    left = sum(self._evaluations) / len(self._evaluations) - (now - since)
                    doing += f", {duration(left, 1)} left" if left > 1 else ""
            rows.add_row(one_line(f"  {key}"), doing, one_line(text))
        if len(self.running) > shown:
            rows.add_row(f"  and {len(self.running) - shown} more", "", "")
        return rows

    def _eta(self) -> str:
        """From epochs done in this launch, an evaluation counting as one; says nothing before the first."""
        elapsed = time.monotonic() - self.begun
        work = self._work + sum(epoch for epoch, _, _ in self.running.values())
        total = (self.mean + 1) * (self.num_planned - self.num_before)
        if not work:
            return duration(round(elapsed))
        return f"{duration(round(elapsed))}, about {duration(elapsed * max(0.0, total - work) / work, 1)} left"
