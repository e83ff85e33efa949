"""Views per second without any network: our decoded cache and batched augmentation against per-image transforms.

    python -m benchmarks.data_path [SIZE]

Source: 256-px JPEG files. Peers' way: decode each file in each epoch, then torchvision's transforms per image and view.
One thread, laps in turn, medians. Ours crops from the decoded cache (73 px for 64), theirs from the whole file;
``shrunk files`` gives torchvision the same 73-px pictures, as JPEG. ``cache`` is measured after the cache is built.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import decode_jpeg, read_file
from torchvision.transforms import v2

from benchmarks.pictures import jpeg_folder
from benchmarks.record import OUT, facts_line, table, write
from trainers.config import DataConfig
from trainers.data.loader import open_data
from trainers.data.views import Normalization, ViewSpec, augment
from trainers.machine import prepare_process
from trainers.methods import view_specs

BATCH, ROUNDS = 128, 5
METHODS = ("simclr", "byol", "dino", "mae")


def transform(spec: ViewSpec) -> v2.Transform:
    """The same laws from torchvision's own operations, per image."""
    steps: list[Any] = [v2.RandomResizedCrop(spec.size, scale=spec.scale, ratio=spec.ratio, antialias=True),
                        v2.RandomHorizontalFlip(spec.flip)]
    if spec.jitter_p:
        steps.append(v2.RandomApply([v2.ColorJitter(*spec.jitter)], spec.jitter_p))
    if spec.gray_p:
        steps.append(v2.RandomGrayscale(spec.gray_p))
    if spec.blur_p:
        kernel = 2 * (spec.size // 20) + 1
        steps.append(v2.RandomApply([v2.GaussianBlur(kernel, spec.blur_sigma)], spec.blur_p))
    if spec.solarize_p:
        steps.append(v2.RandomSolarize(128, spec.solarize_p))
    return v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True),
                       v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))])


def from_files(files: list[Path], specs: list[ViewSpec], load: Callable[[Path], Any]) -> Callable[[int], list[Tensor]]:
    transforms = [transform(spec) for spec in specs]

    def batch(number: int) -> list[Tensor]:
        images = [load(files[i % len(files)]) for i in range(number * BATCH, (number + 1) * BATCH)]
        return [torch.stack([make(image) for image in images]) for make in transforms]

    return batch


def shrunk(files: list[Path], side: int) -> list[Path]:
    """The same pictures at the size of our cache."""
    folder = OUT / f"shrunk-{side}"
    folder.mkdir(exist_ok=True)
    small = [folder / f"{number}.jpg" for number in range(len(files))]
    for path, target in zip(files, small, strict=True):
        if not target.exists():
            Image.open(path).resize((side, side), Image.Resampling.BILINEAR).save(target, quality=95)
    return small


def from_cache(root: Path, specs: list[ViewSpec], size: int) -> Callable[[int], list[Tensor]]:
    data = open_data(DataConfig(dataset="folder", root=str(root), image_size=size), OUT / "cache")
    positions = np.arange(len(data.dataset.index))
    data.cache.ensure(positions)

    def batch(number: int) -> list[Tensor]:
        rows = np.random.default_rng(number).choice(positions, BATCH)
        keys = torch.arange(number * BATCH, (number + 1) * BATCH)
        return augment(torch.from_numpy(data.cache.gather(rows)), keys, specs, Normalization())

    return batch


def measure(method: str, size: int) -> dict[str, Any]:
    root = jpeg_folder(1024, 256)
    specs = view_specs(method, {}, size)
    files = sorted((root / "train").rglob("*.jpg"))
    small = shrunk(files, size * 256 // 224)
    paths = {"PIL + torchvision": from_files(files, specs, lambda path: Image.open(path).convert("RGB")),
             "decode_jpeg + torchvision": from_files(files, specs, lambda path: decode_jpeg(read_file(str(path)))),
             "shrunk files + torchvision": from_files(small, specs, lambda path: decode_jpeg(read_file(str(path)))),
             "ours": from_cache(root, specs, size)}
    rates: dict[str, list[float]] = {name: [] for name in paths}
    for number in range(ROUNDS + 1):
        for name, batch in paths.items():
            begun = time.perf_counter()
            batch(number)
            rates[name].append(BATCH * len(specs) / (time.perf_counter() - begun))
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    best = max(value for name, value in medians.items() if name != "ours")
    return {"method": method, "size": size, "views": len(specs)} | medians | {"times the best": medians["ours"] / best}


if __name__ == "__main__":
    prepare_process(1)
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    rows = [measure(method, side) for method in METHODS]
    print(table(rows), facts_line(), sep="\n")
    print(write(f"data_path-{side}", rows))
