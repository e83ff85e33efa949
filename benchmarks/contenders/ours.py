"""Our pipeline: the real training loop, one epoch a lap.

Kinds of laps: ``whole``; ``limit`` repeats one batch that is ready on the device; ``data`` only reads, copies and
augments. Options as in ``starter``, and ``root`` for a data folder in the ``folder`` layout, ``cache``, ``device``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.contenders.starter import options, serve
from trainers import train as loop
from trainers.build import Run
from trainers.config import DataConfig, ImbalanceConfig, OptimConfig, TrainConfig
from trainers.data.prefetch import Loaded, Prefetcher
from trainers.machine import peak_memory_mb
from trainers.meter import Meter
from trainers.records import Batch, EpochReport, RunContext


def config(chosen: dict[str, Any]) -> TrainConfig:
    return TrainConfig(
        method=chosen["method"], backbone=chosen["backbone"], imbalance=0.5,
        data=DataConfig(dataset="folder", root=chosen["root"], image_size=chosen["size"]),
        subset=ImbalanceConfig(total=chosen["batch"] * chosen["steps"]), allow_tiny=True,
        train=OptimConfig(epochs=1000, batch_size=chosen["batch"], precision="auto" if chosen["bf16"] else "fp32"))


class Laps:
    """Stands between the loop and its data, and gives it real batches or always the same one."""

    def __init__(self) -> None:
        self.repeat = False
        self.run: Run | None = None
        self.batch: Batch | None = None
        self._begin, self._make_batch, self._stream = loop._begin, loop._batch, Prefetcher.stream
        loop._begin, loop._batch = self.begin, self.make_batch  # type: ignore[assignment]
        Prefetcher.stream = lambda prefetcher, *a: self.stream(prefetcher, *a)  # type: ignore[method-assign]

    def begin(self, *args: Any) -> Any:
        begun = self._begin(*args)
        self.run = begun[0]
        return begun

    def make_batch(self, run: Run, loaded: Loaded, meter: Meter) -> Batch:
        if not self.repeat or self.batch is None:
            self.batch = self._make_batch(run, loaded, meter)
        return self.batch

    def stream(self, prefetcher: Prefetcher, batches: list[np.ndarray], epoch: int) -> Iterator[Any]:
        yield from [None] * len(batches) if self.repeat else self._stream(prefetcher, batches, epoch)

    def only_data(self) -> None:
        """An epoch without its steps."""
        assert self.run is not None
        meter = Meter(self.run.device)
        for loaded in self._stream(self.run.prefetcher, self.run.sampler.batches(0), 0):
            self._make_batch(self.run, loaded, meter)


def main() -> None:
    chosen = options()
    device = torch.device(chosen["device"])
    loop.CHECKPOINT_SECONDS = float("inf")  # laps are short and far apart: each would save
    laps = Laps()
    context = RunContext(trial_dir=Path(tempfile.mkdtemp()), cache_dir=Path(chosen["cache"]), device=str(device),
                         threads=1 if chosen["core"] is not None else None)
    epochs = loop.train(config(chosen), context)

    def lap(kind: str) -> int:
        if kind == "data":
            laps.only_data()
        else:
            laps.repeat = kind == "limit"  # the stream of an epoch begins with its lap, so a lap is of one kind
            assert isinstance(next(epochs), EpochReport)
        if device.type == "cuda":
            torch.cuda.synchronize()
        return int(chosen["batch"] * chosen["steps"])

    serve(lap, lambda: peak_memory_mb(device))
    os._exit(0)  # the loop would save where it stands


if __name__ == "__main__":
    main()
