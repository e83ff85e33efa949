"""Nothing that is not a number goes on silently: the guard at the step, and the three signs of collapse."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainers.test_train import config, run
from trainers import checkpoint
from trainers.build import Run
from trainers.checkpoint import Position
from trainers.collapse import collapse_flags, feature_std
from trainers.config import ConfigError
from trainers.data.index import CorruptImage
from trainers.meter import Meter
from trainers.records import EpochReport, Progress, RunContext, StepOutput, TrainingError
from trainers.train import train


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_the_step_that_is_not_finite_stops_the_run_and_the_checkpoint_before_it_is_good(
        broken: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finite loss with a gradient that is not would poison the weights one step before anyone sees it."""
    monkeypatch.setattr("trainers.train.CHECKPOINT_SECONDS", -1.0)
    clip, update = Run.clip_gradients, Meter.update

    def poisoned(self: Run) -> Tensor:
        runs.append(self)
        if broken == "gradient" and steps.count("seen") == 2:
            grad = next(self.method.parameters()).grad
            assert grad is not None
            grad.fill_(math.nan)
        return clip(self)

    def listen(self: Meter, output: StepOutput, grad_norm: Tensor, progress: Progress, num_images: int) -> None:
        steps.append("seen")
        if broken == "loss" and progress.step == 2:
            output = StepOutput(output.loss * math.inf, output.features, output.metrics)
        update(self, output, grad_norm, progress, num_images)

    steps: list[str] = []
    runs: list[Run] = []
    monkeypatch.setattr(Run, "clip_gradients", poisoned)
    monkeypatch.setattr(Meter, "update", listen)
    expected = r"not finite at step 2 \(last good checkpoint: epoch 1, step 2\)"
    with pytest.raises(TrainingError, match=expected) as caught:
        run(config(), tmp_path, cache)
    assert caught.value.reason == "diverged"
    found = checkpoint.load(tmp_path, print)
    assert found is not None
    position, state = found
    assert position == Position(0, 2)
    for name, value in runs[-1].method.state_dict().items():
        if "running" not in name and "num_batches" not in name:  # the forward pass has moved those
            assert torch.equal(value, state["run"]["method"][name]), name  # the optimiser never saw the bad gradient


def test_on_cuda_the_guard_names_the_step_although_it_looks_later() -> None:
    """The device keeps the first bad step; looking at every step would make the host wait."""
    meter = Meter(torch.device("cpu"))
    meter.device = torch.device("cuda")  # only asked for its type; tensors stay here
    for step in range(1, 20):
        loss = torch.tensor(math.nan if step >= 7 else 1.0)
        meter.update(StepOutput(loss, torch.randn(4, 8)), torch.tensor(1.0), Progress(step, 100, 0, 1), 4)
    assert not meter.is_good
    with pytest.raises(TrainingError, match="not finite at step 7 "):
        meter.guard()


def test_nothing_bad_is_saved_between_two_looks(tmp_path: Path, cache: Path) -> None:
    from trainers.train import _begin, _save

    built, meter, _, _ = _begin(config(), RunContext(trial_dir=tmp_path, cache_dir=cache, threads=1))
    _save(built, meter, Position(0, 1), {})
    meter.first_bad_step.fill_(1)
    _save(built, meter, Position(0, 2), {})
    found = checkpoint.load(tmp_path, print)
    assert found is not None
    assert found[0] == meter.last_good == Position(0, 1)


@pytest.mark.parametrize("error", [TrainingError("diverged", "at step 3"), ConfigError("train.lr", "too large"),
                                   CorruptImage("a.png", "truncated")])
def test_errors_survive_the_way_from_another_rank(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_feature_std_is_1_on_the_sphere_and_0_at_a_point() -> None:
    assert feature_std(torch.randn(4000, 64)).item() == pytest.approx(1, abs=0.02)
    assert feature_std(torch.ones(10, 64)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("metrics", "sign"), [
    ({"train/feature_std": 0.01}, "features_constant"),
    ({"train/feature_std": 0.9, "train/teacher_entropy": 0.9999}, "teacher_uniform"),
    ({"train/feature_std": 0.9, "train/teacher_entropy": 0.001}, "teacher_one_hot"),
    ({"label_free/rankme": 1.0001}, "rank_one"),
])
def test_each_sign_of_collapse_is_named(metrics: dict[str, float], sign: str) -> None:
    assert collapse_flags(metrics) == ["collapsed", sign]


def test_healthy_numbers_and_methods_without_a_teacher_have_no_flag() -> None:
    assert collapse_flags({"train/feature_std": 0.4, "train/teacher_entropy": 0.8, "label_free/rankme": 90.0}) == []
    assert collapse_flags({}) == []


def test_a_teacher_that_says_the_same_of_every_image_is_flagged_while_it_trains(tmp_path: Path, cache: Path) -> None:
    options = {"teacher_temperature": 50.0, "teacher_temperature_end": 50.0, "num_prototypes": 64}
    wanted = config(method="dino", train__options=options, train__epochs=1)
    reports, result = run(wanted, tmp_path, cache)
    assert reports[-1].flags == ["collapsed", "teacher_uniform"]
    assert result.flags[:2] == ["collapsed", "teacher_uniform"]
    assert "train/teacher_entropy" in reports[-1].metrics


def test_a_healthy_run_has_none(tmp_path: Path, cache: Path) -> None:
    items = train(config(), RunContext(trial_dir=tmp_path, cache_dir=cache, threads=1))
    report = next(items)
    assert isinstance(report, EpochReport)
    assert report.flags == []
    assert report.metrics["train/grad_norm"] > 0
    items.close()  # type: ignore[attr-defined]
