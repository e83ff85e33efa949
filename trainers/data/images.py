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
from trainers.inference.pixels import resize_square as resize_square, rgb

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
    """(H, W, 3) uint8 of the first frame, EXIF orientation applied, the rest as ``rgb`` says.

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
                return rgb(image)
    except CorruptImage:
        raise
    except FileNotFoundError:
        raise CorruptImage(image_id, f"file is missing ({source})") from None
    except DECODE_ERRORS as error:
        raise CorruptImage(image_id, f"cannot be decoded ({error or type(error).__name__})") from None
