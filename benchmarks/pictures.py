"""Pictures to measure with: drawn sewer pipes as JPEG files in class folders, as a user would have them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.record import OUT
from trainers.config import DataConfig
from trainers.data import open_dataset


def jpeg_folder(num_train: int, side: int) -> Path:
    """``root/{train,val}/{normal,defect}/*.jpg`` of ``side`` pixels, half of them defects; drawn on first use."""
    OUT.mkdir(exist_ok=True)
    root = OUT / f"pictures-{num_train}-{side}"
    if root.exists():
        return root
    with tempfile.TemporaryDirectory(dir=OUT) as scratch:
        drawn, part = Path(scratch) / "drawn", Path(scratch) / "part"
        config = DataConfig(dataset="sewer-sim", root=str(drawn), options={
            "num_train": num_train, "num_val": 64, "size": side, "prevalence": 0.5})
        dataset = open_dataset(config)
        dataset.prepare(print)
        index = dataset.index
        for position, (split, label) in enumerate(zip(index.splits, index.labels, strict=True)):
            folder = part / str(split) / ("defect" if label else "normal")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(dataset.load(position)).save(folder / f"{position:06d}.jpg", quality=90)
        shutil.move(part, root)
    return root
