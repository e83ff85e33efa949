"""Names that a study file may use, read off the registries without importing what they stand for (torch)."""

from __future__ import annotations

import ast
from pathlib import Path


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
