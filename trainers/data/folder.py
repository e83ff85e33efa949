"""Images in class folders: ImageFolder and the MVTec / anomalib layout."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, final

import numpy as np

from trainers.data.images import EXTENSIONS, decode_image
from trainers.data.index import AbstractDataset, DataError, Index

NORMAL_NAMES = frozenset({"normal", "good", "ok", "0"})
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@final
class Folder(AbstractDataset):
    """``root/{train,val|test}/{class}/…``; classes normal, good, ok, 0 are normal, any other name is a defect type."""

    summary: ClassVar[str] = "class folders: root/{train,val|test}/{normal|good|ok|0|DEFECT}/… (ImageFolder, MVTec)"

    def __init__(self, root: str | None, options: AbstractDataset.Options) -> None:
        assert root is not None
        self.root = Path(root).expanduser()
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder; data.root must hold train/ and val/ or test/")
        rows = [row for folder, split in _split_folders(self.root) for row in _images(self.root, folder, split)]
        ids, splits, types = (np.array(column) for column in zip(*rows, strict=True))
        labels = (types != "").astype(np.int8)
        if not (labels[splits == "train"] == 0).any():
            raise DataError(f"{self.root / 'train'}: no normal class; call its folder normal, good, ok or 0")
        self.index = Index(ids=ids, labels=labels, splits=splits, groups=ids, defect_types=types)

    def load(self, position: int) -> np.ndarray:
        name = str(self.index.ids[position])
        return decode_image(self.root / name, name)


def _split_folders(root: Path) -> list[tuple[Path, str]]:
    """Sorted (folder, split); other folders (ground_truth) are left alone."""
    found = [(path, SPLIT_NAMES[path.name.lower()]) for path in sorted(root.iterdir())
             if path.is_dir() and path.name.lower() in SPLIT_NAMES]
    splits = {split for _, split in found}
    if "train" not in splits:
        raise DataError(f"{root}: no folder train/; create train/normal and one folder per defect type")
    if not splits - {"train"}:
        raise DataError(f"{root}: no folder val/ or test/; create val/normal and val/DEFECT with labelled images "
                        "that are not in train/")
    return found


def _images(root: Path, folder: Path, split: str) -> list[tuple[str, str, str]]:
    """(id, split, defect type) of each image below the class folders of ``folder``."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise DataError(f"{folder}: no class folder; create {folder.name}/normal and one folder per defect")
    rows = []
    for path in classes:
        kind = "" if path.name.lower() in NORMAL_NAMES else path.name
        found = sorted(_files(path))
        if not found:
            raise DataError(f"{path}: no images ({', '.join(sorted(EXTENSIONS))}); add some or delete the folder")
        rows += [(file.relative_to(root).as_posix(), split, kind) for file in found]
    return rows


def _files(folder: Path) -> list[Path]:
    return [Path(parent) / name for parent, _, names in os.walk(folder, followlinks=True) for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in EXTENSIONS]
