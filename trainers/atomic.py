"""Files that several processes write at once: whole or not at all, on disks that may be briefly away."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

T = TypeVar("T")
AWAY = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EHOSTUNREACH,
        errno.ECONNRESET, errno.EREMOTEIO}
"""What a network file system says while its server restarts. A full or read-only disk is not among them."""
PATIENCE_SECONDS = 60.0
_UMASK = os.umask(0o022)
os.umask(_UMASK)


def patiently(operate: Callable[[], T]) -> T:
    """``operate()``, again and again for a minute while the disk says that it is away; then its ``OSError``."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return operate()
        except OSError as error:
            if error.errno not in AWAY or time.monotonic() > deadline:
                raise
        time.sleep(0.5)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the exclusive lock file ``path`` (created when missing). The kernel frees it when a holder is killed."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("ab")
    except OSError as error:
        from trainers.data.index import DataError  # brings numpy, which readers of a store do not need

        raise DataError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from None
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def replace_file(path: Path, write: Callable[[BinaryIO], object], *, sync: bool = True) -> None:
    """Put what ``write`` writes at ``path``: readers see the old file or the new one, also after a crash (``sync``).

    ``write`` is called again when the disk was away.
    """
    patiently(lambda: _replace_file(path, write, sync))


def _replace_file(path: Path, write: Callable[[BinaryIO], object], sync: bool) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            write(handle)
            handle.flush()
            os.fchmod(handle.fileno(), 0o666 & ~_UMASK)  # mkstemp's own is 0600
            if sync:
                os.fsync(handle.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
