"""Images are built once a session, in a short path, since scripts in them begin with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.dockerfile import Image


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    # Beside uv's cache where that can be: hard links end at a file system.
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        yield Image(Path(folder))
