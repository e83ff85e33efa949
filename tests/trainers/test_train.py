"""The loop: it learns, reports, resumes bit for bit, and ends loudly when it cannot go on. Real data, no service."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from trainers import checkpoint
from trainers.config import ConfigError, TrainConfig
from trainers.data.index import DataError
from trainers.export import load_encoder
from trainers.outcome import MAX_KEYS
from trainers.records import EpochReport, RunContext, TrainingError, TrainResult
from trainers.train import train

TINY: dict[str, Any] = {
    "method": "simclr", "backbone": "test_resnet", "imbalance": 0.1, "seed": 0, "allow_tiny": True,
    "data": {"dataset": "digits", "image_size": 16}, "subset": {"total": 128},
    "train": {"epochs": 2, "batch_size": 32, "precision": "fp32"},
    "evaluation": {"max_images": 120, "fixed_labelled": 64, "view_images": 8, "views_per_image": 2}}


def config(**changes: Any) -> TrainConfig:
    raw = json.loads(json.dumps(TINY))
    for path, value in changes.items():
        section, _, field = path.partition("__")
        if field:
            raw[section][field] = value
        else:
            raw[section] = value
    return TrainConfig.from_dict(raw)


def run(wanted: TrainConfig, folder: Path, cache: Path) -> tuple[list[EpochReport], TrainResult]:
    folder.mkdir(parents=True, exist_ok=True)
    items = list(train(wanted, RunContext(trial_dir=folder, cache_dir=cache, threads=1)))
    assert isinstance(items[-1], TrainResult)
    return [item for item in items if isinstance(item, EpochReport)], items[-1]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def numbers(report: EpochReport) -> dict[str, float]:
    """What must not depend on the machine's mood."""
    return {key: value for key, value in report.metrics.items()
            if key not in ("train/images_per_second", "train/data_wait")}


def test_a_run_leaves_scores_encoder_and_manifest(tmp_path: Path, cache: Path) -> None:
    reports, result = run(config(), tmp_path, cache)
    assert [report.epoch for report in reports] == [1, 2]
    assert result.steps == reports[-1].step == 2 * (128 // 32)
    assert {"probe/auroc", "probe_balanced/f1", "probe_fixed/ap", "knn/auroc", "random_init/auroc",
            "detector/knn_auroc", "label_free/rankme", "label_free/rankme_embedding", "train/loss",
            "time/train", "memory/peak_mb"} <= set(result.metrics)
    keys = set(result.metrics) | {key for report in reports for key in report.metrics}
    assert len(keys) <= MAX_KEYS
    manifest = pq.read_table(tmp_path / "manifest.parquet").to_pydict()
    assert len(manifest["image_id"]) == 128
    assert sum(manifest["label"]) == 13
    scores = pq.read_table(tmp_path / "scores.parquet").to_pydict()
    assert set(scores["split"]) == {"validation", "test"}
    assert not set(scores["image_id"]) & set(manifest["image_id"])
    encoder = load_encoder(tmp_path / "encoder.safetensors")
    assert encoder(torch.zeros(2, 3, 40, 40, dtype=torch.uint8)).shape == (2, encoder.feature_dim)
    assert not (tmp_path / checkpoint.CURRENT).exists()


def test_the_same_configuration_gives_the_same_numbers(tmp_path: Path, cache: Path) -> None:
    first, result = run(config(), tmp_path / "a", cache)
    run(config(method="dino", seed=3), tmp_path / "between", cache)  # a warm process must not remember it
    second, again = run(config(), tmp_path / "b", cache)
    assert [numbers(report) for report in first] == [numbers(report) for report in second]
    assert {k: v for k, v in result.metrics.items() if k.startswith(("probe", "label"))} == \
           {k: v for k, v in again.metrics.items() if k.startswith(("probe", "label"))}


@pytest.mark.parametrize("epochs_done", [1, 2])
def test_an_interrupted_generator_saves_its_epoch(epochs_done: int, tmp_path: Path, cache: Path) -> None:
    """Also after the last epoch, when only the evaluation is left."""
    context = RunContext(trial_dir=tmp_path, cache_dir=cache, threads=1)
    items = train(config(), context)
    for _ in range(epochs_done):
        next(items)
    items.close()  # type: ignore[attr-defined]
    found = checkpoint.load(tmp_path, print)
    assert found is not None
    assert found[0] == checkpoint.Position(epochs_done, 0)
    reports, result = run(config(), tmp_path, cache)
    assert [report.epoch for report in reports] == list(range(epochs_done + 1, 3))
    assert "train/loss" in result.metrics


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, checkpoint.Position(1, 0), {"x": torch.ones(3)})
    checkpoint.save(tmp_path, checkpoint.Position(2, 0), {"x": torch.ones(3)})
    path = tmp_path / checkpoint.CURRENT
    path.write_bytes(path.read_bytes()[:100])
    said: list[str] = []
    found = checkpoint.load(tmp_path, said.append)
    assert found is not None
    assert found[0].epoch == 1
    assert "damaged" in said[0]
    (tmp_path / checkpoint.PREVIOUS).write_bytes(b"")
    assert checkpoint.load(tmp_path, said.append) is None


