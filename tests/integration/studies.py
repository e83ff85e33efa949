"""Tiny studies on scikit-learn's digits and timm's smallest network, and the command line as a user calls it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

TINY = """\
name: tiny
data: {{dataset: digits, image_size: 16}}
imbalance: {{policy: fixed_total, total: 96}}
grid: {{method: {methods}, backbone: [{backbone}], imbalance: [0.1], seed: {seeds}}}
train: {{epochs: {epochs}, batch_size: 32}}
evaluation: {{max_images: 100, fixed_labelled: 40, view_images: 8, views_per_image: 2}}
resources: {{num_workers: {num_workers}, cpus_per_worker: 1}}
allow_tiny: true
{more}
"""


def write_study(folder: Path, methods: Sequence[str] = ("simclr",), seeds: Sequence[int] = (0,), epochs: int = 1,
                num_workers: int = 1, more: str = "", backbone: str = "test_resnet") -> Path:
    path = folder / "study.yaml"
    path.write_text(TINY.format(methods=list(methods), seeds=list(seeds), epochs=epochs, num_workers=num_workers,
                                more=more, backbone=backbone))
    return path


def environment(folder: Path) -> dict[str, str]:
    """Everything the command may write stays below ``folder``; no service of the machine is joined."""
    foreign = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "ABLATION_STORE", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")
    kept = {name: value for name, value in os.environ.items() if name not in foreign}
    return kept | {"ABLATION_CACHE": str(folder / "cache"), "ABLATION_STORE": str(folder / "studies"),
                   "ABLATION_REPORT": "0", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200"}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "ablation.cli", *map(str, arguments)]


def ablation(folder: Path, *arguments: str | Path, timeout: float = 300,
             report: bool = False) -> subprocess.CompletedProcess[str]:
    """Run one command to its end. A report takes seconds of drawing: only tests that look at it ask for one."""
    asked = {"ABLATION_REPORT": "1"} if report else {}
    return subprocess.run(command(*arguments), capture_output=True, text=True, cwd=folder,
                          env=environment(folder) | asked, timeout=timeout)


def free_port() -> int:
    """A TCP port of this machine that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    """Raises ``AssertionError`` when it never becomes true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
