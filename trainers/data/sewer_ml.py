"""Sewer-ML (Haurum & Moeslund, CVPR 2021, arXiv 2103.10895): tables by column name, images from zips or folders."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import ClassVar, NoReturn, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from trainers.data.archives import ImageFiles
from trainers.data.images import decode_image
from trainers.data.index import AbstractDataset, DataError, Index

# Class importance weights, CSV order (table 3 of the paper; VA, 0.0310, is no target).
CODE_WEIGHTS = {
    "RB": 1.0000, "OB": 0.5518, "PF": 0.2896, "DE": 0.1622, "FS": 0.6419, "IS": 0.1847, "RO": 0.3559, "IN": 0.3131,
    "AF": 0.0811, "BE": 0.2275, "FO": 0.2477, "GR": 0.0901, "PH": 0.4167, "PB": 0.4167, "OS": 0.9009, "OP": 0.3829,
    "OK": 0.4396,
}
CODES = tuple(CODE_WEIGHTS)
COLUMNS = ("Filename", "WaterLevel", "VA", *CODES, "ND", "Defect")
SPLIT_FILES = {"train": "SewerML_Train.csv", "val": "SewerML_Val.csv", "test": "SewerML_Test.csv"}
MEAN, STD = (0.523, 0.453, 0.345), (0.210, 0.199, 0.154)  # the baseline's, at 224 px


@dataclass(frozen=True)
class _Table:
    """Columns of one CSV file."""

    names: np.ndarray
    labels: np.ndarray
    codes: np.ndarray | None


@final
class SewerML(AbstractDataset):
    """``root`` holds SewerML_{Train,Val[,Test]}.csv and, anywhere below, zip archives or extracted images."""

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Where the tables are."""

        tables: str = "."
        """Folder of the CSV files, relative to the root."""

    summary: ClassVar[str] = "Sewer-ML: 1.3 M sewer pipe images, official CSV files, zip archives or extracted folders"
    mean = MEAN
    std = STD

    def __init__(self, root: str | None, options: Options) -> None:
        assert root is not None
        self.root = base = Path(root).expanduser()
        if not base.is_dir():
            raise DataError(f"{base}: no such folder; data.root must be the folder of the Sewer-ML CSV files")
        tables = {split: _read(base / options.tables / name, split)
                  for split, name in SPLIT_FILES.items() if _present(base / options.tables / name, split)}
        self.index = _index(tables)
        _refuse_duplicates(self.index, base / options.tables, tables)
        self._files = ImageFiles(base, self.index.ids)

    def load(self, position: int) -> np.ndarray:
        return decode_image(io.BytesIO(self._files.read(position)), str(self.index.ids[position]))


def _present(path: Path, split: str) -> bool:
    if path.is_file():
        return True
    if split == "test":
        return False
    raise DataError(f"{path}: missing; Sewer-ML needs {SPLIT_FILES['train']} and {SPLIT_FILES['val']} in this folder")


def _index(tables: dict[str, _Table]) -> Index:
    labels = np.concatenate([table.labels for table in tables.values()])
    names = np.concatenate([table.names for table in tables.values()])
    codes = None
    types = np.where(labels == 1, "defect", "")
    if tables["train"].codes is not None:
        codes = np.concatenate([np.zeros((len(table.names), len(CODES)), np.uint8)
                                if table.codes is None else table.codes for table in tables.values()])
        # The type of a frame with several codes is its most important one.
        ranked = codes * np.array(list(CODE_WEIGHTS.values()), dtype=np.float32)
        coded = (labels == 1) & codes.any(axis=1)
        types = np.where(coded, np.array(CODES)[ranked.argmax(axis=1)], types)
    splits = np.concatenate([np.full(len(table.names), split) for split, table in tables.items()])
    return Index(ids=names, labels=labels, splits=splits, groups=names, defect_types=types, codes=codes)


def _read(path: Path, split: str) -> _Table:
    """Read one CSV file fast; whatever is wrong is then looked up line by line for the message."""
    header = _header(path)
    needed = ["Filename"] if split == "test" else ["Filename", "Defect"]
    for name in needed:
        if name not in header:
            near = get_close_matches(name, header, n=1)
            fix = f"rename {near[0]!r}" if near else f"needed are {' and '.join(needed)}"
            raise DataError(f"{path}:1: no column {name}; {fix}")
    flags = [name for name in ("Defect", *CODES) if name in header]
    try:
        table = pacsv.read_csv(
            path, read_options=pacsv.ReadOptions(column_names=header, skip_rows=1),
            convert_options=pacsv.ConvertOptions(
                column_types={"Filename": pa.string(), **dict.fromkeys(flags, pa.int8())},
                include_columns=["Filename", *flags], null_values=[], strings_can_be_null=False))
    except pa.ArrowInvalid as error:
        _explain(path, header, flags, str(error))
    if table.num_rows == 0:
        raise DataError(f"{path}: has no rows below the header; download it again")
    values = {name: table[name].to_numpy().astype(np.int8) for name in flags}
    names = table["Filename"]
    if any(((v != 0) & (v != 1)).any() for v in values.values()) or pc.any(pc.equal(names, "")).as_py():
        _explain(path, header, flags, "a value is not 0 or 1")
    codes = None
    if any(code in values for code in CODES):
        none = np.zeros(table.num_rows, np.uint8)
        codes = np.stack([values.get(code, none).astype(np.uint8) for code in CODES], axis=1)
    labels = values.get("Defect", np.full(table.num_rows, -1, np.int8))
    return _Table(names.to_numpy().astype(str), labels, codes)


def _header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}:1: cannot be read ({error}); it must be a UTF-8 CSV file") from None


def _explain(path: Path, header: list[str], flags: list[str], reason: str) -> NoReturn:
    """Raise ``DataError`` for the first line that breaks the format."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        rows = csv.reader(lines)
        next(rows)
        for row in rows:
            where = f"{path}:{rows.line_num}"
            if row and len(row) != len(header):
                raise DataError(f"{where}: {len(row)} fields, the header has {len(header)}; repair or delete the line")
            for name in flags if row else []:
                value = row[header.index(name)]
                if value.strip() not in ("0", "1"):
                    raise DataError(f"{where}: {name}: got '{value}', expected 0 or 1; correct the value")
            if row and not row[header.index("Filename")]:
                raise DataError(f"{where}: Filename: empty; give the image's file name or delete the line")
    raise DataError(f"{path}: cannot be read ({reason}); download it again")


def _refuse_duplicates(index: Index, folder: Path, tables: dict[str, _Table]) -> None:
    if len(pa.array(index.ids).unique()) == len(index):
        return
    seen: dict[str, str] = {}
    for split, table in tables.items():
        for row, name in enumerate(table.names.tolist()):
            where = f"{folder / SPLIT_FILES[split]}:{row + 2}"
            if name in seen:
                raise DataError(f"{where}: Filename: '{name}' already stands in {seen[name]}; delete one of them")
            seen[name] = where
