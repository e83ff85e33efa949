"""The notebooks run as they stand, and what is stored in them is what they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.docs.pages import ROOT

FOLDER = ROOT / "docs" / "notebooks"
MOST_BYTES = 120_000


def texts(notebook: Any) -> list[str]:
    """What the cells have printed; pictures differ by machine."""
    return [output["data"]["text/plain"] for cell in notebook.cells for output in cell.get("outputs", ())
            if output["output_type"] == "execute_result" and "image/png" not in output["data"]]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebook_runs_and_its_outputs_are_these(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    stored = nbformat.read(path, as_version=4)
    again = nbformat.read(path, as_version=4)
    NotebookClient(again, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}).execute()
    assert texts(again) == texts(stored)
    assert texts(stored)
    assert path.stat().st_size < MOST_BYTES