def test_a_loss_that_is_not_finite_ends_the_run_with_a_reason(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(TrainingError, match="not finite at step") as caught:
        run(config(train__lr=1e30), tmp_path, cache)
    assert caught.value.reason == "diverged"


def test_a_batch_larger_than_the_subset_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(DataError, match="larger than the subset of 128"):
        run(config(train__batch_size=256), tmp_path, cache)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_missing_gpu_is_said(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ConfigError, match="torch sees none"):
        next(train(config(), RunContext(trial_dir=tmp_path, cache_dir=cache, device="cuda")))


def test_evaluation_between_epochs_goes_into_the_history(tmp_path: Path, cache: Path) -> None:
    reports, _ = run(config(evaluation__every=1), tmp_path, cache)
    assert "probe/auroc" in reports[0].metrics
    assert "probe/auroc" not in reports[1].metrics  # the end is in the result


def test_two_processes_give_the_numbers_of_one(tmp_path: Path, cache: Path) -> None:
    """torchrun with 2 gloo ranks: the loss curve equals one rank's to float rounding, at equal global batch.

    Rounding grows with every step, fastest for Barlow Twins, whose step equality in float64 tests/distributed holds.
    """
    path = tmp_path / "config.json"
    path.write_text(json.dumps(TINY | {"train": TINY["train"] | {"epochs": 1}}))
    environment = os.environ | {"ABLATION_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    losses = []
    for ranks in (1, 2):
        launcher = [] if ranks == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        done = subprocess.run([sys.executable, *launcher, "-m", "trainers", str(path), str(tmp_path / str(ranks))],
                              capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)
        assert result["provenance"]["num_workers"] == ranks
        losses.append(result["metrics"]["train/loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_kill_9_leaves_what_the_next_start_needs(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "config.json"
    long = dataclasses.replace(config(), train=dataclasses.replace(config().train, epochs=400))
    path.write_text(json.dumps(long.to_dict()))
    code = ("import trainers.train as t, sys; t.CHECKPOINT_SECONDS = 0.2\n"
            "from trainers.__main__ import main; sys.exit(main(sys.argv[1:]))")
    process = subprocess.Popen([sys.executable, "-c", code, str(path), str(tmp_path / "trial")],
                               env=os.environ | {"ABLATION_CACHE": str(cache)}, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not (tmp_path / "trial" / checkpoint.PREVIOUS).exists() and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = checkpoint.load(tmp_path / "trial", print)
    assert found is not None
    items = train(long, RunContext(trial_dir=tmp_path / "trial", cache_dir=cache, threads=1))
    report = next(items)
    assert isinstance(report, EpochReport)
    assert report.epoch == found[0].epoch + 1
