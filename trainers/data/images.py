"""Any picture file to (H, W, 3) uint8."""

from __future__ import annotations

import contextlib
import struct
import threading
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from trainers.data.index import CorruptImage

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm",
                        ".avif", ".jp2"})
MAX_PIXELS = 400_000_000
"""20,000 x 20,000: a picture with more is refused, since its few bytes may be made to fill the memory."""
HUGE_PIXELS = 64_000_000
"""Larger ones are decoded one at a time, whatever the number of threads."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow would warn from 89 million on, and refuse 179 million
_huge = threading.Lock()
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def decode_image(source: Path | BinaryIO, image_id: str) -> np.ndarray:
    """(H, W, 3) uint8, EXIF orientation applied, grey repeated, palettes resolved, alpha dropped.

    Pictures with more than 8 bits are stretched over their own range, because 12-bit and thermal files use a
    small part of the 16 bits; colour pictures of 16 bits keep their upper 8. Of several frames the first is taken.
    Raises ``CorruptImage`` (missing, truncated, not a picture, more than ``MAX_PIXELS``).
    """
    try:
        with Image.open(source) as image:
            pixels = image.width * image.height
            if pixels > MAX_PIXELS:
                raise CorruptImage(image_id, f"{image.width} x {image.height} pixels exceed the limit of "
                                             f"{MAX_PIXELS // 10**6} million; cut it into tiles or shrink it")
            with _huge if pixels > HUGE_PIXELS else contextlib.nullcontext():
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _rgb(image)
    except CorruptImage:
        raise
    except FileNotFoundError:
        raise CorruptImage(image_id, f"file is missing ({source})") from None
    except DECODE_ERRORS as error:
        raise CorruptImage(image_id, f"cannot be decoded ({error or type(error).__name__})") from None


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        return np.repeat(_stretched(np.asarray(image))[..., None], 3, axis=-1)
    if image.mode == "P":  # straight to RGB, PIL warns about transparent palettes
        image = image.convert("RGBA")
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _stretched(values: np.ndarray) -> np.ndarray:
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
