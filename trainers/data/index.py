"""What a data set is to the rest of the package: one table of images without pixels, and a way to load one.

Readers (``sewer_ml``, ``folder`` …) build an ``Index``; subsets, cache and evaluation only see this file.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from trainers.python_file import told

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DataError(ValueError):
    """Data that cannot be used. The message names file, row or image, and the fix."""


class CorruptImage(DataError):
    """One image that cannot be decoded."""

    def __init__(self, image_id: str, why: str) -> None:
        super().__init__(f"{image_id}: {why}")
        self.image_id = image_id
        self.why = why

    def __reduce__(self) -> tuple[type[CorruptImage], tuple[str, str]]:
        return type(self), (self.image_id, self.why)  # errors travel between processes


@dataclass(frozen=True, kw_only=True)
class Index:
    """N images in a fixed order. Strings are numpy unicode arrays; nothing here holds pixels."""

    ids: np.ndarray
    """(N,) unique image ids: the file name or path below the root, with forward slashes."""
    labels: np.ndarray
    """(N,) int8: 0 normal, 1 defect, -1 unknown (Sewer-ML's Test split)."""
    splits: np.ndarray
    """(N,) of ``train``, ``val``, ``test``."""
    groups: np.ndarray
    """(N,) group names; images of one group never stand on both sides of a split. ``ids`` where there are none."""
    defect_types: np.ndarray
    """(N,) defect type, ``""`` for normal or unknown."""
    codes: np.ndarray | None = None
    """(N, 17) uint8 Sewer-ML codes in CSV order, or None."""

    def __len__(self) -> int:
        return len(self.ids)

    def where(self, split: str, label: int | None = None) -> np.ndarray:
        """Positions of a split, in index order, optionally of one label."""
        mask = self.splits == split
        if label is not None:
            mask &= self.labels == label
        return np.flatnonzero(mask)

    @cached_property
    def memo(self) -> dict[Hashable, Any]:
        """What ``trainers.data.imbalance`` keeps here, since all trials of a process ask for it again."""
        return {}

    @cached_property
    def digest(self) -> str:
        """16 hex digits over the sorted (id, label, split, group, type, codes) rows: the data in trial keys."""
        order = np.argsort(self.ids)
        hasher = hashlib.blake2b(digest_size=8)
        for column in (self.ids, self.labels.astype(str), self.splits, self.groups, self.defect_types):
            hasher.update("\n".join(column[order].tolist()).encode() + b"\0")
        if self.codes is not None:
            hasher.update(np.ascontiguousarray(self.codes[order], dtype=np.uint8).tobytes())
        return hasher.hexdigest()


def check_index(index: Index) -> None:
    """What readers promise of an index, asked of those from outside. Raises ``DataError`` for the first broken one."""
    text = {name: np.asarray(getattr(index, name)) for name in ("ids", "splits", "groups", "defect_types")}
    labels = np.asarray(index.labels)
    for name, column in (*text.items(), ("labels", labels)):
        if column.shape != (len(index),) or not len(index):
            raise DataError(f"index.{name}: must have one entry per image, got shape {column.shape} for {len(index)}")
    for name, column in text.items():
        if column.dtype.kind != "U":
            raise DataError(f"index.{name}: must be an array of text, got {column.dtype}")
    ids, counts = np.unique(text["ids"], return_counts=True)
    if counts.max() > 1:
        raise DataError(f"index.ids: '{ids[counts.argmax()]}' is there {counts.max()} times")
    if labels.dtype != np.int8 or not np.isin(labels, (-1, 0, 1)).all():
        raise DataError("index.labels: must be int8: 0 normal, 1 defect, -1 unknown")
    if not np.isin(text["splits"], ("train", "val", "test")).all():
        raise DataError("index.splits: must be train, val or test")
    if ((text["defect_types"] != "") != (labels == 1)).any():
        raise DataError("index.defect_types: must be '' for normal and unknown images, and name the type of defects")
    pairs = np.unique(np.stack([text["groups"], text["splits"]]), axis=1)
    groups, counts = np.unique(pairs[0], return_counts=True)
    if counts.max() > 1:
        raise DataError(f"index.groups: '{groups[counts.argmax()]}' stands in more than one split")


class AbstractDataset(ABC):
    """A readable data set. Building one reads tables only (no pixels) and raises ``DataError`` for what is wrong."""

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Fields of ``data.options``; each reader overrides this."""

    summary: ClassVar[str]
    """One line for ``ablation datasets``."""
    needs_root: ClassVar[bool] = True
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    index: Index
    left_out: Mapping[str, int] = MappingProxyType({})
    """What a reader has found and does not read, in words -> how many files."""

    @abstractmethod
    def __init__(self, root: str | None, options: Any) -> None:
        """``options`` is an instance of the class's own ``Options``."""

    def prepare(self, report: Callable[[str], None] = print) -> None:
        """Make the pixels exist before anything is decoded. Only simulated data has something to do here."""
        return

    @abstractmethod
    def load(self, position: int) -> np.ndarray:
        """Pixels of image ``position``: (H, W, 3) uint8, EXIF orientation applied, grey repeated, alpha dropped.

        Raises ``CorruptImage``.
        """

    def sample(self, position: int) -> np.ndarray:
        """As ``load``, also before ``prepare``: for a look at a few pictures and at how long one takes."""
        return self.load(position)


def load_checked(dataset: AbstractDataset, position: int) -> np.ndarray:
    """``dataset.load``, with what a reader from outside may do wrong told as ``DataError`` with the image's name."""
    try:
        pixels = dataset.load(position)
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:
        name = dataset.index.ids[position]
        raise DataError(f"{name}: {type(dataset).__name__}.load raised {told(error)}") from error
    shape: tuple[int, ...] = getattr(pixels, "shape", ())
    dtype = getattr(pixels, "dtype", None)
    if len(shape) != 3 or shape[-1] != 3 or not all(shape) or dtype != np.uint8:
        raise DataError(f"{dataset.index.ids[position]}: {type(dataset).__name__}.load must give (H, W, 3) uint8, got "
                        f"{type(pixels).__name__} {dtype} {tuple(shape)}")
    return pixels
