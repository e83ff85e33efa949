"""Methods, backbones, data sets and metrics from outside: of an installed package, or of one file (``path.py:Name``).

A package registers a name in the entry-point group ``ablation.methods``, ``.backbones``, ``.datasets`` or ``.metrics``;
a file is named in the study itself. No torch here: a plug-in imports what it needs. What a found object must be is
asked where its kind is at home (``methods``, ``backbones``, ``data``, ``evaluation.custom``).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, BinaryIO

from trainers.atomic import replace_file
from trainers.config import ConfigError, TrainConfig
from trainers.names import BACKBONE_NAMES, DATASET_NAMES, METHOD_NAMES, file_reference, short_name
from trainers.python_file import PythonFileError, attribute, source_digest, told

FIELDS = {"methods": "grid.method", "backbones": "grid.backbone", "datasets": "data.dataset",
          "metrics": "evaluation.metrics"}
"""Kind of plug-in -> the field of a study file that names it."""
BUILT_IN: dict[str, tuple[str, ...]] = {"methods": METHOD_NAMES, "backbones": BACKBONE_NAMES,
                                        "datasets": DATASET_NAMES, "metrics": ()}
TRUST = "ABLATION_TRUST_CODE"
_LEGAL = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_foreign: ContextVar[bool] = ContextVar("foreign", default=False)
_trusted: set[str] = set()
"""Digests of the files that this process was told to run."""


@dataclass(frozen=True)
class Plugin:
    """A loaded plug-in."""

    name: str
    """As keys and tables have it."""
    value: Any
    """The class or function."""
    origin: str
    """File name, or package and version."""
    digest: str
    """16 hex digits over its source: part of the trial's key."""


def is_plugin(kind: str, name: str) -> bool:
    """Whether a name is a plug-in's: of a file, or registered by a package (then perhaps in vain, see ``find``)."""
    return file_reference(name) is not None or name in installed(kind)


def installed(kind: str) -> dict[str, tuple[EntryPoint, ...]]:
    """Registered name -> the entry points that claim it; nothing is loaded."""
    return _installed(kind, tuple(sys.path))


@lru_cache(maxsize=32)
def _installed(kind: str, path: tuple[str, ...]) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=f"ablation.{kind}"):
        found[point.name] = (*found.get(point.name, ()), point)
    return found


def known(kind: str) -> tuple[str, ...]:
    """Every name that can stand in a study file, but for timm's and files."""
    return (*BUILT_IN[kind], *(name for name in installed(kind) if name not in BUILT_IN[kind]))


def find(kind: str, name: str) -> Plugin:
    """Load a plug-in. Raises ``ConfigError`` for one that is absent, cannot be loaded, or whose name is taken."""
    found = file_reference(name)
    plugin = _of_package(kind, name) if found is None else _of_file(kind, name, *found)
    if not _LEGAL.fullmatch(plugin.name):
        raise _error(kind, f"'{name}' cannot be part of a key: a name is made of a-z 0-9 _ - only")
    return plugin


def refuse(kind: str, name: str, message: str) -> ConfigError:
    """The error of a plug-in that is not what its kind must be."""
    file = file_reference(name)
    return _error(kind, f"{f'{file[0].name}:{file[1]}' if file else name}: {message}")


@contextmanager
def foreign() -> Iterator[None]:
    """Names inside come out of a store: a file is run only if this process has run its content for a study already."""
    token = _foreign.set(True)
    try:
        yield
    finally:
        _foreign.reset(token)


