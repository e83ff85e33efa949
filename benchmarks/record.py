"""What every benchmark writes: the figures with machine, versions and load."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import torch

from trainers.provenance import describe

OUT = Path(__file__).parent / "out"


def write(name: str, rows: list[dict[str, Any]], **more: Any) -> Path:
    """``benchmarks/out/<name>.json`` with the rows and whatever ``more`` there is; returns its path."""
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    facts = describe(torch.device("cpu")) | {"cores": os.cpu_count(), "processor": processor(), "load": os.getloadavg(),
                                             "time": time.strftime("%Y-%m-%d %H:%M:%S")}
    path.write_text(json.dumps({"facts": facts, "rows": rows, **more}, indent=1) + "\n")
    return path


def processor() -> str:
    """Model name and what it multiplies bf16 with, as Linux says."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = re.search(r"model name\s*:\s*(.*)", text)
    units = [name for name in ("amx_bf16", "avx512_bf16") if name in text]
    return " ".join([model.group(1) if model else "unknown processor", *units])


def facts_line() -> str:
    """Commit, versions and machine in one line of prose."""
    facts = describe(torch.device("cpu"))
    versions = ", ".join(f"{name} {facts[name]}" for name in ("torch", "torchvision", "timm", "numpy", "scikit-learn"))
    cores = len(os.sched_getaffinity(0))
    return (f"Written at commit {facts['code']}; Python {facts['python']}, {versions}; {cores} cores, "
            f"{torch.backends.cpu.get_cpu_capability()}; {time.strftime('%Y-%m-%d')}.")


def table(rows: list[dict[str, Any]]) -> str:
    """Aligned text."""
    cells = [list(rows[0])] + [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)
