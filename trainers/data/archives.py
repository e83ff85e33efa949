"""Finds images by base name in folders and zip archives, and reads their bytes.

Sewer-ML is 1.3 million files in 18 archives of 19 GB: what is kept per image are five numbers, not a ZipInfo,
and members are read with positioned reads, so that threads and forked processes share handles without a lock.
"""

from __future__ import annotations

import os
import struct
import threading
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from trainers.data.index import CorruptImage, DataError

MAX_FILE_BYTES = 1 << 30
"""A zip member of a few kB can unpack to terabytes."""
_LOCAL_HEADER = 30  # bytes of a zip member's local header before name and extra field
_PLACE = np.dtype([("source", "i4"), ("offset", "i8"), ("size", "i8"), ("crc", "u4"), ("method", "i2")])


class ImageFiles:
    """The files of ``ids`` (N,) anywhere below ``root``. Nothing is opened or listed before the first ``read``."""

    def __init__(self, root: Path, ids: np.ndarray) -> None:
        self.root = root
        self.ids = ids
        self._places: np.ndarray | None = None
        self._sources: list[Path] = []
        self._handles: dict[int, BinaryIO] = {}
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "ids": self.ids}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def read(self, position: int) -> bytes:
        """Bytes of the file of ``ids[position]``. Raises ``CorruptImage``."""
        with self._lock:
            if self._places is None:
                self._places = self._find()
        place = self._places[position]
        name = str(self.ids[position])
        if place["source"] < 0:
            raise CorruptImage(name, f"file is missing (searched {self.root}, its folders and zip archives)")
        source: Path = self._sources[place["source"]]
        try:
            if place["offset"] < 0:
                return source.joinpath(PurePosixPath(name).name).read_bytes()
            return self._member(int(place["source"]), place)
        except (OSError, struct.error, zlib.error, ValueError) as error:
            raise CorruptImage(name, f"cannot be read from {source} ({error})") from None

    def _member(self, source: int, place: np.void) -> bytes:
        with self._lock:
            if source not in self._handles:
                self._handles[source] = self._sources[source].open("rb", buffering=0)
        descriptor = self._handles[source].fileno()
        offset = int(place["offset"])
        header = os.pread(descriptor, _LOCAL_HEADER, offset)
        if header[:4] != b"PK\x03\x04":
            raise ValueError("no zip member at its listed offset")
        skip = sum(struct.unpack("<HH", header[26:30]))
        data = _pread(descriptor, int(place["size"]), offset + _LOCAL_HEADER + skip)
        if place["method"] == zipfile.ZIP_DEFLATED:
            inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            data = inflater.decompress(data, MAX_FILE_BYTES)
            if inflater.unconsumed_tail:
                raise ValueError(f"unpacks to more than {MAX_FILE_BYTES >> 20} MiB, which no picture needs")
        elif place["method"] != zipfile.ZIP_STORED:
            raise ValueError(f"zip method {place['method']} or encryption is not supported")
        if zlib.crc32(data) != place["crc"]:
            raise ValueError("checksum of the zip member is wrong")
        return data

    def _find(self) -> np.ndarray:
        """(N,) place of each image; extracted files win over archive members."""
        names = np.array([PurePosixPath(str(name)).name for name in self.ids])
        order = np.argsort(names, kind="stable")
        ranked = names[order]
        places = np.zeros(len(names), dtype=_PLACE)
        places["source"] = -1
        archives = []
        for folder, folders, files in os.walk(self.root, followlinks=True):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            archives += [Path(folder) / name for name in sorted(files) if name.lower().endswith(".zip")]
            found = _match(ranked, order, np.array(files))[0] if files else np.empty(0, dtype=np.int64)
            if len(found):
                places["source"][found], places["offset"][found] = len(self._sources), -1
                self._sources.append(Path(folder))
        for archive in archives:
            missing = places["source"] < 0
            members = _members(archive)
            found, rows = _match(ranked, order, np.array([PurePosixPath(m[0]).name for m in members], dtype=str))
            rows, found = rows[missing[found]], found[missing[found]]
            for field, column in (("offset", 1), ("size", 2), ("crc", 3), ("method", 4)):
                places[field][found] = np.array([member[column] for member in members], dtype=np.int64)[rows]
            places["source"][found] = len(self._sources)
            self._sources.append(archive)
        return places


def _match(ranked: np.ndarray, order: np.ndarray, names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions, rows): which of ``names`` are wanted, and where they stand in the index."""
    if not len(ranked) or not len(names):
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    slot = np.minimum(np.searchsorted(ranked, names), len(ranked) - 1)
    rows = np.flatnonzero(ranked[slot] == names)
    return order[slot[rows]], rows


def _members(archive: Path) -> list[tuple[str, int, int, int, int]]:
    """(name, header offset, compressed size, crc, method) of each file; method -1 where encrypted."""
    try:
        with zipfile.ZipFile(archive) as handle:
            return [(m.filename, m.header_offset, m.compress_size, m.CRC, -1 if m.flag_bits & 1 else m.compress_type)
                    for m in handle.infolist() if not m.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{archive}: not a readable zip archive ({error}); download it again or move it away") from None


def _pread(descriptor: int, size: int, offset: int) -> bytes:
    parts = []
    while size > 0:
        part = os.pread(descriptor, size, offset)
        if not part:
            raise ValueError("the archive ends inside the member")
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)
