"""Images in class folders: ImageFolder, the MVTec / anomalib layout, and class folders without a split."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from trainers.config import ConfigError
from trainers.data.images import EXTENSIONS, decode_image
from trainers.data.index import AbstractDataset, DataError, Index
from trainers.seeding import hash_ids

NORMAL_NAMES = frozenset({"normal", "good", "ok", "0"})
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
TRAIN_SHARE = 0.8
"""Of the pictures, where folders say nothing of a split."""


@final
class Folder(AbstractDataset):
    """``root/{train,val|test}/{class}/…`` or ``root/{class}/…``.

    Classes normal, good, ok, 0 are normal, any other name is a defect type.
    """

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """How the pictures are split."""

        train_share: float | None = None
        """Put this share of all pictures into train and the rest into val, by a hash of their path, whatever their
        split folders; null = by the split folders, and 0.8 where there are none."""

    summary: ClassVar[str] = ("class folders: root/{train,val|test}/{normal|good|ok|0|DEFECT}/… (ImageFolder, MVTec), "
                              "or root/{normal|DEFECT}/…")

    def __init__(self, root: str | None, options: Options) -> None:
        assert root is not None
        share = options.train_share
        if share is not None and not 0 < share < 1:
            raise ConfigError("data.options.train_share", f"must lie between 0 and 1, got {share}")
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; data.root must hold train/ and val/ or test/, or classes")
        others: Counter[str] = Counter()
        found = _split_folders(self.root, share is None)
        rows = [row for folder, split in found for row in _images(self.root, folder, split, others)]
        ids, splits, types = (np.array(column) for column in zip(*rows, strict=True))
        if share is not None or not splits.all():
            share = TRAIN_SHARE if share is None else share
            splits = np.where(hash_ids(ids, "split") < np.uint64(share * 2.0**64), "train", "val")
        labels = (types != "").astype(np.int8)
        if not (labels[splits == "train"] == 0).any():
            raise DataError(f"{self.root / 'train'}: no normal class; call its folder normal, good, ok or 0")
        self.index = Index(ids=ids, labels=labels, splits=splits, groups=ids, defect_types=types)
        self.left_out = {f"files ending in {ending or 'nothing'}": count for ending, count in others.most_common()}

    def load(self, position: int) -> np.ndarray:
        name = str(self.index.ids[position])
        return decode_image(self.root / name, name)


def _folders(folder: Path) -> list[Path]:
    """Sorted; without hidden ones, those of archivers (__MACOSX) and MVTec's masks."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
                  and path.name != "ground_truth")


def _has_normal(folder: Path) -> bool:
    return any(path.name.lower() in NORMAL_NAMES for path in _folders(folder))


def _split_folders(root: Path, both: bool) -> list[tuple[Path, str]]:
    """Sorted (folder, split); the root itself, with no split, where it holds the classes. Others are left alone."""
    found = [(path, SPLIT_NAMES[path.name.lower()]) for path in _folders(root) if path.name.lower() in SPLIT_NAMES]
    splits = {split for _, split in found}
    if not found and _has_normal(root):
        return [(root, "")]
    if "train" not in splits and (both or not splits):
        inside = [path for path in _folders(root) if (path / "train").is_dir() or _has_normal(path)]
        hint = f"; did you mean data.root: {inside[0]}?" if inside and not found else (
            "; create train/normal and one folder per defect type")
        raise DataError(f"{root}: no folder train/{hint}")
    if both and not splits - {"train"}:
        raise DataError(f"{root}: no folder val/ or test/; create val/normal and val/DEFECT with labelled images "
                        "that are not in train/, or let data.options: {train_share: 0.8} take them from train/")
    return found


def _images(root: Path, folder: Path, split: str, others: Counter[str]) -> Iterator[tuple[str, str, str]]:
    """(id, split, defect type) of each image below the class folders of ``folder``; counts what is no image."""
    classes = _folders(folder)
    if not classes:
        raise DataError(f"{folder}: no class folder; create {folder.name}/normal and one folder per defect")
    for path in classes:
        kind = "" if path.name.lower() in NORMAL_NAMES else path.name
        found = sorted(_files(path, others))
        if not found:
            raise DataError(f"{path}: no images ({', '.join(sorted(EXTENSIONS))}); add some or delete the folder")
        for file in found:
            name = file.relative_to(root).as_posix()
            if not name.isascii() and _undecodable(name):
                raise DataError(f"{file}: its name is not UTF-8; rename it (convmv does whole folders)")
            yield name, split, kind


def _files(folder: Path, others: Counter[str]) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=True):
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if ending in EXTENSIONS:
                yield Path(parent, name)
            else:
                others[ending] += 1


def _undecodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False