def used(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """(kind, name) of each plug-in of a run."""
    names = [("methods", config.method), ("backbones", config.backbone), ("datasets", config.data.dataset)]
    names += [("metrics", name) for name in config.evaluation.metrics]
    yield from ((kind, name) for kind, name in names if is_plugin(kind, name))


def digests(config: TrainConfig) -> dict[str, str]:
    """Kind -> digest over the source of the plug-ins of that kind; empty without plug-ins."""
    sources: dict[str, list[str]] = {}
    for kind, name in used(config):
        sources.setdefault(kind, []).append(find(kind, name).digest)
    return {kind: parts[0] if len(parts) == 1 else _hash("\n".join(parts).encode()) for kind, parts in sources.items()}


def pinned(config: TrainConfig) -> TrainConfig:
    """``config`` with the digests of the code at hand. Raises ``ConfigError`` where that is not the planned code."""
    for kind, name in used(config):
        file = file_reference(name)
        if file and config.plugins and not file[0].is_file():
            raise _error(kind, f"{file[0]}: no such file on {socket.gethostname()}; every node must see a plug-in's "
                               "file under the same path, or have its package installed (docs/own-method.md)")
    here = digests(config)
    for kind, planned in config.plugins.items():
        if here.get(kind) != planned:
            raise _error(kind, f"the code on {socket.gethostname()} is not what the study was planned with (digest "
                               f"{here.get(kind)}, planned {planned}): run the study again, or install the same "
                               "version on every node")
    return dataclasses.replace(config, plugins=here)


def keep(config: TrainConfig, folder: Path) -> None:
    """Copy the files that a run used into ``folder``, each under its kind and short name."""
    for kind, name in used(config):
        if file := file_reference(name):
            folder.mkdir(exist_ok=True)
            replace_file(folder / _kept_name(kind, name), partial(_write, file[0].read_bytes()), sync=False)


def kept(kind: str, name: str, folder: Path) -> str:
    """``name``, or the same in the copy that ``keep`` has left in ``folder``."""
    file = file_reference(name)
    copy = folder / _kept_name(kind, name)
    return f"{copy}:{file[1]}" if file and copy.is_file() else name


def _write(content: bytes, handle: BinaryIO) -> object:
    return handle.write(content)


def _kept_name(kind: str, name: str) -> str:
    return f"{kind}-{short_name(name)}.py"


def _of_file(kind: str, name: str, path: Path, attribute_name: str) -> Plugin:
    short = short_name(name)
    if short in known(kind):
        owner = "a built-in" if short in BUILT_IN[kind] else "an installed"
        raise refuse(kind, name, f"'{short}' is already the name of {owner} {kind[:-1]}; call yours otherwise")
    try:
        digest = source_digest(path)
        if _foreign.get() and digest not in _trusted and os.environ.get(TRUST) != "1":
            raise _error(kind, f"{path}: a store names this file, which would run here; set {TRUST}=1 if you trust it")
        value = attribute(path, attribute_name, "function" if kind in ("backbones", "metrics") else "class")
    except PythonFileError as error:
        raise _error(kind, str(error)) from error
    _trusted.add(digest)
    return Plugin(short, value, path.name, digest)


def _of_package(kind: str, name: str) -> Plugin:
    points = installed(kind).get(name, ())
    origins = " and ".join(origin(point) for point in points)
    if name in BUILT_IN[kind]:
        raise _error(kind, f"'{name}' is a built-in {kind[:-1]}, and {origins} registers another of that name; "
                           "uninstall it or rename its entry point")
    if len(points) > 1:
        raise _error(kind, f"'{name}' is registered twice, by {origins}; uninstall one of them")
    [point] = points
    try:
        value = point.load()
    except (Exception, SystemExit) as error:
        raise _error(kind, f"'{name}' of {origins} ({point.value}): loading it raised {told(error)}") from error
    return Plugin(name, value, origins, _package_digest(point.module, origins))


def origin(point: EntryPoint) -> str:
    """Package and version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


@lru_cache
def _package_digest(module: str, origin: str) -> str:
    """Over every ``.py`` file of the package around a loaded module; of the name and version where it has none.

    Kept for the life of the process, as the module is.
    """
    source = getattr(sys.modules[module], "__file__", None)
    if source is None or not source.endswith(".py"):
        return _hash(origin.encode())
    top = Path(source)
    while (top.parent / "__init__.py").is_file():
        top = top.parent
    files = sorted(top.rglob("*.py")) if top.is_dir() else [top]
    parts = [f"{path.relative_to(top.parent).as_posix()} {source_digest(path)}" for path in files]
    return _hash("\n".join(parts).encode())


def _hash(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _error(kind: str, message: str) -> ConfigError:
    return ConfigError(FIELDS[kind], message)
