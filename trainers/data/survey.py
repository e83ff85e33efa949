"""What the pictures of a data set are like: sizes, copies, leaks between splits, flat and broken ones.

Every picture is decoded once and forgotten; memory does not grow with their size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from trainers.countdown import Countdown
from trainers.data.cache import CHUNK_IMAGES, num_cores
from trainers.data.index import AbstractDataset, CorruptImage, Index, load_checked
from trainers.seeding import hash_ids

LABELS = {0: "normal", 1: "defect", -1: "unknown"}
FLAT_STD = 2.0
"""Of 255 grey levels: a picture with less spread is taken for flat (a closed lens, an empty frame)."""
MOST_PIXELS = 2**20
"""A larger picture's spread is taken from every k-th row and column."""


@dataclass(frozen=True)
class Survey:
    """N pictures that were looked at, in index order."""

    positions: np.ndarray
    """(N,) in the index."""
    sizes: np.ndarray
    """(N, 2) int64 width, height in pixels; 0 where broken."""
    contents: np.ndarray
    """(N,) int64, equal for equal decoded pixels; -1 where broken."""
    stds: np.ndarray
    """(N,) spread of the grey levels, 0..127; NaN where broken."""
    broken: dict[int, str]
    """Place among the N -> why it cannot be decoded."""


@dataclass(frozen=True)
class Problem:
    """One picture that somebody should look at."""

    problem: str
    """``leak``, ``contradiction``, ``duplicate``, ``flat`` or ``corrupt``."""
    image: str
    split: str
    label: int
    detail: str


def choose(index: Index, most: int) -> np.ndarray:
    """Positions to look at: all, or a sample of ``most`` by hash of the id; 0 = all."""
    if not most or len(index) <= most:
        return np.arange(len(index))
    return np.sort(np.argsort(hash_ids(index.ids, "survey"), kind="stable")[:most])


def survey(dataset: AbstractDataset, positions: np.ndarray, say: Callable[[str], None]) -> Survey:
    """Look at the pictures at ``positions``, on all cores. Raises ``DataError`` where a reader breaks its promise."""
    dataset.prepare(say)
    sizes = np.zeros((len(positions), 2), dtype=np.int64)
    stds = np.full(len(positions), np.nan)
    known: dict[bytes, int] = {}
    contents = np.full(len(positions), -1, dtype=np.int64)
    broken: dict[int, str] = {}
    progress = Countdown("looked at", len(positions), "images", say)
    for place, found in enumerate(_looks(dataset, positions)):
        progress.step()
        if isinstance(found, str):
            broken[place] = found
            continue
        sizes[place], stds[place] = found[:2], found[2]
        contents[place] = known.setdefault(found[3], len(known))
    return Survey(positions, sizes, contents, stds, broken)


def _looks(dataset: AbstractDataset, positions: np.ndarray) -> Iterator[tuple[int, int, float, bytes] | str]:
    """(width, height, spread, digest) of each picture, or why there is none."""

    def look(position: int) -> tuple[int, int, float, bytes] | str:
        try:
            pixels = np.ascontiguousarray(load_checked(dataset, position))
        except CorruptImage as error:
            return error.why
        height, width = pixels.shape[:2]
        digest = hashlib.blake2b(pixels.data, digest_size=12, person=f"{width}x{height}".encode()[:16]).digest()
        step = max(1, int((width * height / MOST_PIXELS) ** 0.5))
        return width, height, float(pixels[::step, ::step].mean(axis=2).std()), digest

    with ThreadPoolExecutor(num_cores()) as pool:
        for start in range(0, len(positions), CHUNK_IMAGES):
            yield from pool.map(look, positions[start:start + CHUNK_IMAGES].tolist())


def problems(index: Index, found: Survey) -> list[Problem]:
    """Broken and flat pictures and copies, worst first.

    Of pictures with equal pixels the first is the original, one of the train split if there is any. A copy that stands
    in another split is a ``leak``, one with another label a ``contradiction``, any other a ``duplicate``.
    """
    ids, splits, labels = (column[found.positions] for column in (index.ids, index.splits, index.labels))

    def problem(kind: str, place: int, detail: str) -> Problem:
        return Problem(kind, str(ids[place]), str(splits[place]), int(labels[place]), detail)

    out: list[Problem] = []
    first: dict[int, int] = {}
    for place in np.lexsort((np.arange(len(splits)), splits != "train")).tolist():
        content = int(found.contents[place])
        original = first.setdefault(content, place)
        if content < 0 or original == place:
            continue
        kind = ("leak" if splits[place] != splits[original] else
                "contradiction" if labels[place] != labels[original] else "duplicate")
        there = f"{splits[original]}, {LABELS[int(labels[original])]}"
        out.append(problem(kind, place, f"the same pixels as {ids[original]} ({there})"))
    out += [problem("flat", place, f"grey levels spread by {found.stds[place]:.2f} of 255")
            for place in np.flatnonzero(found.stds < FLAT_STD).tolist()]
    out += [problem("corrupt", place, why) for place, why in found.broken.items()]
    order = ("leak", "contradiction", "duplicate", "flat", "corrupt")
    return sorted(out, key=lambda item: order.index(item.problem))
