"""Kill -9 at a random step, start again, end: weights and every logged number equal the undisturbed run's, bit for bit.

Real processes, one or two gloo ranks; all ranks die at once by SIGKILL, as a gang does, in the middle of an epoch and
one or two steps after the last checkpoint, so that steps are repeated.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import trainers.train
from tests.trainers.methods.steps import TESTED
from trainers import checkpoint, distributed
from trainers.checkpoint import Position
from trainers.config import TrainConfig
from trainers.meter import Meter
from trainers.records import EpochReport, RunContext

EPOCHS, STEPS_PER_EPOCH = 2, 4
MOODS = ("time/", "memory/", "train/images_per_second", "train/data_wait")
"""Numbers of the machine, not of the run."""


def configuration(method: str, backbone: str, precision: str) -> TrainConfig:
    return TrainConfig.from_dict({
        "method": TESTED[method], "backbone": backbone, "imbalance": 0.1, "seed": 0, "allow_tiny": True,
        "data": {"dataset": "digits", "image_size": 32}, "subset": {"total": 64},
        "train": {"epochs": EPOCHS, "batch_size": 64 // STEPS_PER_EPOCH, "precision": precision},
        "evaluation": {"max_images": 80, "fixed_labelled": 40, "view_images": 8, "views_per_image": 2}})


def run_rank(rank: int, ranks: int, case: tuple[str, str, str], folder: str, cache: str, kill_at: int | None) -> None:
    """One rank of one start. A process that will be killed saves every other step, any other one after the last."""
    torch.set_num_threads(1)
    trainers.train.CHECKPOINT_SECONDS = -1.0
    checkpoint.clear = lambda folder: None  # the last checkpoint holds all final weights, for the comparison
    save, last = checkpoint.save, Position(EPOCHS - 1, STEPS_PER_EPOCH)
    checkpoint.save = lambda folder, at, state: (
        save(folder, at, state) if at == last or (kill_at is not None and at.step_in_epoch % 2 == 0) else None)
    if kill_at is not None:
        die_at(kill_at)
    if ranks > 1:
        rendezvous = Path(folder, f"rendezvous-{kill_at}").absolute()
        distributed.init_process_group(rank, ranks, device="cpu", init_method=f"file://{rendezvous}")
    context = RunContext(trial_dir=Path(folder), cache_dir=Path(cache), rank=rank, world_size=ranks, threads=1)
    for item in trainers.train.train(configuration(*case), context):
        if rank == 0:
            name = f"epoch-{item.epoch}" if isinstance(item, EpochReport) else "result"
            numbers = {key: value for key, value in item.metrics.items() if not key.startswith(MOODS)}
            Path(folder, f"{name}.json").write_text(json.dumps(numbers))
    distributed.shutdown()


def die_at(step: int) -> None:
    update = Meter.update

    def update_or_die(self: Meter, output: Any, grad_norm: Tensor, progress: Any, num_images: int) -> None:
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        update(self, output, grad_norm, progress, num_images)

    Meter.update = update_or_die  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def processes() -> Any:
    """New processes in a fraction of a second, forked from one that has imported everything and run nothing."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def start(processes: Any, ranks: int, *arguments: Any) -> list[int]:
    gang = [processes.Process(target=run_rank, args=(rank, ranks, *arguments)) for rank in range(ranks)]
    for process in gang:
        process.start()
    for process in gang:
        process.join()
    return [process.exitcode for process in gang]


MASKED = ("mae", "mae_dense")  # they need a network that they know
CASES = [(method, "resnet18" if method in MASKED else "test_resnet", "fp32", 2) for method in TESTED]
CASES += [case for case in (("byol", "resnet18", "bf16", 1), ("mae", "vit_tiny", "bf16", 1)) if case[0] in TESTED]


@pytest.mark.parametrize(("method", "backbone", "precision", "ranks"), CASES,
                         ids=["-".join(map(str, case)) for case in CASES])
def test_killed_and_resumed_ends_bit_equal(method: str, backbone: str, precision: str, ranks: int, processes: Any,
                                           cache: Path, tmp_path: Path) -> None:
    case = (method, backbone, precision)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    kill_at = random.Random(f"{method}-{ranks}").randrange(3, EPOCHS * STEPS_PER_EPOCH)
    assert start(processes, ranks, case, str(whole), str(cache), None) == [0] * ranks
    assert start(processes, ranks, case, str(broken), str(cache), kill_at) == [-signal.SIGKILL] * ranks
    saved, _ = checkpoint.load(broken, print) or (Position(), None)
    assert saved.epoch * STEPS_PER_EPOCH + saved.step_in_epoch == kill_at - kill_at % 2
    assert not (broken / "result.json").exists()
    assert start(processes, ranks, case, str(broken), str(cache), None) == [0] * ranks

    for name in ("epoch-1.json", "epoch-2.json", "result.json"):
        assert json.loads((broken / name).read_text()) == json.loads((whole / name).read_text())
    assert (broken / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()
    found, expected = checkpoint.load(broken, print), checkpoint.load(whole, print)
    assert found is not None
    assert expected is not None
    assert found[0] == expected[0] == Position(EPOCHS - 1, STEPS_PER_EPOCH)
    differences = list(differing(found[1], expected[1], ""))
    assert not differences


def differing(ours: Any, theirs: Any, path: str) -> Any:
    """Paths at which two nested states are not the same bits."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), path
        for key in theirs:
            yield from differing(ours[key], theirs[key], f"{path}/{key}")
    elif isinstance(theirs, (list, tuple)):
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differing(*pair, f"{path}/{number}")
    elif isinstance(theirs, Tensor):
        if not torch.equal(ours, theirs):
            yield path
    elif ours != theirs and not any(mood in path for mood in MOODS):
        yield path
