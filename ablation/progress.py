"""How far a long command is: a bar with time left on a terminal, a line now and then anywhere else. On stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ablation.console import note

LINE_SECONDS = 10.0


@contextmanager
def progress(what: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Call what it gives with every so many that are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, emoji=False)
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
                   TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda number: bar.advance(task, number)
        return
    begun = said = time.monotonic()
    done = 0

    def advance(number: int) -> None:
        nonlocal done, said
        done += number
        now = time.monotonic()
        if now - said > LINE_SECONDS and done < total:
            left = (total - done) * (now - begun) / done if done else 0.0
            note(f"{what}: {done} of {total} {unit}, about {left:.0f} s left")
            said = now

    yield advance
