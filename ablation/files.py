"""JSON files that survive being killed: written beside their place, then renamed over it."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ablation.errors import StoreError
from trainers.atomic import patiently, replace_file


def write_json(path: Path, value: Any, sync: bool = True) -> None:
    """Replace ``path`` by JSON. NaN and infinity are refused (``ValueError``)."""
    write_atomic(path, json.dumps(value, indent=1, allow_nan=False) + "\n", sync)


def write_atomic(path: Path, text: str, sync: bool = True) -> None:
    """Write beside ``path`` and rename over it, so that no reader and no crash sees half a file.

    Waits a minute for a disk that is away, then raises ``StoreError``.
    """
    with writing(path):
        replace_file(path, lambda handle: handle.write(text.encode()), sync=sync)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of ``path``; turn what the operating system refuses into one line for people."""
    try:
        patiently(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        yield
    except OSError as error:
        raise StoreError(f"{path}: cannot write ({error.strerror or error}); "
                         "free the folder or choose another with --store or ABLATION_STORE") from error


def folder_path(text: str) -> Path:
    """Absolute; the folder need not be there yet. Raises ``StoreError`` where a file is in its way."""
    path = Path(text).expanduser().absolute()
    place = next(part for part in (path, *path.parents) if part.exists())
    if not place.is_dir():
        raise StoreError(f"store {path}: {place} is a file; name a folder with --store or ABLATION_STORE")
    return path


def read_json(path: Path) -> Any:
    """The content, or None if the file is absent or damaged."""
    try:
        return parse(path.read_text())
    except (OSError, UnicodeDecodeError):
        return None


def read_dict(path: Path | str, patient: bool = False) -> tuple[dict[str, Any], str | None]:
    """(content, what is wrong with it). A missing file is empty. ``patient``: waits for a disk that is away."""

    def read() -> bytes:
        with open(path, "rb", buffering=0) as handle:
            return handle.read()

    try:
        try:
            text = read()
        except OSError as error:
            if error.errno != errno.ESTALE and not patient:
                raise
            text = patiently(read)  # stale: on NFS what was just replaced; at once, or as patiently as a write
    except FileNotFoundError:
        return {}, None
    except OSError as error:
        return {}, f"{Path(path).name} cannot be read: {error}"
    value = parse(text)
    if isinstance(value, dict) and value:
        return value, None
    return {}, f"{Path(path).name} is damaged (not a JSON object)"


def parse(text: str | bytes) -> Any:
    """JSON, or None."""
    try:
        return json.loads(text)
    except ValueError:
        return None
