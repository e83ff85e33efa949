"""Write ``docs/results/performance.md`` from the figures that the other benchmarks have left in ``benchmarks/out``.

    python -m benchmarks.performance
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.record import OUT

TEMPLATE = Path(__file__).with_name("performance.md.in")
TARGET = Path(__file__).resolve().parents[1] / "docs" / "results" / "performance.md"


def cell(value: Any) -> str:
    """Three digits or so."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.{2 if value >= 1 else 3}f}"


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([cell(value) for value in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def facts(record: dict[str, Any]) -> str:
    known = record["facts"]
    versions = ", ".join(f"{name} {known[name]}" for name in ("torch", "torchvision", "timm", "numpy", "scikit-learn"))
    return (f"Commit {known['code']}, {known['time']}, {known['cores']} cores ({known['processor']}), load "
            f"{known['load'][0]:.1f}; Python {known['python']}, {versions}.")


def spread(record: dict[str, Any]) -> str:
    """Laps behind each rate, and the widest of them: (fastest - slowest) / median."""
    widths, counts = [], set()
    for contenders in record["laps"].values():
        for laps in contenders.values():
            rates = sorted(lap["images"] / lap["seconds"] for lap in laps)
            widths.append((rates[-1] - rates[0]) / rates[len(rates) // 2])
            counts.add(len(rates))
    return (f"n = {', '.join(map(str, sorted(counts)))} laps each; range of the laps over their median: "
            f"{100 * sorted(widths)[len(widths) // 2]:.0f} % in the median, {100 * max(widths):.0f} % at most.")


def main() -> None:
    text = TEMPLATE.read_text()
    for name in sorted(set(re.findall(r"\{\{([\w-]+)\}\}", text))):
        record = json.loads((OUT / f"{name}.json").read_text())
        notes = [facts(record)] + ([spread(record)] if "laps" in record else [])
        text = text.replace("{{" + name + "}}", markdown(record["rows"]) + "\n\n" + " ".join(notes))
    TARGET.write_text(text)
    print(TARGET)


if __name__ == "__main__":
    main()
