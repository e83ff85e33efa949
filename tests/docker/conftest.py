"""Images are built once a session, in a short path, since scripts in them begin with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docker.dockerfile import Image, uv_cache


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    # Beside uv's cache where that can be: hard links end at a file system.
    beside = uv_cache().parent.resolve()
    usable = beside.is_dir() and os.access(beside, os.W_OK | os.X_OK)
    fits = usable and len(str(beside)) <= 40 and " " not in str(beside)
    with tempfile.TemporaryDirectory(prefix="image-", dir=beside if fits else None) as folder:
        yield Image(Path(folder))
