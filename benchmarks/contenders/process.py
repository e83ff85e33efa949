"""Start a contender, ask it for laps."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders.starter import ANSWER
from benchmarks.record import OUT

OURS = [sys.executable, "-m", "benchmarks.contenders.ours"]
HUGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What ``ablation run`` sets for its workers; here every contender has it."""
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@dataclass(frozen=True)
class Lap:
    """What a contender says of a few steps."""

    images: int
    seconds: float
    peak_mb: float

    @property
    def rate(self) -> float:
        return self.images / self.seconds


@contextmanager
def contender(command: list[str], options: dict[str, Any]) -> Iterator[subprocess.Popen[str]]:
    """A running contender, ready for its first lap."""
    log = (OUT / "contender.log").open("a")
    process = subprocess.Popen(
        [*command, json.dumps(options)], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        env=environment(options))
    try:
        answer(process)
        yield process
    finally:
        process.kill()
        process.wait()
        log.close()


def environment(options: dict[str, Any]) -> dict[str, str]:
    threads = 1 if options["core"] is not None else len(os.sched_getaffinity(0))
    hidden = {} if options["device"] == "cuda" else NO_GPU
    return {**os.environ, **HUGE_PAGES, **hidden, "OMP_NUM_THREADS": str(threads)}


def answer(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Its next answer; peers also print other things."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(ANSWER):
            return json.loads(line.removeprefix(ANSWER))  # type: ignore[no-any-return]
    raise RuntimeError(f"a contender ended: see {OUT / 'contender.log'}")


def run_lap(process: subprocess.Popen[str], kind: str = "whole") -> Lap:
    return run_together([process], kind)[0]


def run_together(processes: list[subprocess.Popen[str]], kind: str = "whole") -> list[Lap]:
    """A lap of each, all at the same time."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(kind + "\n")
        process.stdin.flush()
    return [Lap(**answer(process)) for process in processes]
