"""One world for all pages: see ``tests.docs.world``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import all_fences
from tests.docs.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``parts`` (trained), ``quickstart`` (made up) and what pages tell their readers to save."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    for fence in all_fences("yaml", "python"):
        if (name := fence.file) and not (folder / name).exists():
            (folder / name).write_text(fence.text)
    return folder
