"""Source images per second of one step with its data path, against the same step on views already on the device.

    python -m benchmarks.throughput [IMAGE_SIZE]

Both are measured in turn within one process, on one thread, and medians are compared; the ratio is the figure that
carries over to other machines.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import numpy as np
import torch

from benchmarks.record import table, write
from trainers.backbones import BACKBONES, build_backbone
from trainers.data.views import Normalization, augment
from trainers.machine import choose_precision, prepare_process
from trainers.methods import METHODS, build_method, view_specs
from trainers.records import Batch, Progress

BATCH, ROUNDS = 128, 7


def measure(method_name: str, backbone_name: str, size: int) -> dict[str, Any]:
    """Medians over interleaved rounds; the first round of each is warm-up."""
    torch.manual_seed(0)
    method = build_method(method_name, build_backbone(backbone_name, size), {})
    specs = view_specs(method_name, {}, size)
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    pixels = torch.randint(0, 256, (BATCH, 3, size * 256 // 224, size * 256 // 224), dtype=torch.uint8)
    precision = choose_precision("auto", torch.device("cpu"))
    labels, keys = torch.arange(BATCH) % 2, torch.arange(BATCH)

    def views(step: int) -> list[torch.Tensor]:
        return augment(pixels, np.arange(BATCH, dtype=np.uint64) + np.uint64(step * BATCH), specs, Normalization())

    def step(number: int, ready: list[torch.Tensor]) -> None:
        progress = Progress(number, ROUNDS, 0, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
            method(Batch(ready, labels, keys), progress).loss.backward()
        method.before_step(progress)
        optimizer.step()
        optimizer.zero_grad()
        method.after_step(progress)

    ready, whole, limit = views(0), [], []
    for number in range(ROUNDS):
        begun = time.perf_counter()
        step(number, views(number))
        middle = time.perf_counter()
        step(number, ready)
        whole.append(BATCH / (middle - begun))
        limit.append(BATCH / (time.perf_counter() - middle))
    with_data, alone = statistics.median(whole[1:]), statistics.median(limit[1:])
    return {"method": method_name, "backbone": backbone_name, "size": size, "images/s": with_data,
            "step alone": alone, "share of limit": with_data / alone}


if __name__ == "__main__":
    prepare_process(1)
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    rows = [measure(method, backbone, side) for backbone in BACKBONES for method in METHODS]
    print(table(rows))
    print(write("throughput", rows))
