"""Images listed in one CSV or Parquet file: path, label[, split, group, defect_type]."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainers.data.folder import NORMAL_NAMES, SPLIT_NAMES
from trainers.data.images import decode_image
from trainers.data.index import AbstractDataset, CorruptImage, DataError, Index
from trainers.seeding import hash_ids

DEFECT_NAMES = frozenset({"defect", "defective", "anomaly", "anomalous", "bad", "1"})
TRAIN_SHARE = 0.8  # of the groups, where the table has no split


@dataclass(frozen=True)
class _Row:
    """One checked line."""

    path: str
    label: int
    split: str
    group: str
    defect_type: str
    where: str
    """``file:line`` for messages."""


@final
class Table(AbstractDataset):
    """``root`` is the file; paths are relative to its folder. Without ``split`` 80 % of the groups are train."""

    summary: ClassVar[str] = "a CSV (comma, semicolon or tab) or Parquet file: path,label[,split,group,defect_type]"

    def __init__(self, root: str | None, options: AbstractDataset.Options) -> None:
        assert root is not None
        file = Path(root).expanduser()
        if not file.is_file():
            raise DataError(f"{file}: no such file; data.root must be a CSV or Parquet file with columns path,label")
        self.root = file
        rows = [_check(raw, where) for raw, where in _rows(file)]
        if not rows:
            raise DataError(f"{file}: has no rows; add one line per image (path,label)")
        _refuse_leaks(rows)
        groups = np.array([row.group for row in rows])
        splits = np.array([row.split for row in rows])
        if not splits[0]:
            splits = np.where(hash_ids(groups, "split") < np.uint64(TRAIN_SHARE * 2.0**64), "train", "val")
        labels = np.array([row.label for row in rows], dtype=np.int8)
        self.index = Index(ids=np.array([row.path for row in rows]), labels=labels, splits=splits, groups=groups,
                           defect_types=np.array([row.defect_type for row in rows]))

    def load(self, position: int) -> np.ndarray:
        name = str(self.index.ids[position])
        path = (self.root.parent / name).resolve()
        if not path.is_relative_to(self.root.parent.resolve()):
            raise CorruptImage(name, "a link leads out of the folder of the table")
        if not path.exists():  # macOS takes accents apart in file names, spreadsheets do not
            path = next((other for form in ("NFC", "NFD") if (other := Path(unicodedata.normalize(form, str(path))))
                         .exists()), path)
        return decode_image(path, name)


def _rows(file: Path) -> Iterator[tuple[Mapping[str, Any], str]]:
    """(values by column, ``file:line``)."""
    if file.suffix.lower() in (".parquet", ".pq"):
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file}: not a readable Parquet file ({str(error).splitlines()[0]})") from None
        _check_columns(file, table.column_names)
        for number, row in enumerate(table.to_pylist()):
            yield row, f"{file}:row {number + 1}"
        return
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            lines.seek(0)
            delimiter = max(",;\t", key=first.count)  # spreadsheets of half of Europe write semicolons
            rows = csv.reader(lines, delimiter=delimiter)
            header = [name.strip() for name in next(rows, [])]
            _check_columns(file, header)
            for row in rows:
                if row and len(row) != len(header):
                    raise DataError(f"{file}:{rows.line_num}: {len(row)} fields, the header has {len(header)}; "
                                    "repair or delete the line")
                if row:
                    yield dict(zip(header, row, strict=True)), f"{file}:{rows.line_num}"
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read ({error}); it must be a UTF-8 CSV file, or end in .parquet") from None


def _check_columns(file: Path, names: list[str]) -> None:
    if not names:
        raise DataError(f"{file}: is empty; the first line names the columns path,label")
    for name in ("path", "label"):
        if names.count(name) > 1:
            raise DataError(f"{file}:1: there are {names.count(name)} columns {name}; keep one")
        if name not in names:
            near = get_close_matches(name, names, n=1)
            separator = next((sign for sign in (";", "\t", "|") if len(names) == 1 and sign in names[0]), None)
            fix = (f"columns are separated by ',', not by {separator!r}" if separator else
                   f"rename {near[0]!r}" if near else "needed are path,label, possible are split,group,defect_type")
            raise DataError(f"{file}:1: no column {name}; {fix}")


def _check(raw: Mapping[str, Any], where: str) -> _Row:
    values = {name: "" if raw.get(name) is None else str(raw[name]).strip()
              for name in ("path", "label", "split", "group", "defect_type")}
    path, word, split = values["path"].replace("\\", "/"), values["label"].lower(), values["split"].lower()
    if not path:
        raise DataError(f"{where}: path: empty; give the image's path or delete the line")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise DataError(f"{where}: path: '{path}' leaves the folder of the table; put the table above the images and "
                        "give paths relative to it")
    if "split" in raw and split not in SPLIT_NAMES:
        raise DataError(f"{where}: split: got '{values['split']}', expected train, val or test; or drop the column")
    split = SPLIT_NAMES.get(split, "")
    if word in NORMAL_NAMES or word in ("0.0", "false"):
        label = 0
    elif word in DEFECT_NAMES or word in ("1.0", "true"):
        label = 1
    elif word == "" and split == "test":
        label = -1
    else:
        raise DataError(f"{where}: label: got '{values['label']}', expected 0, 1, normal or defect; correct the value")
    kind = (values["defect_type"] or "defect") if label == 1 else ""
    return _Row(path, label, split, values["group"] or path, kind, where)


def _refuse_leaks(rows: list[_Row]) -> None:
    """A path twice, or one group in two splits."""
    paths: dict[str, str] = {}
    groups: dict[str, _Row] = {}
    for row in rows:
        if row.path in paths:
            raise DataError(f"{row.where}: path: '{row.path}' already stands in {paths[row.path]}; delete one of them")
        paths[row.path] = row.where
        first = groups.setdefault(row.group, row)
        if first.split != row.split:
            raise DataError(f"{row.where}: group: '{row.group}' is in {row.split} here and in {first.split} at "
                            f"{first.where}; put the whole group into one split")
