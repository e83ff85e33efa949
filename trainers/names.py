"""Names that a study file may use, read off the registries without importing what they stand for (torch)."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

_FILE_REFERENCE = re.compile(r"(.+\.py):(\w+)")


def file_reference(name: str) -> tuple[Path, str] | None:
    """``path.py:Class`` as (path, ``Class``); None for any other name."""
    match = _FILE_REFERENCE.fullmatch(name)
    return (Path(match[1]).expanduser(), match[2]) if match else None


def short_name(name: str) -> str:
    """What keys, tables and figures call it: of ``path.py:Class`` the class in lower case, any other name as it is."""
    found = file_reference(name)
    return found[1].lower() if found else name


def absolute_name(name: str) -> str:
    """``path.py:Class`` with the path from the root, because it travels to other processes; others as they are."""
    found = file_reference(name)
    return f"{os.path.abspath(found[0])}:{found[1]}" if found else name


def _keys(file: str, registry: str) -> tuple[str, ...]:
    """Keys of the plain dict that ``file`` assigns to ``registry``: the registry stays the only list."""
    for node in ast.parse((Path(__file__).parent / file).read_text()).body:
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == registry):
            continue
        if isinstance(node.value, ast.Dict):
            return tuple(ast.literal_eval(key) for key in node.value.keys if key is not None)
    raise AssertionError(f"{file} assigns no plain dict to {registry}")


METHOD_NAMES = _keys("methods/__init__.py", "METHODS")
DATASET_NAMES = _keys("data/__init__.py", "DATASETS")
BACKBONE_NAMES = _keys("backbones.py", "BACKBONES")
"""The backbones with recipes; any other timm name is allowed as well."""
