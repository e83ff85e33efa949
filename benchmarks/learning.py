"""Do they learn? Every method on both backbones against its untrained backbone, grey pixels and supervised, 3 seeds.

    python -m benchmarks.learning ir-dev FOLDER        pictures in class folders, e.g. shared/data/ir_dev/imagefolder
    python -m benchmarks.learning sewer-sim            drawn on first use

Each is a study in ``benchmarks/out/learning`` (run again: only what is missing or has changed), at 50 % defects with
the default recipes and about 100 CPU-seconds of training a trial, since that is what a first user spends. The tables
go to ``docs/results/learning-<name>.md``.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

import ablation
from ablation.spec import Grid, Override, StudySpec, Where
from benchmarks.record import facts_line
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig
from trainers.data.cache import default_cache_dir
from trainers.data.imbalance import select_evaluation_sets, select_subset
from trainers.data.loader import open_data
from trainers.evaluation.metrics import auroc
from trainers.evaluation.probe import LinearProbe, PrincipalAxes
from trainers.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
STORE = ROOT / "benchmarks" / "out" / "learning"
SEEDS = (0, 1, 2)
EPOCHS = {
    "resnet18": {"simclr": 10, "barlow_twins": 10, "byol": 8, "dino": 5, "mae": 10, "mae_dense": 10, "supervised": 10},
    "vit_tiny": {"simclr": 4, "barlow_twins": 4, "byol": 3, "dino": 2, "mae": 15, "mae_dense": 8, "supervised": 8},
}
"""About equal CPU time per trial, see the column ``minutes``."""


def study(name: str, root: str | None) -> StudySpec:
    share = 1.0 if name == "ir-dev" else 0.5  # of the epochs: pictures of 48 px cost more, and there are fewer
    data = (DataConfig(dataset="folder", root=root, image_size=32) if name == "ir-dev" else
            DataConfig(dataset="sewer-sim", image_size=48, cache_size=56, options={"num_train": 2400, "num_val": 1600}))
    return StudySpec(
        name=f"learning-{name}", data=data, imbalance=ImbalanceConfig(total=1600 if name == "ir-dev" else 800),
        grid=Grid(method=tuple(METHODS), backbone=tuple(EPOCHS), imbalance=(0.5,), seed=SEEDS),
        train=OptimConfig(epochs=10), evaluation=EvaluationConfig(),
        overrides=tuple(
            Override(where=Where(method=(method,), backbone=(backbone,)),
                     set={"train.epochs": max(2, round(share * epochs))})
            for backbone, by_method in EPOCHS.items() for method, epochs in by_method.items()))


def grey_pixels(spec: StudySpec) -> list[float]:
    """AUROC of the probe on 16 x 16 grey pixels, per seed: what needs no network at all."""
    data = open_data(spec.data, default_cache_dir())
    index = data.dataset.index
    test = select_evaluation_sets(index, spec.evaluation).test
    scores = []
    for seed in SEEDS:
        train = select_subset(index, 0.5, seed, spec.imbalance).positions
        axes = PrincipalAxes(_grey(data.cache.gather(train)))
        probe = LinearProbe.fit(axes, index.labels[train], seed)
        scores.append(auroc(index.labels[test], probe.logits(_grey(data.cache.gather(test)))))
    return scores


def _grey(pixels: np.ndarray) -> np.ndarray:
    """(N, 3, S, S) uint8 -> (N, 256)."""
    small = [Image.fromarray(image.transpose(1, 2, 0)).convert("L").resize((16, 16), Image.Resampling.BOX)
             for image in pixels]
    return np.stack([np.asarray(image, dtype=np.float64).ravel() for image in small])


def cell(values: pd.Series | list[float]) -> str:
    """Mean ± standard deviation over seeds."""
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def render(frame: pd.DataFrame, grey: list[float]) -> str:
    """One Markdown table; ``gain`` is paired: the probe minus the same probe on the untrained backbone of that seed."""
    lines = ["| backbone | method | epochs | minutes | probe | gain over untrained | kNN | probe_fixed | flags |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
             f"| – | 16 × 16 grey pixels | – | – | {cell(grey)} | | | | |"]
    for backbone in EPOCHS:
        here = frame[frame["backbone"] == backbone]
        untrained = here.groupby("seed")["metrics.random_init/auroc"].first()
        lines.append(f"| {backbone} | untrained | 0 | 0 | {cell(untrained)} | | | | |")
        for method in METHODS:
            rows = here[here["method"] == method].set_index("seed").sort_index()
            epochs = int(rows["params.train.epochs"].iloc[0])
            gain = rows["metrics.probe/auroc"] - untrained
            flags = ", ".join(sorted({flag for text in rows["flags"] for flag in text.split(",") if flag}))
            lines.append(
                f"| {backbone} | {method} | {epochs} | {rows['metrics.time/train'].median() / 60:.1f} "
                f"| {cell(rows['metrics.probe/auroc'])} | {100 * gain.mean():+.1f} ± {100 * gain.std():.1f} "
                f"| {cell(rows['metrics.knn/auroc'])} | {cell(rows['metrics.probe_fixed/auroc'])} | {flags} |")
    return "\n".join(lines)


def facts(frame: pd.DataFrame) -> str:
    """Raises ``SystemExit`` unless every trial has finished: a mean over fewer seeds is another number."""
    if not (frame["state"] == "FINISHED").all():
        raise SystemExit("some trials are not FINISHED: run this again")
    codes = ", ".join(sorted(set(frame["provenance.code"])))
    train, test = (int(frame[f"provenance.num_{name}"].iloc[0]) for name in ("train", "test"))
    return (f"Trials of commit {codes}. {facts_line()} {train} pre-training and {test} test pictures, 50 % defects. "
            f"AUROC, mean ± standard deviation over n = {len(SEEDS)} seeds; gain in points, paired by seed; minutes of "
            "training on one thread, median.")


def main(arguments: list[str]) -> int:
    if len(arguments) != {"ir-dev": 2, "sewer-sim": 1}.get(arguments[0] if arguments else "", 0):
        print(__doc__, file=sys.stderr)
        return 2
    spec = study(arguments[0], arguments[1] if len(arguments) == 2 else None)
    frame = ablation.run(ablation.plan(spec, store=STORE)).trials_dataframe()
    text = f"{facts(frame)}\n\n{render(frame, grey_pixels(spec))}\n"
    path = ROOT / "docs" / "results" / f"learning-{arguments[0]}.md"
    path.write_text(f"# Do they learn? {arguments[0]}\n\nWritten by `python -m benchmarks.learning`.\n\n{text}")
    print(text, path, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
