"""Do tests and intervals keep what they promise? Writes docs/results/statistics.md.

    python -m benchmarks.statistics [STUDIES]        2,000 simulated studies, about 10 minutes on one core
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

from benchmarks.record import facts_line, write
from benchmarks.simulated_studies import SCENARIOS, SMALLEST, Rate, simulate

ROOT = Path(__file__).resolve().parents[1]


def rows(rates: list[Rate], power: bool = False) -> str:
    lines = ["| what | p <= 0.05 | interval holds the truth | mean width |", "| --- | --- | --- | --- |"]
    for rate in rates:
        figures = (f"{100 * rate.positives:.1f} %" if math.isfinite(rate.positives) else "",
                   f"{100 * rate.coverage:.1f} %" if math.isfinite(rate.coverage) else "",
                   f"{rate.width:.3f}" if math.isfinite(rate.width) else "")
        lines.append(f"| {rate.name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    studies = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000
    found = {}
    for scenario in SCENARIOS:
        found[scenario.__name__] = simulate(scenario, studies)
        print(rows(found[scenario.__name__]), flush=True)
    write("statistics", [vars(rate) for rates in found.values() for rate in rates])
    text = Path(__file__).with_name("statistics.md.in").read_text()
    tables = {name: rows(rates) for name, rates in found.items()}
    page = text.format(studies=f"{studies:,}", facts=facts_line(), smallest=f"{SMALLEST:.3f}", **tables)
    (ROOT / "docs" / "results" / "statistics.md").write_text(page)


if __name__ == "__main__":
    main()
