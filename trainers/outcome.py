"""The end of a run: scores, flags, provenance and the files a result leaves beside it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainers import plugins
from trainers.atomic import replace_file
from trainers.build import Run
from trainers.collapse import collapse_flags
from trainers.evaluation.contact_sheet import write_contact_sheet
from trainers.evaluation.evaluate import EvalReport, evaluate, threshold_rules
from trainers.evaluation.label_free import RANKME_CONVENTION
from trainers.export import save_probe
from trainers.machine import fits, peak_memory_mb
from trainers.provenance import describe
from trainers.records import TrainResult

MAX_KEYS = 40
PROBE_BYTES = 5 * 8
"""Of memory per training feature: the probe keeps about five float64 copies."""


class Timer:
    """Seconds of each phase since the one before."""

    def __init__(self) -> None:
        self.last = time.perf_counter()
        self.metrics: dict[str, float] = {}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside counts for no phase."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.last += time.perf_counter() - begun

    def mark(self, phase: str) -> None:
        now = time.perf_counter()
        self.metrics[f"time/{phase}"] = now - self.last
        self.last = now


def score(run: Run) -> EvalReport:
    """Evaluate the encoder as it is now, on its device unless that is too small for it."""
    data = run.judge.collect(run.method)
    device = run.device if fits(data.train.features.size * PROBE_BYTES, run.device) else "cpu"
    report = evaluate(data, run.config.evaluation, run.config.seed, device)
    for problem in report.problems:
        run.context.log(problem)
    return report


def conclude(run: Run, timer: Timer, last_epoch: dict[str, float]) -> TrainResult:
    """Score the finished run and write its files. ``last_epoch``: its means."""
    report = score(run)
    folder = run.context.trial_dir
    for name, table in (("scores", _scores(run, report)), ("manifest", _manifest(run))):
        replace_file(folder / f"{name}.parquet", partial(pq.write_table, table), sync=False)
    if report.probe is not None:
        save_probe(folder / "probe.safetensors", report.probe, _thresholds(run, report))
    test = run.judge.sets.test
    write_contact_sheet(folder / "contact_sheet.png", run.data, test, report.scores["score_probe"][-len(test):])
    plugins.keep(run.config, folder / "code")
    timer.mark("evaluate")
    kept = ("train/loss", "train/images_per_second", "train/data_wait")
    metrics = report.metrics | {key: last_epoch[key] for key in kept} | timer.metrics
    metrics["memory/peak_mb"] = peak_memory_mb(run.device)
    metrics = {key: float(value) for key, value in metrics.items() if math.isfinite(value)}
    assert len(metrics) <= MAX_KEYS, sorted(metrics)
    return TrainResult(
        metrics=metrics, epochs=run.config.train.epochs, steps=run.config.train.epochs * run.steps_per_epoch,
        provenance=_provenance(run, report), flags=collapse_flags(last_epoch | metrics),
        further=report.further | report.validation)


def _provenance(run: Run, report: EvalReport) -> dict[str, object]:
    sets = run.judge.sets
    return describe(run.device) | {
        "precision": str(run.precision).removeprefix("torch."), "num_workers": run.context.world_size,
        "data_digest": run.data.dataset.index.digest, "subset_digest": run.subset.digest,
        "num_train": len(run.sampler.positions), "num_validation": len(sets.validation), "num_test": len(sets.test),
        "num_corrupt": len(run.subset.positions) - len(run.sampler.positions),
        "recipe": asdict(run.recipe), "thresholds": report.thresholds, "plugins": run.config.plugins,
        "views": f"{run.config.evaluation.view_images}x{run.config.evaluation.views_per_image}-simclr",
        "rankme": f"{RANKME_CONVENTION}-n{len(sets.level_free)}-k{run.method.encoder.feature_dim}"}


def _thresholds(run: Run, report: EvalReport) -> dict[str, dict[str, float]]:
    """Those of the probe, each with what it is best for: ``{f1: {value, prevalence, beta}, ...}``."""
    index = run.data.dataset.index
    rules = threshold_rules(index.labels[run.judge.sets.test], run.config.evaluation)
    return {name: {"value": report.thresholds[f"probe/{name}"], "prevalence": prevalence, "beta": beta}
            for name, (prevalence, beta) in rules.items() if f"probe/{name}" in report.thresholds}


def _scores(run: Run, report: EvalReport) -> pa.Table:
    sets = run.judge.sets
    positions = np.concatenate([sets.validation, sets.test])
    index = run.data.dataset.index
    split = ["validation"] * len(sets.validation) + ["test"] * len(sets.test)
    columns = {"image_id": index.ids[positions].tolist(), "split": split, "label": index.labels[positions],
               "defect_type": index.defect_types[positions].tolist()}
    return pa.table(columns | {name: values.astype(np.float32) for name, values in report.scores.items()})


def _manifest(run: Run) -> pa.Table:
    index, positions = run.data.dataset.index, run.sampler.positions
    return pa.table({"image_id": index.ids[positions].tolist(), "label": index.labels[positions],
                     "defect_type": index.defect_types[positions].tolist()})
