"""What every contender shares: the networks, and steps on command. Runs in a peer's environment too: torch, timm.

Protocol: the options come as one JSON argument; each line on stdin asks for one lap; each answer is one line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

ANSWER = "lap: "
"""What a line of an answer starts with, before its JSON."""


def options() -> dict[str, Any]:
    """``images`` (folder), ``method``, ``backbone``, ``size``, ``batch``, ``steps`` (of a lap), ``bf16``, and ``core``:
    the one to run on, null = all."""
    chosen = json.loads(sys.argv[1])
    if chosen["core"] is not None:
        os.sched_setaffinity(0, {chosen["core"]})
        torch.set_num_threads(1)
    torch.manual_seed(0)
    return chosen  # type: ignore[no-any-return]


def network(backbone: str, size: int) -> nn.Module:
    """The same network as ours, plain timm: 3 x 3 stem without max-pool, patch = size / 8."""
    if backbone == "vit_tiny":
        return timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=size, patch_size=size // 8,
                                 dynamic_img_size=True)
    net = timm.create_model(backbone, num_classes=0)
    net.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return net


def peak_mb() -> float:
    """Largest resident memory of this process so far, MiB."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


def serve(lap: Callable[[str], int], memory: Callable[[], float] = peak_mb) -> None:
    """One ``lap`` per line on stdin: it is given the line and returns how many source images it has trained on."""
    _say({"ready": True})
    for line in sys.stdin:
        begun = time.perf_counter()
        images = lap(line.strip())
        seconds = time.perf_counter() - begun
        _say({"images": images, "seconds": seconds, "peak_mb": memory()})


def _say(answer: dict[str, Any]) -> None:
    """In one write, on a line of its own: other threads of a peer print too."""
    sys.stdout.write(f"\n{ANSWER}{json.dumps(answer)}\n")
    sys.stdout.flush()
