"""docker/compose.yaml as Compose reads it: variables filled in, overlays merged."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"


def load(*names: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in names or ("compose.yaml",):
        text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: os.environ.get(m[1]) or m[2], (DOCKER / name).read_text())
        assert "${" not in text, "every variable needs a default"
        merged = merge(merged, yaml.safe_load(text))
    return merged


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Mappings are merged, everything else is replaced; enough for the overlays here, which only add."""
    result = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def secret_names(service: dict[str, Any]) -> dict[str, str]:
    """Name of each secret and where the service finds it."""
    return {item: f"/run/secrets/{item}" if isinstance(item, str) else item["target"]
            for item in service.get("secrets", []) if isinstance(item, str)} | {
        item["source"]: item.get("target", f"/run/secrets/{item['source']}")
        for item in service.get("secrets", []) if isinstance(item, dict)}
