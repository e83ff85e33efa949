"""One cell of a study's grid, resolved, and the key that names it.

A key is a readable part plus a hash of the resolved configuration without what cannot change the numbers (folder of the
data, ``allow_tiny``, resources, retries).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trainers.config import NUMERICS, Imbalance, TrainConfig
from trainers.names import short_name


@dataclass(frozen=True, kw_only=True)
class SubsetCounts:
    """The pre-training subset of one (level, seed)."""

    num_defects: int
    num_normals: int
    counts: dict[str, int]
    """Images per defect type."""
    digest: str

    @property
    def num_images(self) -> int:
        return self.num_defects + self.num_normals


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One cell of the grid, fully resolved."""

    key: str
    method: str
    backbone: str
    imbalance: Imbalance
    seed: int
    config: TrainConfig
    data_digest: str
    subset: SubsetCounts | None
    """None where the level cannot be met; then the plan has a problem that says so."""

    @property
    def num_defects(self) -> int | None:
        return self.subset.num_defects if self.subset else None

    @property
    def num_normals(self) -> int | None:
        return self.subset.num_normals if self.subset else None

    def row(self) -> dict[str, Any]:
        """The cell as a line of ``plan.json``."""
        names = ("key", "method", "backbone", "imbalance", "seed", "num_defects", "num_normals")
        return {name: getattr(self, name) for name in names}

    def record(self) -> dict[str, Any]:
        """``trial.json``: all a worker needs."""
        subset = dataclasses.asdict(self.subset) if self.subset else None
        config = json.loads(json.dumps(self.config.to_dict()))  # as it is read back: lists, not tuples
        return {"key": self.key, "config": config, "data_digest": self.data_digest, "subset": subset}


def trial_key(config: TrainConfig, data_digest: str) -> str:
    """``simclr-resnet18-p0.01-s0-3f9a1c2e``."""
    level = "natural" if config.imbalance == "natural" else f"p{config.imbalance:g}"
    facts = shown(dataclasses.asdict(config)) | {"numerics": NUMERICS}
    del facts["allow_tiny"]
    facts["data"]["root"] = data_digest
    for fields, name in ((facts, "plugins"), (facts["evaluation"], "metrics")):  # keys of before had neither
        if not fields[name]:
            del fields[name]
    digest = hashlib.blake2b(canonical(facts).encode(), digest_size=4).hexdigest()
    return f"{facts['method']}-{facts['backbone']}-{level}-s{config.seed}-{digest}"


def shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a trial with its plug-ins called as in tables: no folder is part of what a trial is."""
    out: dict[str, Any] = {name: dict(value) if isinstance(value, Mapping) else value for name, value in config.items()}
    for name in ("method", "backbone"):
        if isinstance(out.get(name), str):
            out[name] = short_name(out[name])
    if "dataset" in out.get("data", {}):
        out["data"]["dataset"] = short_name(out["data"]["dataset"])
    if "metrics" in out.get("evaluation", {}):
        out["evaluation"]["metrics"] = [short_name(name) for name in out["evaluation"]["metrics"]]
    return out


def canonical(value: Any) -> str:
    """JSON in which equal numbers look equal: 1.0 as 1, whatever the file said."""

    def normal(item: Any) -> Any:
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            item = dataclasses.asdict(item)
        if isinstance(item, Mapping):
            return {key: normal(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [normal(inner) for inner in item]
        return int(item) if isinstance(item, float) and item.is_integer() else item

    return json.dumps(normal(value), sort_keys=True, separators=(",", ":"))
