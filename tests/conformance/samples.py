"""A small real instance of every data set. A new entry of ``DATASETS`` needs a line here, or its tests fail by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.trainers.data.conftest import sewer_line, write_table

NUM_TRAIN, NUM_VAL = 48, 24


def picture(number: int) -> Image.Image:
    """Noise with a bright square in every third picture, the defects."""
    pixels = np.random.default_rng(number).integers(0, 120, (20, 20, 3), dtype=np.uint8)
    if number % 3 == 0:
        pixels[4:12, 4:12] = 250
    return Image.fromarray(pixels)


def write_pictures(root: Path, name: Callable[[int], str]) -> None:
    for number in range(NUM_TRAIN + NUM_VAL):
        path = root / name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(path)


def split(number: int) -> str:
    return "train" if number < NUM_TRAIN else "val"


def folder(root: Path) -> tuple[str | None, dict[str, Any]]:
    write_pictures(root, lambda n: f"{split(n)}/{'crack' if n % 3 == 0 else 'good'}/{n}.png")
    return str(root), {}


def table(root: Path) -> tuple[str | None, dict[str, Any]]:
    write_pictures(root, lambda n: f"{n}.png")
    rows = [f"{n}.png,{int(n % 3 == 0)},{split(n)}" for n in range(NUM_TRAIN + NUM_VAL)]
    (root / "table.csv").write_text("\n".join(["path,label,split", *rows]) + "\n")
    return str(root / "table.csv"), {}


def sewer_ml(root: Path) -> tuple[str | None, dict[str, Any]]:
    write_pictures(root, lambda n: f"{n:08d}.png")
    lines = [sewer_line(n, RB=1, Defect=1) if n % 3 == 0 else sewer_line(n, ND=1) for n in range(NUM_TRAIN + NUM_VAL)]
    write_table(root / "SewerML_Train.csv", lines[:NUM_TRAIN])
    write_table(root / "SewerML_Val.csv", lines[NUM_TRAIN:])
    return str(root), {}


SAMPLES: dict[str, Callable[[Path], tuple[str | None, dict[str, Any]]]] = {
    "folder": folder,
    "table": table,
    "sewer-ml": sewer_ml,
    "sewer-sim": lambda root: (str(root), {"num_train": NUM_TRAIN, "num_val": NUM_VAL, "size": 32}),
    "digits": lambda root: (None, {}),
}
"""Name -> what writes the data below a folder and gives ``data.root`` and ``data.options``."""
