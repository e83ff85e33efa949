"""What a number needs beside it to be believed: code, versions, machine, data and conventions."""

from __future__ import annotations

import platform
import socket
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn")


@lru_cache(maxsize=1)
def code_version() -> str:
    """Git commit of this source tree, ``+dirty`` when changed, or ``unknown`` outside a checkout."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return "unknown"

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def describe(device: torch.device) -> dict[str, Any]:
    """Flat mapping for ``result.json`` and MLflow tags."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {"code": code_version(), "python": platform.python_version(), "host": socket.gethostname(),
            "device": f"{device.type}:{name}", **{package: version(package) for package in PACKAGES}}
