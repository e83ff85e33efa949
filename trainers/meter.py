"""Running means of an epoch, kept on the device, and the guard against silent numbers."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from trainers import distributed
from trainers.checkpoint import Position
from trainers.collapse import feature_std
from trainers.records import Progress, StepOutput, TrainingError

CUDA_CHECK_STEPS = 20


class Meter:
    """Sums over the steps of one epoch; its ``state`` is in checkpoints, so a resumed epoch reports the same means."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.first_bad_step = torch.full((), -1, dtype=torch.int64, device=device)
        self.last_good: Position | None = None
        """Of the newest checkpoint, for whoever must go back to it."""
        self._start_epoch()

    def _start_epoch(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.num_steps = 0
        self.begun = time.perf_counter()
        self.seconds_data = 0.0
        self.num_images = 0

    def update(self, output: StepOutput, grad_norm: Tensor, progress: Progress, num_images: int) -> None:
        """Add one step, before the optimiser uses its gradient.

        Raises ``TrainingError('diverged')`` on all ranks when the joint loss or gradient is not finite: on a CPU at
        that very step, on CUDA, where looking would wait for the device, at most 20 steps later and before any save.
        """
        values = {"loss": output.loss, "grad_norm": grad_norm, "feature_std": feature_std(output.features),
                  **output.metrics}
        joint = distributed.all_reduce_mean(torch.stack([value.detach().double() for value in values.values()]))
        self.sums = {name: self.sums.get(name, 0.0) + mean for name, mean in zip(values, joint, strict=True)}
        good = torch.isfinite(joint[:2]).all() | (self.first_bad_step >= 0)
        self.first_bad_step = torch.where(good, self.first_bad_step, progress.step)
        self.num_steps += 1
        self.num_images += num_images
        if self.device.type == "cpu" or progress.step % CUDA_CHECK_STEPS == 0:
            self.guard()

    @property
    def is_good(self) -> bool:
        """Whether every step so far was finite. Waits for the device."""
        return int(self.first_bad_step) < 0

    def guard(self) -> None:
        """Raise ``TrainingError('diverged')`` if a step since the start was not finite."""
        step = int(self.first_bad_step)
        if step < 0:
            return
        at = self.last_good
        kept = f"epoch {at.epoch + 1}, step {at.step_in_epoch}" if at is not None else "none yet"
        raise TrainingError(
            "diverged", f"loss or gradient is not finite at step {step} (last good checkpoint: {kept}): "
                        "lower train.lr, raise train.warmup_epochs, or set train.precision to fp32")

    def finish(self, lr: float) -> dict[str, float]:
        """Means of the epoch under their metric keys; starts the next epoch."""
        self.guard()
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
