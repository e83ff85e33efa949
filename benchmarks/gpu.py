"""What one GPU does: images/s of every step, the share of its limit, the data path alone, trials packed on the card.

    python -m benchmarks.gpu [METHOD ...] [--size 224] [--batch 256] [--pack 2 4] [--images 20000] [--epochs 100]

Needs neither Ray nor MLflow, only the packages of ``trainers``. ``--device cpu`` tries the script without a card. The
last figure is extrapolated, not measured: GPU-hours of 5 methods x 2 backbones x 25 trials at the measured rates, for
``--images`` a trial and ``--epochs``, without evaluation.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from typing import Any

import torch

from benchmarks.contenders.process import OURS, contender, run_lap, run_together
from benchmarks.pictures import jpeg_folder
from benchmarks.record import OUT, table, write
from trainers.backbones import BACKBONES
from trainers.methods import METHODS

ROUNDS, STEPS = 5, 8
TRIALS_PER_CELL = 25
SELF_SUPERVISED = ("simclr", "barlow_twins", "byol", "dino", "mae")


def measure(method: str, backbone: str, chosen: argparse.Namespace) -> dict[str, Any]:
    """One line: medians over rounds, laps of the kinds taken in turn; the first round is warm-up."""
    root = jpeg_folder(max(2048, chosen.batch * STEPS) if chosen.device == "cuda" else max(256, 2 * chosen.batch), 256)
    options = {"method": method, "backbone": backbone, "size": chosen.size, "batch": chosen.batch, "bf16": True,
               "steps": STEPS if chosen.device == "cuda" else 2, "core": None, "device": chosen.device,
               "images": str(root / "train"), "root": str(root), "cache": str(OUT / "cache")}
    kinds = ("whole", "limit", "data")
    with ExitStack() as stack:
        processes = [stack.enter_context(contender(OURS, options)) for _ in range(max(chosen.pack))]
        rounds = [{kind: run_lap(processes[0], kind) for kind in kinds} for _ in range(ROUNDS + 1)][1:]
        packed: dict[int, list[float]] = {}
        for _ in range(ROUNDS + 1):
            for count in sorted({1, *chosen.pack}):
                laps = run_together(processes[:count])
                rate = sum(lap.images for lap in laps) / max(lap.seconds for lap in laps)
                packed.setdefault(count, []).append(rate)
    rates = {kind: statistics.median(laps[kind].rate for laps in rounds) for kind in kinds}
    alone = statistics.median(packed[1][1:])
    return {"method": method, "backbone": backbone, "images/s": rates["whole"],
            "share of limit": statistics.median(laps["whole"].rate / laps["limit"].rate for laps in rounds),
            "data path images/s": rates["data"], "peak MB": rounds[-1]["whole"].peak_mb,
            **{f"{count} trials, times one": statistics.median(packed[count][1:]) / alone for count in chosen.pack}}


def study_hours(rows: list[dict[str, Any]], images: int, epochs: int) -> float:
    """Extrapolated GPU-hours of the 250 trials, one at a time."""
    seconds = [TRIALS_PER_CELL * images * epochs / row["images/s"] for row in rows if row["method"] in SELF_SUPERVISED]
    return sum(seconds) / 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--pack", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=100)
    chosen = parser.parse_args()
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch sees no GPU here; --device cpu tries the script without one")
    OUT.mkdir(exist_ok=True)
    rows = []
    for backbone in BACKBONES:
        for method in chosen.methods:
            rows.append(measure(method, backbone, chosen))
            print(table(rows[-1:]), file=sys.stderr)
    print(table(rows))
    fastest = max(row["images/s"] for row in rows)
    slowest_path = min(row["data path images/s"] for row in rows)
    print(f"data path alone, over the fastest step: {slowest_path / fastest:.2f} times")
    hours = study_hours(rows, chosen.images, chosen.epochs)
    print(f"extrapolated: {hours:.1f} GPU-hours for the trials of these methods, {TRIALS_PER_CELL} per method and "
          f"backbone, {chosen.images} images x {chosen.epochs} epochs each")
    card = torch.cuda.get_device_name() if chosen.device == "cuda" else "no card"
    print(write("gpu", rows, card=card, options=vars(chosen), extrapolated_hours=hours))


if __name__ == "__main__":
    main()
