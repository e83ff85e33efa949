"""Files that several processes write at once: whole or not at all, one writer at a time."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trainers.data.index import DataError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock file ``path`` (created when missing). The kernel frees it when a holder is killed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab")
    except OSError as error:
        raise DataError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Put what ``write`` writes at ``path``: readers see the old file or the new one, also after a crash (``sync``)."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            write(handle)
            handle.flush()
            os.fchmod(handle.fileno(), 0o644)
            if sync:
                os.fsync(handle.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
