"""How the driver, the store and the status grow with the number of trials; the trials train nothing.

    python -m benchmarks.scale [50 250 2000 10000] [--no-mlflow]

Per size, in a process of its own: seconds to plan, to run (Ray's start, pictures and report included) and per trial,
peak memory of the driver, seconds of ``trials_dataframe()`` and of a study's status. ``--write`` puts the table into
docs/results/orchestration.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import facts_line, table, write

METHODS, BACKBONES, LEVELS = ("simclr", "barlow_twins", "byol", "dino", "supervised"), ("resnet18",), (0.05, 0.1)
CELLS = len(METHODS) * len(BACKBONES) * len(LEVELS)
DEAD = "http://127.0.0.1:9"
PAGE = Path("docs/results/orchestration.md")


def measure(num_trials: int, mlflow: bool) -> dict[str, Any]:
    """One study of ``num_trials`` no-ops, two at once."""
    import ablation
    import ablation.worker
    from ablation.commands import study_status
    from ablation.spec import Grid
    from benchmarks.noop import NoopGang
    from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig

    ablation.worker.Gang = NoopGang  # type: ignore[misc]
    spec = ablation.StudySpec(
        name="scale", data=DataConfig(dataset="digits", image_size=16), allow_tiny=True,
        imbalance=ImbalanceConfig(total=96), train=OptimConfig(epochs=1, batch_size=32),
        grid=Grid(method=METHODS, backbone=BACKBONES, imbalance=LEVELS, seed=tuple(range(num_trials // CELLS))),
        evaluation=EvaluationConfig(max_images=100, fixed_labelled=40))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ABLATION_CACHE"] = str(Path(folder) / "cache")
        begun = time.perf_counter()
        plan = ablation.plan(spec, store=folder)
        planned = time.perf_counter()
        results = ablation.run(plan, tracking_uri=None if mlflow else DEAD)
        ended = time.perf_counter()
        frame = results.trials_dataframe()
        framed = time.perf_counter()
        study_status("scale", folder)
        status = time.perf_counter() - framed
        assert (frame["state"] == "FINISHED").all(), frame["reason"].value_counts()
        states = [plan.store.read_state(key) for key in frame["key"]]
        steady = max(s.finished or 0 for s in states) - min(s.started or 0 for s in states)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"trials": len(frame), "MLflow": "SQLite" if mlflow else "away", "plan s": planned - begun,
            "run s": ended - planned, "run s/trial": (ended - planned) / len(frame), "trials alone s": steady,
            "trials alone s/trial": steady / len(frame), "driver MB": peak, "trials_dataframe() s": framed - ended,
            "status s": status}


def page(rows: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "| " + " | ".join("---" for _ in rows[0]) + " |"]
    for row in rows:
        lines.append("| " + " | ".join(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    return (Path(__file__).parent / "scale.md.in").read_text().replace("{table}", "\n".join(lines)).replace(
        "{facts}", facts_line())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sizes", nargs="*", type=int, default=[50, 250, 2000, 10000])
    parser.add_argument("--no-mlflow", action="store_true")
    parser.add_argument("--alone", action="store_true", help="measure in this process and print JSON")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE}")
    chosen = parser.parse_args()
    if chosen.alone:
        print(json.dumps(measure(chosen.sizes[0], not chosen.no_mlflow)))
        return
    rows = []
    for size in chosen.sizes:
        more = ["--no-mlflow"] if chosen.no_mlflow else []
        done = subprocess.run([sys.executable, "-m", "benchmarks.scale", str(size), "--alone", *more], check=True,
                              stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(table(rows[-1:]), flush=True)
    print(write("scale", rows))
    if chosen.write:
        PAGE.write_text(page(rows))


if __name__ == "__main__":
    main()
