"""The panel of a running study: a bounded block of whole lines on a terminal, plain lines anywhere else."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ablation.events import Event
from ablation.panel import MAX_LINES, Panel

LONG = "my_own_method_with_a_very_long_name-swin_tiny_patch4_window7_224-p0.123456"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def busy_panel(console: Console, running: int = 60, name: str = "a-study-with-a-rather-long-name-of-its-own") -> Panel:
    """250 trials of which many run, are evaluated, have failed or repeated, and a phase with a long path."""
    keys = [f"{LONG}-s{number}-{number:08x}" for number in range(250)]
    panel = Panel(name, dict.fromkeys(keys, 100), 20, console)
    for number, key in enumerate(keys[:running]):
        panel._record(Event("start", key=key))
        panel._record(Event("epoch", "loss 1234.5678", key, 100 if number % 3 == 0 else 7))
    for key in keys[running:running + 40]:
        panel._record(Event("finished", "collapsed,no_progress", key, 100, score=0.5))
    for key in keys[running + 40:running + 60]:
        panel._record(Event("failed", f"error: FileNotFoundError: {'/a/long/path' * 20}\nsecond line", key))
    panel._record(Event("phase", f"decoding 100000 images to /{'folder/' * 30}: needs 4000 MB, about 3 min left"))
    return panel


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("height", [12, 24, 50])
def test_the_panel_fits_every_screen_and_nothing_wraps(width: int, height: int) -> None:
    console = Console(file=io.StringIO(), width=width, height=height)
    panel = busy_panel(console)
    lines = console.render_lines(panel.render(), pad=False)
    texts = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert len(texts) <= min(MAX_LINES, height - 1)
    assert all(len(text) <= width for text in texts)
    starts = ("a-", "  decoding", f"  {LONG[:9]}", "  and ", "  best   0.500", "  failed: ")
    assert all(text.startswith(starts) for text in texts), texts  # no line is the rest of another
    head = texts[0]
    assert "80/250" in head
    assert "20 failed" in head
    assert " left" in head
    rows = [text for text in texts if text.startswith(f"  {LONG[:9]}")]
    assert all("epoch 7/100" in row or "evaluating" in row for row in rows)
    [more] = [text for text in texts if text.startswith("  and ")]
    assert more == f"  and {60 - len(rows)} more"
    if width == 200:
        assert any(f"{LONG}-s0-00000000" in row and "loss 1234.5678" in row for row in rows)


@pytest.mark.parametrize("setting", [{"CI": "true", "FORCE_COLOR": "1"}, {"TERM": "dumb"}, {}], ids=str)
def test_where_nothing_can_be_drawn_over_there_are_plain_lines(setting: dict[str, str],
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    stream = Terminal() if setting else io.StringIO()  # a file where nothing is said
    key = f"{LONG}-s0-00000000"
    with Panel("tiny", {key: 2}, 0, Console(file=stream)) as panel:
        panel(Event("phase", "decoded 10/20 images, about 3 s left"))
        panel(Event("start", key=key))
        panel(Event("warning", f"{key}: [red]no sign of life[/red]"))
        panel(Event("finished", "", key, 2, score=0.75))
    lines = stream.getvalue().splitlines()
    assert lines == ["decoded 10/20 images, about 3 s left", f"[0/1] start    {key}",
                     f"warning: {key}: [red]no sign of life[/red]", f"[1/1] finished {key}  probe/auroc 0.750",
                     "tiny: 1 of 1 finished, 0 failed, 0 min 00 s"]


def test_a_terminal_without_colours_is_drawn_over_and_keeps_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    with Panel("tiny", {"key": 2}, 0, Console(file=stream, width=80, height=24)) as panel:
        panel(Event("start", key="key"))
        panel(Event("warning", "MLflow cannot be used"))
        panel(Event("failed", "diverged: loss is nan", "key"))
    written = stream.getvalue()
    assert "warning: MLflow cannot be used\n" in written
    assert "\x1b[?25l" in written  # the cursor hides while the block is redrawn
    assert "\x1b[?25h" in written
    assert not any(f"\x1b[{color}m" in written for color in (31, 32, 33, 36))
    assert written.endswith("tiny: 0 of 1 finished, 1 failed, 0 min 00 s\n")


def test_time_left_counts_epochs_and_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("ablation.panel.time.monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), width=120, height=30)
    panel = Panel("tiny", dict.fromkeys("abcd", 4), 0, console)
    panel(Event("start", key="a"))
    for epoch in (1, 2, 3, 4):
        now[0] += 10
        panel(Event("epoch", "loss 1.0", "a", epoch))
    now[0] += 10
    panel(Event("finished", key="a", score=0.6))  # 5 of 20 steps in 50 s
    panel(Event("start", key="b"))
    panel(Event("epoch", "loss 1.0", "b", 4))
    now[0] += 4
    with console.capture() as shown:
        console.print(panel.render())
    head, row, *_ = shown.get().splitlines()
    assert "54 s, about 66 s left" in head  # 9 of 20
    assert "evaluating, 6 s left" in row
