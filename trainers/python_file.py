"""One Python file, run as a module, and what it defines."""

from __future__ import annotations

import hashlib
import sys
import traceback
import types
from pathlib import Path
from typing import Any

from trainers.config import suggest


class PythonFileError(ValueError):
    """A file that cannot be run or lacks a name. One line that begins with the file."""


def source_digest(path: Path) -> str:
    """16 hex digits over the file's bytes. Raises ``PythonFileError`` where there is none."""
    return _digest(_read(path))


def attribute(path: Path, name: str, kind: str) -> Any:
    """``name`` of the file, which runs once a process as long as its bytes stay the same.

    ``kind`` is the word for it in the messages of ``PythonFileError``.
    """
    content = _read(path)
    module = _module(path, content)
    try:
        return getattr(module, name)
    except AttributeError:
        known = [key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__
                 and callable(value) and not key.startswith("_")]
        raise PythonFileError(f"{path.name}: there is no {kind} '{name}'"
                              f"{suggest(name, known) or '; it has ' + (', '.join(known) or 'none')}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise PythonFileError(f"{path}: no such file") from None
    except OSError as error:
        raise PythonFileError(f"{path}: cannot be read ({error.strerror})") from None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _module(path: Path, content: bytes) -> types.ModuleType:
    """Registered in ``sys.modules``, where dataclasses and pickle look a class's module up."""
    name = f"{path.stem}-{_digest(str(path.resolve()).encode() + content)}"
    if name in sys.modules:
        return sys.modules[name]
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(content, str(path), "exec"), vars(module))
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, SyntaxError) and error.filename == str(path):
            raise PythonFileError(f"{path.name}:{error.lineno}: not valid Python: {error.msg}") from None
        if not isinstance(error, (Exception, SystemExit)):
            raise
        raise PythonFileError(f"{path.name}: loading it raised {told(error)}{_place(path, error)}") from error
    return module


def told(error: BaseException) -> str:
    """An exception as one line: its type and message."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _place(path: Path, error: BaseException) -> str:
    """`` (line 12)``: the last line of the file that an exception came through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f" (line {lines[-1]})" if lines else ""
