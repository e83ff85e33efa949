"""The command line inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ablation.cli import main

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """The command line in this process: words -> exit code, stdout, stderr."""

    def ablation(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ablation", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return ablation
