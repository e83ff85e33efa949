"""Small real files for the readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from trainers.data.index import Index
from trainers.data.sewer_ml import COLUMNS

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "ir_dev"


@pytest.fixture(scope="session")
def ir_dev() -> Path:
    if not SHARED.is_dir():
        pytest.skip("shared/data/ir_dev is absent")
    return SHARED


def pixels(number: int, size: int = 12) -> np.ndarray:
    """(size, size, 3) noise of its own for every number."""
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def write_image(path: Path, number: int, size: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(number, size)).save(path)


def sewer_line(number: int, **values: int) -> str:
    """One line of a 22-column table: ``sewer_line(3, RB=1, Defect=1)``."""
    row = {"Filename": f"{number:08d}.png", **dict.fromkeys(COLUMNS[1:], 0), **values}
    return ",".join(str(row[name]) for name in COLUMNS)


def write_table(path: Path, lines: list[str], header: str = ",".join(COLUMNS)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n")


@pytest.fixture
def sewer_root(tmp_path: Path) -> Path:
    """Train 1..4, Val 5..6, no images yet."""
    root = tmp_path / "sewer"
    write_table(root / "SewerML_Train.csv", [
        sewer_line(1, ND=1), sewer_line(2, VA=1),
        sewer_line(3, RB=1, OB=1, AF=1, Defect=1), sewer_line(4, AF=1, BE=1, Defect=1)])
    write_table(root / "SewerML_Val.csv", [sewer_line(5, ND=1), sewer_line(6, FS=1, Defect=1)])
    return root


@pytest.fixture
def make_index() -> Callable[..., Index]:
    """An index without files: ``make_index(train=(normals, defects), val=(…), test=(…))``."""

    def make(group_size: int = 1, **sizes: tuple[int, int]) -> Index:
        ids, labels, splits, groups = [], [], [], []
        for split, counts in sizes.items():
            for label, count in enumerate(counts):
                ids += [f"{split}-{label}-{n}.png" for n in range(count)]
                groups += [f"{split}-{n // group_size}" for n in range(count)]
                labels += [label] * count
                splits += [split] * count
        kinds = np.where(np.array(labels) == 1, np.where(np.arange(len(ids)) % 3 == 0, "RB", "OB"), "")
        return Index(ids=np.array(ids), labels=np.array(labels, dtype=np.int8), splits=np.array(splits),
                     groups=np.array(groups), defect_types=kinds)

    return make
