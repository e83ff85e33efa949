"""Every kind of picture file becomes (H, W, 3) uint8, or a named corrupt image."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.conftest import pixels
from trainers.data import images
from trainers.data.images import EXTENSIONS, decode_image, resize_square
from trainers.data.index import CorruptImage

RGB = pixels(0, 10)


def png(width: int, height: int, lines: bytes, bits: int = 8) -> bytes:
    """An RGB file as its specification has it; Pillow writes none of 16 bits."""
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


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


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # EXIF 2.3, tag 0x0112
    1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud, 5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90}


@pytest.mark.parametrize("ending", ["png", "tif", "webp", "jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, ending: str) -> None:
    smooth = np.indices((8, 16))[..., None] * np.array([14, 7, 3])  # survives JPEG
    stored = smooth.sum(0).astype(np.uint8)
    lossless = {"lossless": True} if ending == "webp" else {"quality": 100, "subsampling": 0} if ending == "jpg" else {}
    for number, turned in UPRIGHT.items():
        exif = Image.Exif()
        exif[0x0112] = number
        path = tmp_path / f"{number}.{ending}"
        Image.fromarray(stored).save(path, exif=exif, **lossless)
        found, wanted = decode_image(path, "a"), turned(stored)
        assert found.shape == wanted.shape
        assert np.abs(found.astype(int) - wanted).max() <= (6 if ending == "jpg" else 0), number


@pytest.mark.parametrize("ending", ["bmp", "tif", "webp", "gif", "jp2", "ppm"])
def test_lossless_formats_keep_every_pixel_and_of_several_frames_the_first_counts(tmp_path: Path, ending: str) -> None:
    image = Image.fromarray(RGB).quantize(64).convert("RGB")  # as many colours as a GIF has
    more = ending in ("tif", "webp", "gif")
    frames = {"save_all": True, "append_images": [Image.new("RGB", (10, 10))]} if more else {}
    path = tmp_path / f"name with spaces, 名 ü.{ending}"
    image.save(path, **frames, **({"lossless": True} if ending == "webp" else {}))
    np.testing.assert_array_equal(decode_image(path, "a"), np.asarray(image))
    assert path.suffix in EXTENSIONS


def test_colour_of_sixteen_bits_keeps_its_upper_eight(tmp_path: Path) -> None:
    lines = b"".join(b"\0" + line.tobytes() for line in (RGB.astype(int) * 256 + 17).astype(">u2"))
    (tmp_path / "a.png").write_bytes(png(10, 10, lines, bits=16))
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", "a"), RGB)


def test_a_large_picture_is_decoded_and_a_larger_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "HUGE_PIXELS", 50)
    Image.fromarray(RGB).save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png", "a"), RGB)
    monkeypatch.setattr(images, "MAX_PIXELS", 99)
    with pytest.raises(CorruptImage, match=r"^a: 10 x 10 pixels exceed the limit of 0 million; cut it into tiles"):
        decode_image(tmp_path / "a.png", "a")


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
    path = tmp_path / "bomb.png"
    path.write_bytes(png(50_000, 50_000, bytes(100)))
    with pytest.raises(CorruptImage, match="exceeds limit"):
        decode_image(path, "bomb.png")
