"""Every kind of picture file becomes (H, W, 3) uint8, or a named corrupt image."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.conftest import pixels
from trainers.data.images import decode_image, resize_square
from trainers.data.index import CorruptImage

RGB = pixels(0, 10)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode)
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(name)
    found = decode_image(name, "a")
    assert found.shape == (10, 10, 3)
    assert found.dtype == np.uint8
    if mode in ("RGB", "RGBA"):
        np.testing.assert_array_equal(found, RGB)


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(RGB).quantize(4)
    want = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255, 255]))
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", "a"), want)


def test_sixteen_bit_pictures_use_their_own_range(tmp_path: Path) -> None:
    values = np.linspace(29_000, 31_000, 100).astype(np.uint16).reshape(10, 10)
    Image.fromarray(values).save(tmp_path / "a.png")
    found = decode_image(tmp_path / "a.png", "a")
    assert (found.min(), found.max()) == (0, 255)
    assert (np.diff(found[..., 0].ravel().astype(int)) >= 0).all()
    Image.fromarray(np.full((4, 4), 500, np.uint16)).save(tmp_path / "flat.png")
    assert decode_image(tmp_path / "flat.png", "flat").max() == 0


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees
    Image.fromarray(RGB[:4]).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", "a"), np.rot90(RGB[:4], -1))


@pytest.mark.parametrize("content", [b"", b"no picture at all", None])
def test_broken_files_are_corrupt_images_with_a_reason(tmp_path: Path, content: bytes | None) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(CorruptImage, match="my-id: cannot be decoded"):
        decode_image(tmp_path / "a.png", "my-id")


def test_resize_is_antialiased_and_squashes_the_whole_image() -> None:
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    small = resize_square(stripes, 16)
    assert small.shape == (16, 16, 3)
    assert abs(small.astype(int) - 127).max() < 12  # without antialias it would be 0 or 255
    assert resize_square(stripes[:8, :8], 32).shape == (32, 32, 3)


def test_a_picture_that_unpacks_to_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    """A PNG of 50,000 x 50,000 pixels in its header, a few hundred bytes on disk."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))))
    with pytest.raises(CorruptImage, match="exceeds limit"):
        decode_image(path, "bomb.png")
