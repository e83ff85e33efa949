"""``ablation run`` in the background, and the processes that belong to it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.integration.studies import command, environment

Start = Callable[..., "subprocess.Popen[str]"]


@contextmanager
def drivers(folder: Path, **more: str) -> Iterator[Start]:
    """Start drivers; whatever still lives at the end is killed by its id. ``more`` goes into their environment."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
        process = subprocess.Popen(command("run", *arguments), cwd=folder, env=environment(folder) | more,
                                   stdout=stdout, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait()


def process_of(folder: Path, title: str) -> int:
    """The worker process of a driver in ``folder`` whose title begins so."""
    found = processes_of(folder, title)
    assert found, f"no process {title} of {folder}"
    return found[0]


def processes_of(folder: Path, title: str = "") -> list[int]:
    """Processes that a driver in ``folder`` has started and whose title begins so."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(title.encode()) and (
                    f"ABLATION_STORE={folder}/".encode() in (entry / "environ").read_bytes()):
                found.append(int(entry.name))
    return found
