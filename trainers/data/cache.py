"""Decoded images on disk, built once per (data set, size) and shared by all trials of a node.

    CACHE_DIR/decoded/<digest>-<size>/
        shard-00000.npy …   (n, 3, size, size) uint8, memory-mapped, written once; channels first, so that a
                            batch is a plain copy
        index.parquet       id, shard, row, error; schema metadata holds rows and crc32 of each shard
        lock                held by the one process that is building

The index is replaced atomically after a shard is safely on disk, so a kill leaves at most shard files that no
index names; the next build overwrites them. Shard sizes are checked whenever the index is read; checksums when
``ensure`` first uses a shard in a process (up to ``VERIFY_BYTES`` per process, all of them by ``verify``), and a
damaged shard is decoded again. The digest covers reader, index and root, not the pixels: delete the folder after
changing image files in place.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shutil
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trainers.atomic import locked, replace_file
from trainers.countdown import Countdown
from trainers.data.images import resize_square
from trainers.data.index import AbstractDataset, CorruptImage, DataError, load_checked

SHARD_IMAGES = 4096
CHUNK_IMAGES = 256
"""Images in memory at once while building."""
VERIFY_BYTES = 2**30
MOST_CORRUPT = 0.01
"""Share of the asked images that may be corrupt."""
PUBLISH_SECONDS = 2.0
"""Least time between two versions of the index while building."""
MISSING, CORRUPT = -1, -2
_MAKE_ROOM = "free some space, lower data.cache_size, or set ABLATION_CACHE to another disk"
Report = Callable[[str], None]


def default_cache_dir() -> Path:
    """``ABLATION_CACHE`` or ``~/.cache/ablation``."""
    return Path(os.environ.get("ABLATION_CACHE") or "~/.cache/ablation").expanduser()


def num_cores() -> int:
    """Cores this process may use, at most 16."""
    return min(len(os.sched_getaffinity(0)), 16)


@final
class Cache:
    """The decoded images of one data set at one size. ``corrupt`` maps image id to why it is left out."""

    def __init__(self, dataset: AbstractDataset, size: int, folder: Path) -> None:
        self.size = size
        self.folder = folder
        self.corrupt: dict[str, str] = {}
        self._dataset = dataset
        self._order = np.argsort(dataset.index.ids, kind="stable")
        self._shard = np.full(len(dataset.index), MISSING, dtype=np.int32)
        self._row = np.zeros(len(dataset.index), dtype=np.int32)
        self._shards: dict[int, tuple[int, int]] = {}  # number -> (rows, crc32)
        self._maps: dict[int, np.ndarray] = {}
        self._verified: set[int] = set()
        self._verified_bytes = 0
        self._version: tuple[int, int] | None = None
        self._lock = threading.Lock()

    @classmethod
    def open(cls, dataset: AbstractDataset, size: int, cache_dir: Path, code: str = "") -> Cache:
        """Read what is there; nothing is decoded before ``ensure``. ``code``: of a plug-in, source and options."""
        root: Path | str | None = getattr(dataset, "root", None)
        name = f"{type(dataset).__name__}:{dataset.index.digest}:{Path(root).resolve() if root else ''}{code}"
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        cache = cls(dataset, size, cache_dir / "decoded" / f"{digest}-{size}")
        cache._refresh()
        return cache

    def ensure(self, positions: np.ndarray, num_workers: int | None = None, report: Report | None = None) -> None:
        """Decode what is missing of ``positions``, in index order. Several processes may call at once: one builds.

        Raises ``DataError`` when more than 1 % of ``positions`` are corrupt or the disk is too small.
        """
        say = report or (lambda message: None)
        positions = np.unique(positions)
        self._refresh()
        damaged = self._damaged(positions)
        if not damaged and not self._missing(positions).size and not self._too_corrupt(positions):
            return
        with locked(self.folder / "lock"):
            self._refresh()
            for number in damaged & set(self._shards):
                say(f"{self._path(number)}: checksum is wrong, its images are decoded again")
                self._drop(number)
            if self._too_corrupt(positions):  # the files may have been repaired since
                self._forget_corrupt(positions)
            missing = self._missing(positions)
            if missing.size:
                self._dataset.prepare(say)
                self._build(missing, positions, num_workers or num_cores(), say)
        self._damaged(positions)

    def num_missing(self, positions: np.ndarray) -> int:
        return len(self._missing(positions))

    def usable(self, positions: np.ndarray) -> np.ndarray:
        """``positions`` without corrupt images, order kept."""
        return np.asarray(positions[self._shard[positions] != CORRUPT])

    def gather(self, positions: np.ndarray) -> np.ndarray:
        """(B, 3, size, size) uint8, contiguous, of images that ``ensure`` has decoded."""
        shards, rows = self._shard[positions], self._row[positions]
        assert (shards >= 0).all(), "gather() of images that ensure() has not decoded or that are corrupt"
        out = np.empty((len(shards), 3, self.size, self.size), dtype=np.uint8)
        for number in np.unique(shards).tolist():
            here = np.flatnonzero(shards == number)
            out[here] = self._map(number)[rows[here]]
        return out

    def verify(self) -> list[Path]:
        """Read everything; the shards whose checksum is wrong (``ensure`` decodes their images again)."""
        self._refresh()
        self._verified.clear()
        return [self._path(number) for number in sorted(self._shards) if not self._intact(number)]

    # --- what is on disk

    def _path(self, number: int) -> Path:
        return self.folder / f"shard-{number:05d}.npy"

    def _refresh(self) -> None:
        """Take over the index on disk when it has changed."""
        path = self.folder / "index.parquet"
        try:
            stat = path.stat()
        except FileNotFoundError:
            return
        version = (stat.st_mtime_ns, stat.st_ino)
        if version == self._version:
            return
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path}: cannot be read ({str(error).splitlines()[0]}); delete {self.folder}") from None
        shards = json.loads((table.schema.metadata or {}).get(b"shards", b"{}"))
        before, self._shards = self._shards, {int(number): (rows, crc) for number, (rows, crc) in shards.items()}
        for number in [number for number in before if self._shards.get(number) != before[number]]:
            self._maps.pop(number, None)
            self._verified.discard(number)
        self._take(table)
        self._version = version
        for number in [number for number in self._shards if not self._right_size(number)]:
            self._forget(number)

    def _take(self, table: pa.Table) -> None:
        ids = table["id"].to_numpy().astype(str)
        known = self._dataset.index.ids[self._order]
        slot = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        mine = known[slot] == ids
        positions = self._order[slot[mine]]
        self._shard[:] = MISSING
        self._shard[positions] = table["shard"].to_numpy()[mine]
        self._row[positions] = table["row"].to_numpy()[mine]
        errors = table.filter(pc.equal(table["shard"], CORRUPT))
        self.corrupt = dict(zip(errors["id"].to_pylist(), errors["error"].to_pylist(), strict=True))

    def _publish(self) -> None:
        kept = np.flatnonzero(self._shard != MISSING)
        ids = self._dataset.index.ids[kept].tolist()
        table = pa.table({"id": pa.array(ids, pa.string()), "shard": self._shard[kept], "row": self._row[kept],
                          "error": pa.array([self.corrupt.get(name) for name in ids], pa.string())})
        table = table.replace_schema_metadata({"shards": json.dumps(self._shards)})
        path = self.folder / "index.parquet"
        replace_file(path, lambda handle: pq.write_table(table, handle))
        stat = path.stat()
        self._version = (stat.st_mtime_ns, stat.st_ino)

    def _right_size(self, number: int) -> bool:
        try:
            return self._path(number).stat().st_size == len(self._header(self._shards[number][0])) + self._bytes(number)
        except FileNotFoundError:
            return False

    def _bytes(self, number: int) -> int:
        return self._shards[number][0] * 3 * self.size * self.size

    def _header(self, rows: int) -> bytes:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            head, {"descr": "|u1", "fortran_order": False, "shape": (rows, 3, self.size, self.size)})
        return head.getvalue()

    def _map(self, number: int) -> np.ndarray:
        with self._lock:
            if number not in self._maps:
                self._maps[number] = np.load(self._path(number), mmap_mode="r")
            return self._maps[number]

    def _intact(self, number: int) -> bool:
        if number in self._verified:
            return True
        crc = 0
        pixels = self._map(number)
        for start in range(0, len(pixels), CHUNK_IMAGES):
            crc = zlib.crc32(pixels[start:start + CHUNK_IMAGES].tobytes(), crc)
        if crc != self._shards[number][1]:
            return False
        self._verified.add(number)
        return True

    def _damaged(self, positions: np.ndarray) -> set[int]:
        """Shards behind ``positions`` with a wrong checksum, as far as ``VERIFY_BYTES`` reaches."""
        damaged = set()
        for number in np.unique(self._shard[positions]).tolist():
            if number >= 0 and number not in self._verified and self._verified_bytes < VERIFY_BYTES:
                self._verified_bytes += self._bytes(number)
                if not self._intact(number):
                    damaged.add(number)
        return damaged

    def _forget(self, number: int) -> None:
        self._shard[self._shard == number] = MISSING
        self._shards.pop(number)
        self._maps.pop(number, None)
        self._verified.discard(number)

    def _drop(self, number: int) -> None:
        self._forget(number)
        self._publish()

    # --- building, under the lock

    def _missing(self, positions: np.ndarray) -> np.ndarray:
        return np.asarray(positions[self._shard[positions] == MISSING])

    def _too_corrupt(self, positions: np.ndarray) -> bool:
        return int((self._shard[positions] == CORRUPT).sum()) > MOST_CORRUPT * len(positions)

    def _forget_corrupt(self, positions: np.ndarray) -> None:
        again = positions[self._shard[positions] == CORRUPT]
        self._shard[again] = MISSING
        for name in self._dataset.index.ids[again].tolist():
            self.corrupt.pop(name, None)

    def _build(self, missing: np.ndarray, asked: np.ndarray, num_workers: int, say: Report) -> None:
        need = len(missing) * 3 * self.size * self.size
        free = shutil.disk_usage(self.folder).free
        say(f"decoding {len(missing)} images to {self.folder}: needs {need / 1e6:.0f} MB, {free / 1e6:.0f} MB are free")
        if need > free:
            raise DataError(f"{self.folder}: {need} bytes needed, {free} free; {_MAKE_ROOM}")
        corrupt_before = len(self.corrupt)
        progress = Countdown("decoded", len(missing), "images", say)
        published = 0.0
        try:
            with ThreadPoolExecutor(num_workers) as pool:
                for start in range(0, len(missing), SHARD_IMAGES):
                    self._write_shard(missing[start:start + SHARD_IMAGES], pool, progress)
                    if time.monotonic() - published > PUBLISH_SECONDS or self._too_corrupt(asked):
                        self._publish()
                        published = time.monotonic()
                    self._stop_if_too_corrupt(asked)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DataError(f"{self.folder}: disk is full, {need} bytes needed; {_MAKE_ROOM}") from None
        self._publish()
        if len(self.corrupt) > corrupt_before:
            say(f"{len(self.corrupt)} corrupt images are excluded (delete {self.folder} to try them again): "
                f"{_few(self.corrupt)}")

    def _write_shard(self, positions: np.ndarray, pool: ThreadPoolExecutor, progress: Countdown) -> None:
        number = max(self._shards, default=-1) + 1
        errors: dict[int, str] = {}
        crc, row, rows = 0, 0, np.zeros(len(positions), dtype=np.int32)
        part = self.folder / ".building.npy"  # one builder at a time, so a killed one's file is overwritten
        with part.open("wb") as handle:
            handle.write(self._header(len(positions)))
            for place, pixels in self._decoded(positions, pool):
                progress.step()
                if isinstance(pixels, str):
                    errors[place] = pixels
                    continue
                rows[place], row = row, row + 1
                crc = zlib.crc32(pixels, crc)
                handle.write(pixels)
            handle.seek(0)
            handle.write(self._header(row))  # corrupt images take no row
            handle.flush()
            os.fsync(handle.fileno())
        if row:
            os.replace(part, self._path(number))
            self._shards[number] = (row, crc)
            self._maps.pop(number, None)
            self._verified.add(number)
        self._shard[positions], self._row[positions] = number, rows
        for place, why in errors.items():
            self._shard[positions[place]] = CORRUPT
            self.corrupt[str(self._dataset.index.ids[positions[place]])] = why

    def _decoded(self, positions: np.ndarray, pool: ThreadPoolExecutor) -> Iterator[tuple[int, bytes | str]]:
        """(place in ``positions``, (3, size, size) pixels or why not), in order whatever the number of workers."""
        for start in range(0, len(positions), CHUNK_IMAGES):
            chunk = positions[start:start + CHUNK_IMAGES].tolist()
            yield from enumerate(pool.map(self._decode, chunk), start)

    def _decode(self, position: int) -> bytes | str:
        try:
            pixels = resize_square(load_checked(self._dataset, position), self.size)
        except CorruptImage as error:
            return error.why
        return pixels.transpose(2, 0, 1).tobytes()

    def _stop_if_too_corrupt(self, asked: np.ndarray) -> None:
        if self._too_corrupt(asked):
            ids = [str(name) for name in self._dataset.index.ids[asked[self._shard[asked] == CORRUPT]]]
            raise DataError(f"{len(ids)} of {len(asked)} images are corrupt, more than {MOST_CORRUPT:.0%}: "
                            f"{_few({name: self.corrupt[name] for name in ids})}; repair or remove them")


def _few(corrupt: dict[str, str]) -> str:
    named = "; ".join(f"{name}: {why}" for name, why in list(corrupt.items())[:3])
    return named + (f"; and {len(corrupt) - 3} more" if len(corrupt) > 3 else "")
