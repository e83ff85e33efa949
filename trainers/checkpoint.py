"""Save and resume exactly: all state of a run in one file, replaced atomically, with the one before kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trainers.data.atomic import replace_file

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


@dataclass(frozen=True)
class Position:
    """Where a run stands: ``step_in_epoch`` optimiser steps of ``epoch`` (counted from 0) are done."""

    epoch: int = 0
    step_in_epoch: int = 0


def save(folder: Path, position: Position, state: dict[str, Any]) -> None:
    """Write temp file, sync, rename: a kill at any moment leaves the old or the new file, never half a one."""
    target, temporary = folder / CURRENT, folder / "checkpoint.tmp"
    replace_file(temporary, partial(torch.save, {"position": vars(position), **state}))
    if target.exists():
        os.replace(target, folder / PREVIOUS)
    os.replace(temporary, target)


def load(folder: Path, log: Callable[[str], None]) -> tuple[Position, dict[str, Any]] | None:
    """The newest readable checkpoint, or None. A damaged one is said and skipped."""
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not path.exists():
            continue
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return Position(**state.pop("position")), state
        except Exception as error:  # torch raises many kinds on a damaged file; none may end the trial
            log(f"{path.name} is damaged ({type(error).__name__}), falling back")
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run; its encoder is exported separately."""
    for name in (CURRENT, PREVIOUS, "checkpoint.tmp"):
        (folder / name).unlink(missing_ok=True)
