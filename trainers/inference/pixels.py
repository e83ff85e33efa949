"""Any picture to the square uint8 pixels that a model of this project was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps


def read_image(source: str | Path | BinaryIO, size: int) -> np.ndarray:
    """(3, size, size) uint8 of a file, as in training. Raises what pillow raises for a file that it cannot decode."""
    with Image.open(source) as image:
        image.load()
        return resize_square(rgb(ImageOps.exif_transpose(image)), size).transpose(2, 0, 1).copy()


def rgb(image: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8: grey repeated, palettes resolved, alpha dropped.

    Grey pictures with more than 8 bits are stretched over their own range, because 12-bit and thermal files use a
    small part of the 16 bits; colour pictures of 16 bits keep their upper 8.
    """
    if image.mode.startswith(("I", "F")):
        return np.repeat(stretched(np.asarray(image))[..., None], 3, axis=-1)
    if image.mode == "P":  # straight to RGB, PIL warns about transparent palettes
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def stretched(values: np.ndarray) -> np.ndarray:
    """(H, W) of any type to uint8, over their own range. Row by row: a large picture in float64 takes gigabytes."""
    gray = np.empty(values.shape, np.uint8)
    values = values if values.dtype.kind in "ui" else np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    for row, line in zip(gray, values, strict=True):
        row[:] = np.round((line.astype(np.float64) - low) * (255 / max(high - low, 1e-12)))
    return gray


def resize_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The whole image squashed to (size, size, 3), antialiased when shrinking (aspect as in the Sewer-ML baseline)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))
