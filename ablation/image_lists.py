"""Which images a command is to look at: files, folders, patterns, and tables with a column of paths."""

from __future__ import annotations

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation.errors import DataError
from trainers.config import suggest

TABLES = (".csv", ".parquet")
COLUMN = "path"


@dataclass(frozen=True)
class Listed:
    """One image."""

    name: str
    """As given, found in a folder, or written in a table: what output calls it."""
    file: Path


def list_images(places: Sequence[str | Path]) -> list[Listed]:
    """Every image once, in the order given, folders and patterns sorted.

    A folder is searched to its bottom, hidden files left out; ``*``, ``?`` and ``**`` are expanded where no file has
    that name; a CSV or Parquet file lists images in its column ``path``, relative to its own folder. Raises
    ``DataError`` for what is not there and where there is no image at all.
    """
    found: dict[str, Listed] = {}
    for place in map(str, places):
        for image in _expand(place):
            found.setdefault(image.name, image)
    if not found:
        raise DataError(f"{', '.join(map(str, places))}: no images ({', '.join(sorted(_extensions()))})")
    return list(found.values())


def _expand(place: str) -> Iterator[Listed]:
    path = Path(place)
    if path.is_dir():
        yield from (Listed(str(file), file) for file in _in_folder(path))
    elif path.is_file():
        yield from _in_table(path) if path.suffix.lower() in TABLES else [Listed(place, path)]
    elif glob.has_magic(place):
        matches = [Path(match) for match in sorted(glob.glob(place, recursive=True))]
        if not matches:
            raise DataError(f"{place}: nothing matches")
        yield from (Listed(str(match), match) for match in matches if match.is_file())
    else:
        raise DataError(f"{place}: no such file or folder")


def _extensions() -> Iterable[str]:
    from trainers.data.images import EXTENSIONS

    return EXTENSIONS


def _in_folder(folder: Path) -> list[Path]:
    known = _extensions()
    return sorted(Path(parent) / name for parent, _, names in os.walk(folder, followlinks=True) for name in names
                  if not name.startswith(".") and os.path.splitext(name)[1].lower() in known)


def _in_table(table: Path) -> list[Listed]:
    columns, names = _parquet(table) if table.suffix.lower() == ".parquet" else _csv(table)
    if COLUMN not in columns:
        raise DataError(f"{table}: no column '{COLUMN}'{suggest(COLUMN, columns)}; it has {', '.join(columns)}")
    return [Listed(name, table.parent / name) for name in names if name]


def _parquet(table: Path) -> tuple[list[str], list[str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = pq.read_schema(table).names
        rows = pq.read_table(table, columns=[COLUMN])[COLUMN].to_pylist() if COLUMN in columns else []
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{table}: cannot be read ({str(error).splitlines()[0]})") from None
    return columns, [str(row or "") for row in rows]


def _csv(table: Path) -> tuple[list[str], list[str]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            return list(reader.fieldnames or []), [str(row.get(COLUMN) or "").strip() for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read ({error})") from None
