"""The decoded cache: right pixels, built once, safe against kills, races, corrupt images and damaged shards."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.trainers.data.conftest import write_image
from trainers.data import cache as cache_module
from trainers.data.cache import Cache, default_cache_dir
from trainers.data.folder import Folder
from trainers.data.images import resize_square
from trainers.data.index import DataError

SIZE = 16
REPOSITORY = Path(__file__).resolve().parents[3]
# A builder in a process of its own: small shards, slow decoding, so that it can be met half-way.
BUILDER = """
import sys, time
import numpy as np
from pathlib import Path
from trainers.data import cache
from trainers.data.folder import Folder
cache.SHARD_IMAGES, cache.PUBLISH_SECONDS = 10, 0.0
data, slow = Folder(sys.argv[1], Folder.Options()), float(sys.argv[3])
load = data.load
def counted(position):
    time.sleep(slow)
    print("decoded", position, flush=True)
    return load(position)
data.load = counted
cache.Cache.open(data, 16, Path(sys.argv[2])).ensure(np.arange(len(data.index)), num_workers=1)
"""


@pytest.fixture
def data(tmp_path: Path) -> Folder:
    for number in range(150):
        split = "val" if number % 3 == 0 else "train"
        write_image(tmp_path / "data" / split / "good" / f"{number:03d}.png", number, 20)
    return Folder(str(tmp_path / "data"), Folder.Options())


def expected(data: Folder, positions: np.ndarray) -> np.ndarray:
    return np.stack([resize_square(data.load(int(p)), SIZE).transpose(2, 0, 1) for p in positions])


def build_apart(data: Folder, cache_dir: Path, delay: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(data.root), str(cache_dir), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)


def test_gather_gives_the_resized_pixels_in_the_asked_order(
    data: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SHARD_IMAGES", 16)
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    some = np.array([100, 3, 77, 3])
    cache.ensure(some)
    np.testing.assert_array_equal(cache.gather(some), expected(data, some))
    everything = np.random.default_rng(0).permutation(150)
    cache.ensure(everything)
    batch = cache.gather(everything)
    np.testing.assert_array_equal(batch, expected(data, everything))
    assert batch.flags.c_contiguous
    assert batch.shape == (150, 3, SIZE, SIZE)


def test_what_is_there_is_not_decoded_again(data: Folder, tmp_path: Path) -> None:
    Cache.open(data, SIZE, tmp_path / "cache").ensure(np.arange(150))
    lines: list[str] = []
    again = Cache.open(data, SIZE, tmp_path / "cache")
    again.ensure(np.arange(150), report=lines.append)
    assert lines == []
    np.testing.assert_array_equal(again.gather(np.arange(5)), expected(data, np.arange(5)))
    again.ensure(np.arange(150), report=lines.append)
    assert len(list(again.folder.glob("shard-*.npy"))) == 1


def test_files_do_not_depend_on_the_number_of_workers(data: Folder, tmp_path: Path) -> None:
    shards = []
    for workers in (1, 4):
        cache = Cache.open(data, SIZE, tmp_path / f"cache{workers}")
        cache.ensure(np.arange(150), num_workers=workers)
        shards.append([path.read_bytes() for path in sorted(cache.folder.glob("shard-*.npy"))])
    assert shards[0] == shards[1]


def test_sizes_and_roots_do_not_share_a_cache(data: Folder, tmp_path: Path) -> None:
    os.rename(data.root, tmp_path / "moved")
    moved = Folder(str(tmp_path / "moved"), Folder.Options())
    assert moved.index.digest == data.index.digest
    folders = {Cache.open(d, size, tmp_path).folder for d in (data, moved) for size in (16, 24)}
    assert len(folders) == 4


def test_a_build_killed_half_way_is_finished_by_the_next(data: Folder, tmp_path: Path) -> None:
    builder = build_apart(data, tmp_path / "cache", 0.005)
    assert builder.stdout is not None
    for _ in range(55):  # five of fifteen shards are published
        builder.stdout.readline()
    builder.send_signal(signal.SIGKILL)
    builder.wait()
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    lines: list[str] = []
    cache.ensure(np.arange(150), report=lines.append)
    left = int(lines[0].split()[1])
    assert 0 < left <= 100, lines[0]
    np.testing.assert_array_equal(cache.gather(np.arange(150)), expected(data, np.arange(150)))
    assert Cache.open(data, SIZE, tmp_path / "cache").verify() == []


def test_two_processes_that_ask_at_once_decode_each_image_once(data: Folder, tmp_path: Path) -> None:
    builders = [build_apart(data, tmp_path / "cache", 0.002) for _ in range(2)]
    decoded = [builder.communicate(timeout=60)[0].count("decoded") for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0]
    assert sum(decoded) == 150
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    np.testing.assert_array_equal(cache.gather(np.arange(150)), expected(data, np.arange(150)))


def test_an_open_cache_sees_what_another_process_built(data: Folder, tmp_path: Path) -> None:
    early = Cache.open(data, SIZE, tmp_path / "cache")
    assert build_apart(data, tmp_path / "cache", 0).wait(timeout=60) == 0
    lines: list[str] = []
    early.ensure(np.arange(150), report=lines.append)
    assert lines == []
    np.testing.assert_array_equal(early.gather(np.arange(150)), expected(data, np.arange(150)))


def test_one_corrupt_image_is_named_counted_and_left_out(data: Folder, tmp_path: Path) -> None:
    bad = int(np.flatnonzero(data.index.ids == "train/good/100.png")[0])
    (data.root / "train/good/100.png").write_bytes(b"broken")
    lines: list[str] = []
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    cache.ensure(np.arange(150), report=lines.append)
    assert list(cache.corrupt) == ["train/good/100.png"]
    assert "cannot be decoded" in cache.corrupt["train/good/100.png"]
    assert any(line.startswith("1 corrupt images are excluded") and "train/good/100.png" in line for line in lines)
    usable = cache.usable(np.arange(150))
    assert usable.tolist() == [p for p in range(150) if p != bad]
    for again in (cache, Cache.open(data, SIZE, tmp_path / "cache")):
        assert list(again.corrupt) == ["train/good/100.png"]
        np.testing.assert_array_equal(again.gather(usable), expected(data, usable))


def test_more_than_one_percent_corrupt_stops_and_repaired_files_are_read(data: Folder, tmp_path: Path) -> None:
    names = ["train/good/100.png", "train/good/101.png"]
    for name in names:
        (data.root / name).unlink()
    for _ in range(2):
        with pytest.raises(DataError, match=r"2 of 150 images are corrupt, more than 1%: train/good/100.png: file is"):
            Cache.open(data, SIZE, tmp_path / "cache").ensure(np.arange(150))
    for name in names:
        Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(data.root / name)
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    cache.ensure(np.arange(150))
    assert cache.corrupt == {}
    np.testing.assert_array_equal(cache.gather(np.arange(150)), expected(data, np.arange(150)))


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_shard_is_decoded_again(data: Folder, tmp_path: Path, damage: str) -> None:
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    cache.ensure(np.arange(150))
    shard, = cache.folder.glob("shard-*.npy")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.unlink()
    if damage != "remove":
        shard.write_bytes(content if damage == "flip" else content[:-5])
    again = Cache.open(data, SIZE, tmp_path / "cache")
    again.ensure(np.arange(150))
    np.testing.assert_array_equal(again.gather(np.arange(150)), expected(data, np.arange(150)))
    assert again.verify() == []


def test_too_little_space_is_one_line_with_path_and_bytes(
    data: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**6, 10**6 - 1000, 1000))
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    with pytest.raises(DataError, match=f"{cache.folder}: {150 * 3 * SIZE * SIZE} bytes needed, 1000 free; free some"):
        cache.ensure(np.arange(150))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_building_is_a_data_error(data: Folder, tmp_path: Path) -> None:
    cache = Cache.open(data, SIZE, tmp_path / "cache")
    cache.folder.mkdir(parents=True)
    (cache.folder / ".building.npy").symlink_to("/dev/full")  # every write fails with ENOSPC
    with pytest.raises(DataError, match=f"{cache.folder}: disk is full, {150 * 3 * SIZE * SIZE} bytes needed"):
        cache.ensure(np.arange(150))


def test_progress_lines_come_at_most_every_two_seconds(data: Folder, tmp_path: Path) -> None:
    load = data.load
    lines: list[str] = []

    def slow(position: int) -> np.ndarray:
        time.sleep(0.03)
        return load(position)

    data.load = slow  # type: ignore[method-assign]
    Cache.open(data, SIZE, tmp_path / "cache").ensure(np.arange(150), num_workers=2, report=lines.append)
    assert 2 <= len(lines) <= 4


def test_default_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_CACHE", "/some/where")
    assert default_cache_dir() == Path("/some/where")
    monkeypatch.delenv("ABLATION_CACHE")
    assert default_cache_dir() == Path.home() / ".cache" / "ablation"


READ_ALL = """
import sys, numpy as np
from pathlib import Path
from trainers.config import DataConfig
from trainers.data.loader import open_data
data = open_data(DataConfig(dataset="digits", image_size=64, cache_size=96), Path(sys.argv[1]))
everything = np.arange(len(data.dataset.index))
data.cache.ensure(everything)
for start in range(0, len(everything), 64):
    data.cache.gather(everything[start:start + 64])
print("read", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/PID/smaps")
def test_a_second_process_adds_no_second_copy_of_the_pictures(tmp_path: Path) -> None:
    """Both have the same pages of the shards, those of the page cache, and none of their own."""
    readers = [subprocess.Popen([sys.executable, "-c", READ_ALL, str(tmp_path)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "read\n"
        for reader in readers:
            kilobytes = shard_memory(reader.pid)
            assert kilobytes["Rss"] > 40_000  # 1,797 digits of 3 x 96 x 96 bytes are 49.7 MB
            assert kilobytes["Pss"] < 0.55 * kilobytes["Rss"]  # every page counts half
            assert kilobytes["Private_Dirty"] == kilobytes["Anonymous"] == 0
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()


def shard_memory(pid: int) -> dict[str, int]:
    """Sums over the mappings of shards, kB, by /proc/PID/smaps."""
    sums: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *values = line.split()
        if not name.endswith(":"):
            inside = "/shard-" in line
        elif inside and values[-1] == "kB":
            sums[name[:-1]] = sums.get(name[:-1], 0) + int(values[0])
    return sums
