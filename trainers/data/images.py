"""Any picture file to (H, W, 3) uint8."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from trainers.data.index import CorruptImage
from trainers.inference.pixels import resize_square as resize_square, rgb

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"})
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


def decode_image(source: Path | BinaryIO, image_id: str) -> np.ndarray:
    """(H, W, 3) uint8, EXIF orientation applied, the rest as ``rgb`` says.

    Raises ``CorruptImage`` (missing, truncated, not a picture).
    """
    try:
        with Image.open(source) as image:
            image.load()
            return rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise CorruptImage(image_id, f"file is missing ({source})") from None
    except DECODE_ERRORS as error:
        raise CorruptImage(image_id, f"cannot be decoded ({error or type(error).__name__})") from None
