"""What one kind of trial costs on this machine: a few real optimiser steps and one small evaluation, on drawn pictures.

``python -m trainers.calibration`` measures in a process of its own, as a trial runs: it reads one order per line and
answers each with one line of JSON. Several of them side by side measure what trials that share a machine take.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from trainers import checkpoint, distributed
from trainers.build import Run, build
from trainers.checkpoint import Position
from trainers.config import EvaluationConfig, ImbalanceConfig, TrainConfig
from trainers.data.cache import Cache
from trainers.data.imbalance import EvaluationSets
from trainers.data.index import AbstractDataset, Index
from trainers.data.loader import OpenData
from trainers.export import save_encoder
from trainers.machine import choose_device, give_back_heap, peak_memory_mb, reset_peak_memory
from trainers.meter import Meter
from trainers.outcome import Timer, conclude
from trainers.records import Progress, RunContext
from trainers.seeding import hash_ids
from trainers.train import take_step

WARM_STEPS = 2
"""Steps that are not counted: the first ones build kernels and fill the heap."""
LEAST_STEPS, MOST_STEPS = 3, 40
LEAST_IMAGES, MOST_IMAGES = 160, 512
"""Of the small evaluation."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Seconds, MiB, pictures."""

    setup: float
    """Opening the cache, building the network."""
    steps: list[float]
    """Each measured step by itself."""
    cpu_share: float
    """Of the steps' time, the part in which the threads of this process ran: 1 on a machine that does nothing else."""
    conclude: float
    """The end of the run: encoder written, one evaluation, scores, contact sheet."""
    num_embedded: int
    """Pictures of that evaluation, those of the untrained backbone included."""
    peak_mb: float
    files_mb: float
    """What a finished trial leaves in its folder."""
    checkpoint_mb: float
    feature_dim: int
    precision: str
    device: str


