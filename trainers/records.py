"""The nouns that cross borders, all frozen. Shapes: B images of the local batch, V views, D features, K projection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """Where in the schedule a step is. ``fraction`` runs from 0 (first step) to just under 1 (last step)."""

    step: int
    total_steps: int
    epoch: int
    total_epochs: int

    @property
    def fraction(self) -> float:
        return self.step / max(1, self.total_steps)


@dataclass(frozen=True)
class Batch:
    """This rank's share of one global batch, on the training device."""

    views: list[Tensor]
    """V tensors (B, 3, s_v, s_v), normalised floats; equal sizes first (DINO: globals, then locals)."""
    labels: Tensor
    """(B,) int64: 0 normal, 1 defect. Only a method with ``uses_labels`` may read them."""
    keys: Tensor
    """(B,) int64, one per (seed, epoch, image): the only source of per-image randomness in a method (masks)."""


@dataclass(frozen=True)
class StepOutput:
    """What a method computes from a batch."""

    loss: Tensor
    """Scalar float32: this rank's mean, so that the mean over ranks is the loss of the joint batch."""
    features: Tensor
    """(B', D) detached backbone features of this step, for the collapse guard."""
    metrics: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars worth a curve, e.g. ``teacher_entropy``."""


@dataclass(frozen=True)
class EpochReport:
    """One line of ``history.jsonl``."""

    epoch: int
    step: int
    time: float
    """Unix seconds when the epoch ended; MLflow points reuse it, so that a replay adds nothing."""
    metrics: dict[str, float]
    flags: list[str] = field(default_factory=list)
    """``collapsed`` and by which sign, see ``trainers.collapse``."""


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves behind."""

    metrics: dict[str, float]
    """Finite values only, at most 40 keys, names of design section 6."""
    epochs: int
    steps: int
    provenance: dict[str, Any]
    flags: list[str] = field(default_factory=list)
    """As in ``EpochReport``, of the end."""
    further: dict[str, float] = field(default_factory=dict)
    """More metrics of the end, kept with the result only; see ``EvalReport.further``."""


@dataclass(frozen=True)
class RunContext:
    """Where and as which rank a run happens: everything that must not change its numbers."""

    trial_dir: Path
    """Checkpoints, encoder, scores and manifest of this run."""
    cache_dir: Path
    """Decoded images, shared by all runs of a node."""
    rank: int = 0
    world_size: int = 1
    device: str = "auto"
    """``auto`` = CUDA when present, else ``cpu``; or any torch device name."""
    threads: int | None = None
    """Torch threads of a CPU run; null = leave as it is."""
    log: Callable[[str], None] = lambda message: None
    """One plain line for people."""


class TrainingError(RuntimeError):
    """A run that cannot go on. ``reason`` is one word for tables: ``diverged``, ``out_of_memory``, ``data`` …"""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message

    def __reduce__(self) -> tuple[type[TrainingError], tuple[str, str]]:
        return type(self), (self.reason, self.message)  # errors travel between processes
