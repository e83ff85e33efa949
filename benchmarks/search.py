"""Does TPE with ASHA reach the best of a full random search on half of its training images? (docs/results/search.md)

    python -m benchmarks.search --method supervised
    python -m benchmarks.search --method simclr

Each seed draws its own pre-training subset and seeds both samplers. Random search trains every candidate to its end;
TPE with ASHA gets half of the epochs that took. Neither knows the recipe. Both are real runs of ``ablation run``'s
driver on a local Ray; the score is the search's own objective, the probe's AUROC on validation. The backbone is timm's
smallest ResNet, so that settings matter at a size that 2 cores train.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

import ablation

CANDIDATES, EPOCHS = 40, 9


def study(name: str, method: str, seed: int, total: int, **search: Any) -> ablation.StudySpec:
    return ablation.StudySpec.from_dict({
        "name": name,
        "data": {"dataset": "sewer-sim", "image_size": 48, "cache_size": 56,
                 "options": {"num_train": 2000, "num_val": 1600}},
        "imbalance": {"policy": "fixed_total", "total": total},
        "grid": {"method": [method], "backbone": ["test_resnet"], "imbalance": [0.5], "seed": [0]},
        "train": {"epochs": EPOCHS},
        "evaluation": {"max_images": 800, "fixed_labelled": 50, "view_images": 8, "views_per_image": 2, "every": 3},
        "search": {"seeds": [seed], "fresh_seeds": [1000 + seed], "seed": seed, "warm_start": []} | search})


def ran(spec: ablation.StudySpec, store: Path) -> tuple[pd.DataFrame, float, float]:
    """Candidates in the order of asking, the winner's test score on a fresh seed, and seconds."""
    begun = time.monotonic()
    results = ablation.search(spec, store=store)
    fresh = float(results.reported_trials()["metrics.probe/auroc"].mean())
    return results.search_dataframe(), fresh, time.monotonic() - begun


def images_until(frame: pd.DataFrame, score: float) -> float | None:
    """Training images spent when a candidate of at least that score was complete; None if there is none.

    Counted as if candidates had been trained one after another, which with two at once is too many by one at most.
    """
    reached = frame["state"].eq("COMPLETE") & (frame["value"] >= score)
    return float(frame["images"].cumsum()[reached].min()) if reached.any() else None


def compare(method: str, seed: int, total: int, store: Path) -> dict[str, Any]:
    random, fresh_random, seconds = ran(
        study(f"random-{seed}", method, seed, total, sampler="random", num_samples=CANDIDATES), store)
    half = CANDIDATES * EPOCHS // 2
    tpe, fresh_tpe, more = ran(
        study(f"tpe-asha-{seed}", method, seed, total, sampler="tpe", scheduler="asha", n_startup=10,
              grace_epochs=3, num_samples=None, max_epochs=half), store)
    best, spent = float(random["value"].max()), float(random["images"].sum())
    done = tpe[tpe["state"] == "COMPLETE"]
    until = images_until(tpe, best)
    return {"seed": seed, "random_best": best, "random_median": float(random["value"].median()),
            "random_images": spent, "tpe_best": float(done["value"].max()), "tpe_images": float(tpe["images"].sum()),
            "tpe_candidates": len(tpe), "tpe_complete": len(done), "share": until / spent if until else None,
            "fresh_random": fresh_random, "fresh_tpe": fresh_tpe, "seconds": round(seconds + more, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="supervised")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--total", type=int, default=512)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["ABLATION_REPORT"] = "0"
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ABLATION_CACHE", str(Path(folder) / "cache"))
        for seed in range(options.seeds):
            rows.append(compare(options.method, seed, options.total, Path(folder) / "studies"))
            print(json.dumps(rows[-1]), flush=True)
    shares = [row["share"] if row["share"] is not None else 1.0 for row in rows]
    print(f"median share of random search's images: {statistics.median(shares):.2f}; reached on at most half: "
          f"{sum(row['share'] is not None for row in rows)} of {len(rows)} seeds")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
