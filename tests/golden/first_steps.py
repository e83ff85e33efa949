"""Losses of the first five steps of every method on both backbones, as ``trainers.train`` computes them.

    python -m tests.golden.first_steps        writes first_steps.txt (``make golden``)

One thread, seed 0, digits at 32 px, batch 16, the recipes' optimisers. In float64, views included: Barlow Twins
multiplies float32's rounding by 10 to 100 a step, so that processors with and without AVX-512 part within five
(measured at the paper's width). A change that moves these numbers changes results: raise ``NUMERICS`` and renew the
file only when that is the commit's purpose.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

import trainers.train
from tests.trainers.methods.steps import BACKBONE_NAMES
from trainers.config import NUMERICS, TrainConfig
from trainers.meter import Meter
from trainers.methods import METHODS
from trainers.records import RunContext, StepOutput

FILE = Path(__file__).with_name("first_steps.txt")
NUM_STEPS = 5


class Enough(Exception):
    """The steps have been seen."""


def first_losses(method: str, backbone: str, cache: Path) -> list[float]:
    """The loop itself runs, on real pictures; a listener at its meter keeps the losses and stops it."""
    config = TrainConfig.from_dict({
        "method": method, "backbone": backbone, "imbalance": 0.25, "seed": 0,
        "data": {"dataset": "digits", "image_size": 32}, "subset": {"total": 96},
        "train": {"epochs": 10, "batch_size": 16, "precision": "fp32"}})
    losses: list[float] = []
    update, default = Meter.update, torch.get_default_dtype()

    def listen(self: Meter, output: StepOutput, grad_norm: Tensor, progress: Any, num_images: int) -> None:
        update(self, output, grad_norm, progress, num_images)
        losses.append(output.loss.item())
        if len(losses) == NUM_STEPS:
            raise Enough

    Meter.update = listen  # type: ignore[method-assign]
    torch.set_default_dtype(torch.float64)
    try:
        with tempfile.TemporaryDirectory() as folder:
            context = RunContext(trial_dir=Path(folder), cache_dir=cache, device="cpu", threads=1)
            for _ in trainers.train.train(config, context):
                raise AssertionError("an epoch ended before the steps were seen")
    except Enough:
        return losses
    finally:
        Meter.update = update  # type: ignore[method-assign]
        torch.set_default_dtype(default)
    raise AssertionError("the run ended before the steps were seen")


def read() -> dict[tuple[str, str], list[float]]:
    """(method, backbone) -> losses. Lines that begin with # say where they are from."""
    lines = [line.split() for line in FILE.read_text().splitlines() if line and not line.startswith("#")]
    return {(method, backbone): [float(loss) for loss in losses] for method, backbone, *losses in lines}


def write() -> None:
    lines = [f"# numerics {NUMERICS}", f"# torch {torch.__version__.split('+')[0]}, timm {timm.__version__}, python "
             f"{sys.version.split()[0]}, {torch.backends.cpu.get_cpu_capability()}; renewed by: make golden"]
    with tempfile.TemporaryDirectory() as cache:
        for method in METHODS:
            for backbone in BACKBONE_NAMES:
                losses = first_losses(method, backbone, Path(cache))
                lines.append(" ".join([method, backbone, *(f"{loss:.9g}" for loss in losses)]))
    FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write()
    print(FILE.read_text(), end="")
