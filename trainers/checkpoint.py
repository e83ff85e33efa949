"""Save and resume exactly: all state of a run in one file, replaced atomically, with the one before kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch

from trainers.atomic import patiently, replace_file

CURRENT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


@dataclass(frozen=True)
class Position:
    """Where a run stands: ``step_in_epoch`` optimiser steps of ``epoch`` (counted from 0) are done."""

    epoch: int = 0
    step_in_epoch: int = 0


def save(folder: Path, position: Position, state: dict[str, Any]) -> None:
    """Write temp file, sync, rename: a kill at any moment leaves the old or the new file, never half a one."""
    target = folder / CURRENT

    def write(handle: BinaryIO) -> None:
        torch.save({"position": vars(position), **state}, handle)
        if target.exists():
            os.replace(target, folder / PREVIOUS)

    replace_file(target, write)


def load(folder: Path, log: Callable[[str], None]) -> tuple[Position, dict[str, Any]] | None:
    """The newest readable checkpoint, or None. A damaged one is said and skipped."""
    _remove_halves(folder)
    for name in (CURRENT, PREVIOUS):
        path = folder / name
        if not patiently(path.exists):
            continue
        try:
            state = patiently(partial(torch.load, path, map_location="cpu", weights_only=True))
            return Position(**state.pop("position")), state
        except Exception as error:  # torch raises many kinds on a damaged file; none may end the trial
            log(f"{path.name} is damaged ({type(error).__name__}), falling back")
    return None


def clear(folder: Path) -> None:
    """Remove the checkpoints of a finished run; its encoder is exported separately."""
    for name in (CURRENT, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
    _remove_halves(folder)


def _remove_halves(folder: Path) -> None:
    """What a process that was killed while saving left behind: each as large as a checkpoint."""
    for path in folder.glob(".tmp-*.pt"):
        path.unlink(missing_ok=True)
