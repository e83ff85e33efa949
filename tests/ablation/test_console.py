"""Tables on a screen: keys and numbers stay whole, what has no room is named; nothing is cut in a pipe."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

from ablation.console import Format, emit

KEY = "barlow_twins-resnet18-p0.05-s0-3f9a1c2e"
FRAME = pd.DataFrame({"key": [KEY, "short"], "probe/auroc": [0.91234, 0.5], "probe_fixed/auroc": [0.5, None],
                      "why": ["a long story of many words", None], "random_init/auroc": [0.5, 0.6], "seed": [1, 20]})


@pytest.mark.parametrize(("width", "missing"), [(80, "random_init/auroc, seed"), (120, ""), (30, ", ".join(FRAME)[5:])])
def test_a_screen_shows_the_columns_that_fit(width: int, missing: str, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdout", stream)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    emit(FRAME, Format.table)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).splitlines()
    assert all(len(line) <= width for line in lines)
    assert any(KEY in line and "0.9123" in line for line in lines) == (width >= 80)
    said = capsys.readouterr().err
    assert said == (f"no room for {missing}: --format csv shows all\n" if missing else "")


def test_a_pipe_gets_whole_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI does
    emit(FRAME, Format.table)
    head, _, first, second = capsys.readouterr().out.splitlines()
    assert all(name in head for name in FRAME)
    assert "a long story of many words" in first
    assert second.split() == ["short", "0.5", "0.6", "20"]
