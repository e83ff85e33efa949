"""Our pipeline: the real training loop, one epoch a lap. The lap ``limit`` repeats one batch that is ready in memory.

Options as in ``starter``, and ``root`` for a data folder in the ``folder`` layout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.starter import options, serve
from trainers import train as loop
from trainers.config import DataConfig, ImbalanceConfig, OptimConfig, TrainConfig
from trainers.data.prefetch import Prefetcher
from trainers.records import EpochReport, RunContext


def config(chosen: dict[str, Any]) -> TrainConfig:
    return TrainConfig(
        method=chosen["method"], backbone=chosen["backbone"], imbalance=0.5,
        data=DataConfig(dataset="folder", root=chosen["root"], image_size=chosen["size"]),
        subset=ImbalanceConfig(total=chosen["batch"] * chosen["steps"]),
        train=OptimConfig(epochs=1000, batch_size=chosen["batch"],
                          precision="auto" if chosen["bf16"] else "fp32"))


def main() -> None:
    chosen = options()
    loop.CHECKPOINT_SECONDS = float("inf")  # laps are short and far apart: each would save
    make_batch, stream = loop._batch, Prefetcher.stream
    state: dict[str, Any] = {"limit": False, "batch": None}

    def batch_or_ready(*args: Any) -> Any:
        if not state["limit"] or state["batch"] is None:
            state["batch"] = make_batch(*args)
        return state["batch"]

    def stream_or_nothing(self: Prefetcher, batches: list[np.ndarray], epoch: int) -> Iterator[Any]:
        yield from [None] * len(batches) if state["limit"] else stream(self, batches, epoch)

    loop._batch, Prefetcher.stream = batch_or_ready, stream_or_nothing  # type: ignore[assignment,method-assign]
    folder = Path(tempfile.mkdtemp())
    # The stream of an epoch is made when its lap begins, so each lap is wholly of one kind.
    epochs = loop.train(config(chosen), RunContext(trial_dir=folder, cache_dir=Path(chosen["cache"]), device="cpu",
                                                   threads=1))

    def lap(line: str) -> int:
        state["limit"] = line == "limit"
        report = next(epochs)
        assert isinstance(report, EpochReport)
        return int(chosen["batch"] * chosen["steps"])

    serve(lap)


if __name__ == "__main__":
    main()
