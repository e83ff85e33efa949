"""``status --watch``: what fits the screen, a line each, and what runs above what waits."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

from ablation.commands import watch_screen


def status(num_trials: int) -> pd.DataFrame:
    """Every tenth trial runs, every seventh has failed, the first forty have ended."""
    rows = []
    for number in range(num_trials):
        state = "RUNNING" if number % 10 == 0 else "FAILED" if number % 7 == 0 else "PENDING"
        state = "FINISHED" if number < 40 else state
        rows.append({"key": f"barlow_twins-vit_tiny-p0.05-s{number}-{number:08x}", "state": state, "epoch": 3,
                     "epochs": 100, "attempt": 1, "host": "node", "heartbeat": "2 s ago" if state == "RUNNING" else "",
                     "flags": ["collapsed"] if state == "RUNNING" else [], "reason": "diverged",
                     "message": f"loss is nan {'and more ' * 30}" if state == "FAILED" else None})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50)])
def test_a_long_study_fits_the_screen(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height)
    lines = console.render_lines(watch_screen(status(250), height), pad=False)
    texts = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(texts) == height - 1
    assert all(text.startswith("barlow_twins-") for text in texts[:-1])
    assert all("RUNNING  epoch 3/100  2 s ago" in text for text in texts[:21])
    assert "FAILED" in texts[21]
    assert texts[-1] == "250 trials: 162 PENDING, 40 FINISHED, 27 FAILED, 21 RUNNING"


def test_a_short_study_keeps_its_order() -> None:
    console = Console(file=io.StringIO(), width=120, height=50)
    with console.capture() as shown:
        console.print(watch_screen(status(45), 50))
    lines = shown.get().splitlines()
    assert [f"-s{number}-" in line for number, line in enumerate(lines[:-1])] == [True] * 45
    assert lines[-1].startswith("45 trials: 40 FINISHED")