@final
class Drawn(AbstractDataset):
    """Noise with a bright spot on every defect: N labelled pictures of one size, half of them defects, half of them
    train. Costs what real pictures cost, as soon as those are decoded."""

    summary = "drawn for a measurement"
    needs_root = False

    def __init__(self, num_images: int, size: int) -> None:
        ids = np.array([f"drawn-{number:06d}" for number in range(num_images)])
        labels = (np.arange(num_images) % 2).astype(np.int8)
        self.size = size
        self.index = Index(ids=ids, labels=labels, groups=ids, defect_types=np.where(labels == 1, "spot", ""),
                           splits=np.where(np.arange(num_images) % 4 < 2, "train", "val"))

    def load(self, position: int) -> np.ndarray:
        pixels = np.random.default_rng(position).integers(0, 200, (self.size, self.size, 3), dtype=np.uint8)
        if self.index.labels[position]:
            pixels[self.size // 3:self.size // 2, self.size // 3:self.size // 2] += 55
        return pixels


def measure(config: TrainConfig, rank: int = 0, world_size: int = 1, device: str = "auto", threads: int | None = None,
            seconds: float = 2.0) -> Measurement | None:
    """Train ``config`` for about ``seconds`` and evaluate it once, in a folder that is thrown away.

    With several ranks each calls this with its number, and rank 0 gets the answer. Raises what training would.
    """
    with tempfile.TemporaryDirectory(prefix="ablation-calibration-") as folder:
        context = RunContext(trial_dir=Path(folder) / "trial", cache_dir=Path(folder), rank=rank,
                             world_size=world_size, device=device, threads=threads)
        context.trial_dir.mkdir()
        batch = config.train.batch_size or 256
        data = _pictures(max(4 * batch, MOST_IMAGES), config.data.resolved_cache_size, Path(folder))
        reset_peak_memory(choose_device(device))
        timer = Timer()
        run = build(_small(config, batch), context, data)
        timer.mark("setup")
        meter = Meter(run.device)
        steps, cpu_share = _steps(run, meter, seconds)
        if rank:
            return None
        last = meter.finish(run.schedule.lr(0))
        checkpoint.save(context.trial_dir, Position(1), {"run": run.state(), "meter": meter.state(), "metrics": last})
        checkpoint_mb = _folder_mb(context.trial_dir)
        checkpoint.clear(context.trial_dir)
        run = _smaller_evaluation(run, seconds)
        begun = time.perf_counter()
        save_encoder(context.trial_dir / "encoder.safetensors", run.method.encoder, run.normalize)
        conclude(run, Timer(), last)
        return Measurement(
            setup=timer.metrics["time/setup"], steps=steps, cpu_share=cpu_share, conclude=time.perf_counter() - begun,
            num_embedded=num_embedded(run.judge.train, run.judge.sets, config.evaluation)
            + len(run.judge.train) + len(run.judge.sets.test),
            peak_mb=peak_memory_mb(run.device), files_mb=_folder_mb(context.trial_dir), checkpoint_mb=checkpoint_mb,
            feature_dim=run.method.encoder.feature_dim, precision=str(run.precision).removeprefix("torch."),
            device=run.device.type)


def num_embedded(train: np.ndarray, sets: EvaluationSets, config: EvaluationConfig) -> int:
    """Pictures and views that one evaluation puts through the encoder, without those of the untrained backbone."""
    union = np.unique(np.concatenate([train, *vars(sets).values()]))
    return len(union) + min(config.view_images, len(sets.level_free)) * config.views_per_image


def _pictures(num_images: int, size: int, folder: Path) -> OpenData:
    dataset = Drawn(num_images, size)
    cache = Cache.open(dataset, size, folder)
    cache.ensure(np.arange(num_images), num_workers=1)
    return OpenData(dataset, cache, hash_ids(dataset.index.ids, "image"))


def _small(config: TrainConfig, batch: int) -> TrainConfig:
    evaluation = dataclasses.replace(config.evaluation, every=None, test_prevalence=None, max_images=MOST_IMAGES,
                                     fixed_labelled=min(config.evaluation.fixed_labelled, LEAST_IMAGES))
    return dataclasses.replace(config, imbalance="natural", allow_tiny=True, evaluation=evaluation,
                               subset=ImbalanceConfig(policy="fixed_total", total=2 * batch),
                               train=dataclasses.replace(config.train, batch_size=batch))


def _steps(run: Run, meter: Meter, seconds: float) -> tuple[list[float], float]:
    """Seconds of each step after the first ones, until ``seconds`` are spent, and ``cpu_share``; all ranks stop
    together."""
    found: list[float] = []
    spent = cpu = 0.0
    total = WARM_STEPS + MOST_STEPS
    begun, cpu_begun = time.perf_counter(), time.process_time()
    for number, loaded in enumerate(_endless(run)):
        take_step(run, loaded, Progress(number, total, 0, 1), meter)
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        took = time.perf_counter() - begun
        spent += took
        if number >= WARM_STEPS:
            found.append(took)
            cpu += time.process_time() - cpu_begun
        # Before the least number only if one step alone takes longer than all should.
        fewest = LEAST_STEPS if spent <= 10 * seconds else 1
        enough = len(found) == MOST_STEPS or (len(found) >= fewest and spent > seconds)
        if float(distributed.all_reduce_mean(torch.tensor([float(enough)], device=run.device))) > 0:
            busy = 1.0 if run.device.type == "cuda" else cpu / (sum(found) * torch.get_num_threads())
            return found, min(1.0, busy)
        # What the next step waits for its pictures is part of it.
        begun, cpu_begun = time.perf_counter(), time.process_time()
    raise AssertionError("endless")


def _endless(run: Run) -> Iterator[Any]:
    epoch = 0
    while True:
        yield from run.prefetcher.stream(run.sampler.batches(epoch), epoch)
        epoch += 1


def _smaller_evaluation(run: Run, seconds: float) -> Run:
    """The run with sets whose pictures pass the encoder in about ``seconds``."""
    judge = run.judge
    judge.features(run.method.encoder, judge.sets.test[:8])
    begun = time.perf_counter()
    judge.features(run.method.encoder, judge.sets.test[:32])
    embed = (time.perf_counter() - begun) / 32
    share = min(MOST_IMAGES, max(LEAST_IMAGES, int(seconds / embed))) // 4
    sets = EvaluationSets(**{name: rows[:share] for name, rows in vars(judge.sets).items()})
    smaller = dataclasses.replace(judge, sets=sets, train=judge.train[:share])
    return dataclasses.replace(run, judge=smaller)


def _folder_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 2**20


def main() -> None:
    """One order per line of stdin: ``{"config", "device", "threads", "seconds"}``; the first line names the gang."""
    gang = json.loads(sys.stdin.readline())
    rank, world_size = gang["rank"], gang["world_size"]
    if world_size > 1:
        distributed.init_process_group(rank, world_size, init_method=gang["rendezvous"], device=gang["device"])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        give_back_heap()
        try:
            found = measure(TrainConfig.from_dict(order.pop("config")), rank, world_size, **order)
            answer = {} if found is None else dataclasses.asdict(found)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(answer), flush=True)
        if world_size > 1 and "error" in answer:
            break  # the others would wait for this rank
    distributed.shutdown()


if __name__ == "__main__":
    main()
