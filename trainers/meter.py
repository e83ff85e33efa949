"""Running means of an epoch, kept on the device, and the guard against silent numbers."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from trainers import distributed
from trainers.records import Progress, StepOutput, TrainingError

COLLAPSED_STD = 0.05
"""Spread of unit features below which a representation counts as collapsed; 1 = spread over the sphere."""
CUDA_CHECK_STEPS = 20


class Meter:
    """Sums over the steps of one epoch; its ``state`` is in checkpoints, so a resumed epoch reports the same means."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.num_steps = 0
        self.begun = time.perf_counter()
        self.seconds_data = 0.0
        self.num_images = 0

    def update(self, output: StepOutput, progress: Progress, num_images: int) -> None:
        """Add one step. Raises ``TrainingError('diverged')`` on all ranks when the joint loss is not finite."""
        values = {"loss": output.loss, "feature_std": feature_std(output.features), **output.metrics}
        joint = distributed.all_reduce_mean(torch.stack([value.detach().double() for value in values.values()]))
        self.sums = {name: self.sums.get(name, 0.0) + mean for name, mean in zip(values, joint, strict=True)}
        self.num_steps += 1
        self.num_images += num_images
        # Reading a value waits for the device; a sum stays non-finite, so looking now and then is enough there.
        if self.device.type == "cpu" or progress.step % CUDA_CHECK_STEPS == 0:
            self._guard(progress.step)

    def _guard(self, step: int) -> None:
        if not math.isfinite(self.sums["loss"].item()):
            raise TrainingError("diverged", f"the loss is not finite at step {step}: lower train.lr, raise "
                                            "train.warmup_epochs, or set train.precision to fp32")

    def finish(self, step: int, lr: float) -> dict[str, float]:
        """Means of the epoch under their metric keys; starts the next epoch."""
        self._guard(step)
        seconds = time.perf_counter() - self.begun
        means = {f"train/{name}": (total / self.num_steps).item() for name, total in self.sums.items()}
        means |= {"train/lr": lr, "train/images_per_second": self.num_images / seconds,
                  "train/data_wait": self.seconds_data / seconds}
        self._start_epoch()
        return means

    def state(self) -> dict[str, object]:
        return {"sums": self.sums, "num_steps": self.num_steps}

    def load_state(self, state: dict[str, object]) -> None:
        self.sums = {name: value.to(self.device) for name, value in state["sums"].items()}  # type: ignore[attr-defined]
        self.num_steps = state["num_steps"]  # type: ignore[assignment]


def feature_std(features: Tensor) -> Tensor:
    """sqrt(D) x mean batch deviation of L2-normalised features (B, D): 0 collapsed, 1 isotropic."""
    unit = torch.nn.functional.normalize(features.float(), dim=1)
    spread: Tensor = unit.std(0).mean() * unit.shape[1] ** 0.5
    return spread
