"""The folder in which the documentation is tried out: pictures, a small trained study, and one with many trials."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from ablation.plan import Plan, plan
from ablation.results import load_study
from ablation.spec import StudySpec
from ablation.store import StudyStore
from tests.ablation import searches
from tests.ablation.synthetic_study import write_study
from tests.docs.pages import ROOT, fences, in_folder
from trainers.records import EpochReport, RunContext, TrainResult
from trainers.train import train

TINY = ("data.image_size=16", "train.epochs=1", "imbalance.total=160", "grid.method=[simclr,supervised]",
        "grid.imbalance=[0.5]", "evaluation.max_images=80", "evaluation.fixed_labelled=40", "evaluation.view_images=8",
        "evaluation.views_per_image=2", "allow_tiny=true")
"""What makes the tutorial's study one of seconds."""


def finish(planned: Plan, cache: Path) -> None:
    """Train what is pending in this process; what Ray's workers would have written is in the store afterwards."""
    planned.save()
    for trial in planned.pending():
        context = RunContext(trial_dir=planned.store.trial_dir(trial.key), cache_dir=cache, threads=1)
        for item in train(trial.config, context):
            if isinstance(item, EpochReport):
                planned.store.append_history(trial.key, dataclasses.asdict(item))
            if isinstance(item, TrainResult):
                planned.store.write_result(trial.key, dataclasses.asdict(item))


def make_world(folder: Path) -> None:
    """``parts`` by the tutorial's own words, ``quickstart`` of made-up numbers with that study's encoder, a search.

    ``sewer`` is as ``quickstart``."""
    tutorial = list(fences(ROOT / "docs" / "tutorial.md"))
    with in_folder(folder):
        drawing = next(fence for fence in tutorial if fence.language == "python")
        exec(compile(drawing.text, drawing.place, "exec"), {})
        study = next(fence for fence in tutorial if fence.language == "yaml")
        (folder / "whole.yaml").write_text(study.text)
        spec = StudySpec.load("whole.yaml", TINY)
        for name in ("parts.yaml", "study.yaml"):
            (folder / name).write_text(spec.to_yaml())
        finish(plan(spec, store=folder / "studies"), folder / "cache")
    searches.Bench.of(searches.spec("fair", num_samples=4), folder / "studies").run()
    trained = load_study("parts", store=folder / "studies")
    encoder = trained.store.trial_dir(trained.trials_dataframe()["key"][0])
    write_study(folder / "studies" / "sewer", imbalance=(0.02, 0.15), epochs=4, num_test=20)
    many = StudyStore(write_study(folder / "studies" / "quickstart", imbalance=(0.05, 0.5), epochs=4, num_test=20))
    for key in many.planned_keys():
        for name in ("encoder.safetensors", "probe.safetensors"):
            if (encoder / name).exists():
                shutil.copy(encoder / name, many.trial_dir(key))
