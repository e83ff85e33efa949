"""Source images per second, end to end from JPEG files: our training loop, its own limit, and peers' pipelines.

    python -m benchmarks.throughput [--no-peers] [--size 64] [--batch 128] [METHOD ...]

Every contender is a process of its own on one core with one thread; laps of a few steps are run in turn and medians
compared, so that the ratios carry over to other machines while the absolute figures are of this one. ``limit`` is our
loop on one batch that is ready in memory. Peers run as documented, in float32, and with bf16 switched on by hand.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from contextlib import ExitStack
from typing import Any

from benchmarks.contenders import peers
from benchmarks.contenders.process import OURS, Lap, contender, run_lap
from benchmarks.pictures import jpeg_folder
from benchmarks.record import OUT, facts_line, table, write
from trainers.backbones import BACKBONES, SMALL_IMAGE
from trainers.methods import METHODS

NUM_PICTURES, PICTURE_SIDE = 1024, 256
WARM_UP, ROUNDS = 2, 3
IN_PEERS = {(method, backbone) for method in ("simclr", "byol", "dino") for backbone in BACKBONES}
IN_PEERS |= {("mae", "vit_tiny")}
"""What peers have: no masked convolution, no mae_dense; Barlow Twins and supervised are not compared."""


def race(method: str, backbone: str, size: int, batch: int, with_peers: bool) -> dict[str, list[Lap]]:
    """Laps of every contender, taken in turn; the first rounds of each are warm-up."""
    root = jpeg_folder(NUM_PICTURES, PICTURE_SIDE)
    options = {"method": method, "backbone": backbone, "size": size, "batch": batch, "steps": max(1, 256 // batch),
               "core": max(os.sched_getaffinity(0)),
               "images": str(root / "train"), "root": str(root), "cache": str(OUT / "cache"), "device": "cpu"}
    commands = {"ours": (OURS, True)}
    if with_peers and (method, backbone) in IN_PEERS:
        commands |= {f"{peer} {kind}": (peers.command(peer), kind == "bf16")
                     for peer in peers.PEERS for kind in ("fp32", "bf16")}
    laps: dict[str, list[Lap]] = {name: [] for name in ["ours", "limit", *list(commands)[1:]]}
    with ExitStack() as stack:
        running = {name: stack.enter_context(contender(command, options | {
                       "bf16": bf16, "steps": options["steps"] if name == "ours" else 1}))
                   for name, (command, bf16) in commands.items()}
        for number in range(WARM_UP + ROUNDS):
            for name, process in running.items():
                kinds = ("ours", "limit") if name == "ours" else (name,)
                for kind in kinds:
                    lap = run_lap(process, "limit" if kind == "limit" else "whole")
                    if number >= WARM_UP:
                        laps[kind].append(lap)
    return laps


def ratio(laps: dict[str, list[Lap]], name: str, against: str) -> float:
    """Median over rounds of the ratio of the two rates in a round."""
    return statistics.median(a.rate / b.rate for a, b in zip(laps[name], laps[against], strict=True))


def row(method: str, backbone: str, laps: dict[str, list[Lap]]) -> dict[str, Any]:
    """One line of the table: ``x`` = our images/s over the fastest peer's, ``MB /`` = our peak memory over a peer's."""
    rates = {name: statistics.median(lap.rate for lap in runs) for name, runs in laps.items()}
    memory = {name: max(lap.peak_mb for lap in runs) for name, runs in laps.items()}
    found: dict[str, Any] = {"method": method, "backbone": backbone, "images/s": rates["ours"],
                             "share of limit": ratio(laps, "ours", "limit"), "peak MB": memory["ours"]}
    for kind in ("fp32", "bf16"):
        names = [name for name in rates if name.endswith(kind)]
        best = max(names, key=lambda name: rates[name], default=None)
        found |= {f"best peer, {kind}": f"{best.split()[0]} {rates[best]:.1f}" if best else "–",
                  f"x {kind}": ratio(laps, "ours", best) if best else "–"}
    for peer in peers.PEERS:
        found[f"MB / {peer}"] = memory["ours"] / memory[f"{peer} bf16"] if f"{peer} bf16" in memory else "–"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=list(METHODS), metavar="METHOD")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=128)
    chosen = parser.parse_args()
    if chosen.size >= SMALL_IMAGE and not chosen.no_peers:
        parser.error(f"peers are built for sizes under {SMALL_IMAGE}: add --no-peers")
    OUT.mkdir(exist_ok=True)
    rows, laps = [], {}
    for backbone in BACKBONES:
        for method in chosen.methods:
            found = race(method, backbone, chosen.size, chosen.batch, not chosen.no_peers)
            rows.append(row(method, backbone, found))
            laps[f"{method} {backbone}"] = {name: [vars(lap) for lap in runs] for name, runs in found.items()}
            print(table(rows[-1:]), file=sys.stderr)
            path = write("throughput", rows, laps=laps, peers={name: spec for name, (spec, _) in peers.PEERS.items()})
    print(table(rows), facts_line(), path, sep="\n")


if __name__ == "__main__":
    main()
