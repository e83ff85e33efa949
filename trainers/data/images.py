"""Any picture file to (H, W, 3) uint8."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from trainers.data.index import CorruptImage

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def decode_image(source: Path | BinaryIO, image_id: str) -> np.ndarray:
    """(H, W, 3) uint8, EXIF orientation applied, grey repeated, palettes resolved, alpha dropped.

    Pictures with more than 8 bits are stretched over their own range, because 12-bit and thermal files use a
    small part of the 16 bits. Raises ``CorruptImage`` (missing, truncated, not a picture).
    """
    try:
        with Image.open(source) as image:
            image.load()
            return _rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise CorruptImage(image_id, f"file is missing ({source})") from None
    except DECODE_ERRORS as error:
        raise CorruptImage(image_id, f"cannot be decoded ({error or type(error).__name__})") from None


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        low, high = float(values.min()), float(values.max())
        gray = np.round((values - low) * (255 / max(high - low, 1e-12)))
        return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=-1)
    if image.mode == "P":  # straight to RGB, PIL warns about transparent palettes
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def resize_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """The whole image squashed to (size, size, 3), antialiased when shrinking (aspect as in the Sewer-ML baseline)."""
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0))
