"""What a study will cost: arithmetic over what was measured, a real measurement, and how far off it was."""

from __future__ import annotations

import dataclasses
import io
import os
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import ablation
from ablation import cli, measuring
from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Text
from ablation.analysis.sections.settings import section
from ablation.analysis.sections.view import StudyView
from ablation.calibration import Calibration, Seat, seat
from ablation.durations import Range
from ablation.errors import PlanError
from ablation.estimate import GAP_SECONDS, estimate, makespan
from ablation.events import Event
from ablation.forecast import begin, end, read, told
from ablation.placement import Machines, Node
from ablation.plan import Plan
from ablation.spec import StudySpec
from ablation.store import Store, TrialState, TrialStatus
from trainers.countdown import duration

STUDY: dict[str, Any] = {
    "name": "tiny", "data": {"dataset": "digits", "image_size": 16}, "imbalance": {"total": 96}, "allow_tiny": True,
    "grid": {"method": ["simclr", "byol"], "backbone": "resnet18", "imbalance": 0.1, "seed": [0, 1]},
    "train": {"epochs": 2, "batch_size": 32},
    "evaluation": {"max_images": 100, "fixed_labelled": 40, "view_images": 8, "views_per_image": 2}}
STEPS = 2 * (96 // 32)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machines = Machines((Node(2.0),))
    monkeypatch.setattr("ablation.calibration.local_machines", lambda: machines)
    monkeypatch.setattr("ablation.estimate.local_machines", lambda: machines)
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def make_plan(folder: Path, **changes: Any) -> Plan:
    return ablation.plan(StudySpec.from_dict(STUDY | changes), store=folder)


def entry(plan: Plan, **changes: Any) -> dict[str, Any]:
    """A measurement of one trial's kind as a calibration keeps it."""
    given = dataclasses.asdict(seat(plan, plan.pending()))
    numbers = {"time": 1.0, "setup": 1.0, "steps": [2.0], "conclude": 3.0, "num_embedded": 100, "peak_mb": 500.0,
               "files_mb": 45.0, "checkpoint_mb": 130.0, "start": 4.0}
    return given | numbers | changes


def know(plan: Plan, source: str = "measured", kinds: int = 2, **changes: Any) -> None:
    trials = {trial.method: trial for trial in plan.trials}
    Calibration(Store(plan.store.path.parent)).add(
        source, [(trial, f"n{changes}", entry(plan, **changes)) for trial in list(trials.values())[:kinds]])


def test_a_trial_is_its_fixed_part_its_steps_and_its_evaluation(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    know(plan)
    found = estimate(plan)
    pictures = [plan.num_embedded(trial) for trial in plan.trials]
    assert pictures[0] > 8 * 2 + 96
    seconds = {entry.trial.key: entry.seconds for entry in found.known}
    later = plan.trials[2].key  # of another method: the untrained backbone of its cell has been scored
    assert seconds[later].mid == pytest.approx(1 + STEPS * 2 + 0.03 * pictures[2] + GAP_SECONDS)
    assert seconds[plan.trials[0].key].mid > seconds[later].mid
    assert seconds[later].lo < 0.9 * seconds[later].mid
    assert found.seat == Seat(cpus=1, gpus=0.0, num_workers=1, at_once=2)
    assert found.memory_mb == 2 * 500
    assert found.disk_mb == 4 * 2 * 45 + 2 * 2 * 130
    assert found.seconds.mid > makespan((value.mid for value in seconds.values()), 2)
    assert found.gpu_hours == 0


def test_finished_trials_are_better_evidence_than_a_few_steps(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    know(plan)
    before = estimate(plan)
    know(plan, "finished", steps=[4.0], fixed=2.0)
    after = estimate(plan)
    assert (before.basis, after.basis) == ("calibration", "finished trials")
    assert after.known[0].seconds.mid == pytest.approx(before.known[0].seconds.mid + 1 + STEPS * 2)
    narrower = (entry.known[0].cost.step.hi / entry.known[0].cost.step.mid for entry in (after, before))
    assert next(narrower) < next(narrower)


def test_other_threads_and_a_busy_machine_widen_the_range(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    know(plan, cpus=2, at_once=1)
    assert estimate(plan).known[0].cost.step.hi == pytest.approx(2 * 1.15 * 2)  # from two threads to one
    know(plan, time=2.0, cpu_share=0.25)
    found = estimate(plan)
    assert found.known[0].cost.step.lo == pytest.approx(2 * 0.85 * 0.25)
    assert "25% of their CPUs" in found.lines()[1]


def test_what_nothing_is_known_of_is_said_and_left_out(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    assert estimate(plan).lines() == []
    assert plan.estimate(measure=False)["seconds"].isna().all()
    know(plan, kinds=1)
    found = estimate(plan)
    assert len(found.known) == len(found.unknown) == 2
    assert "not in it: 2 trial(s)" in found.lines()[1]
    frame = plan.estimate(measure=False)
    assert frame["basis"].tolist() == ["calibration", "calibration", "", ""]
    assert frame.attrs["study"]["unknown"] == 2


def test_a_kind_is_not_its_learning_rate_or_budget(tmp_path: Path) -> None:
    know(make_plan(tmp_path))
    assert not estimate(make_plan(tmp_path, train={"epochs": 9, "batch_size": 32, "lr": 0.1})).unknown
    assert len(estimate(make_plan(tmp_path, train={"epochs": 2, "batch_size": 48})).unknown) == 4


def test_a_machine_that_can_never_hold_a_trial_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="num_workers: 4 rank"):
        make_plan(tmp_path, resources={"num_workers": 4}).estimate()
    assert not (tmp_path / ".calibration").exists()


def test_two_ranks_are_measured_for_real_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.1)
    plan = make_plan(tmp_path, resources={"num_workers": 2}, grid=STUDY["grid"] | {"method": "simclr"})
    bad = dataclasses.replace(plan.trials[0].config, backbone="no_such_net")
    orders = [measuring.Order(trial, "") for trial in (plan.trials[0], dataclasses.replace(plan.trials[1], config=bad))]
    answers = dict(zip("ab", (answer for _, answer in measuring.measure_orders(orders, Seat(1, 0.0, 2, 1), 1)),
                       strict=True))
    assert "no_such_net" in answers["b"]["error"]
    monkeypatch.setattr(measuring, "measure_orders", lambda orders, *_: iter([(orders[0], answers["a"])]))
    frame = plan.estimate()
    assert (frame["seconds"] > 0).all()
    assert (frame["seconds_lo"] < frame["seconds"]).all()
    assert (frame["seconds"] < frame["seconds_hi"]).all()
    monkeypatch.setattr(measuring, "measure_orders", lambda *_: pytest.fail("measured again"))
    assert plan.estimate()["seconds"].tolist() == frame["seconds"].tolist()


def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    monkeypatch.setattr(sys, "argv", ["ablation", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    return capsys.readouterr()


def test_a_plan_tells_what_is_known_and_measures_when_asked(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan, file = make_plan(tmp_path), tmp_path / "study.yaml"
    file.write_text(plan.spec.to_yaml())
    words = ["plan", str(file), "--store", str(tmp_path)]
    assert "--estimate" in command(monkeypatch, capsys, *words)[1]
    assert not (tmp_path / ".calibration").exists()
    know(plan)
    assert "estimate: " in command(monkeypatch, capsys, *words)[0]
    table = command(monkeypatch, capsys, *words, "--estimate")[0]
    assert "simclr resnet18 16 px, batches of 32" in table
    rows = pd.read_csv(io.StringIO(command(monkeypatch, capsys, *words, "--estimate", "--format", "csv")[0]))
    assert rows["seconds"].tolist() == pytest.approx(plan.estimate(measure=False)["seconds"].tolist())
    assert rows["state"].eq("PENDING").all()


def finish(plan: Plan, seconds: float) -> None:
    now = time.time()
    for trial in plan.trials:
        metrics = {"time/setup": 1.0, "time/train": 18.0, "time/evaluate": 3.0, "memory/peak_mb": 700.0}
        plan.store.write_result(trial.key, {"metrics": metrics, "steps": STEPS,
                                            "provenance": {"host": os.uname().nodename}})
        plan.store.write_state(trial.key, TrialStatus(state=TrialState.FINISHED, attempt=1, started=now,
                                                      finished=now + seconds))


def test_after_the_run_the_error_is_told_and_the_next_estimate_knows(tmp_path: Path) -> None:
    plan, events = make_plan(tmp_path), list[Event]()
    begin(plan, None, None, events.append)
    assert told(plan.store) is None  # nothing was known
    know(plan)
    begin(plan, None, None, events.append)
    expected = estimate(plan).seconds
    with plan.store.lock():
        assert "running for" in str(told(plan.store))
    assert "died before its end" in str(told(plan.store))
    plan.save()
    finish(plan, seconds=24.0)
    end(plan, None, events.append)
    launch = read(plan.store)
    assert launch is not None
    assert (launch.expected, launch.finished) == (expected, 4)
    assert "shorter, outside the range" in str(told(plan.store))
    settings = section(StudyView.of(ablation.load_study("tiny", store=tmp_path), "probe/auroc"), Bundle())
    assert [block.text for block in settings.blocks if isinstance(block, Text) and "shorter" in block.text]
    wider = make_plan(tmp_path, grid=STUDY["grid"] | {"seed": [0, 1, 2]})
    cost = estimate(wider).known[0].cost
    assert (cost.basis, cost.count, cost.step.mid, cost.fixed.mid, cost.peak_mb) == ("finished trials", 2, 3, 3, 700)
    begin(wider, "10.0.0.1:6379", None, events.append)  # a cluster: this machine knows nothing of it
    assert told(plan.store) is None
    assert events == []


def test_ranges_and_durations_read_well() -> None:
    spread = Range.of([10.0] * 8 + [15.0, 20.0], 0.1)
    assert (spread.lo, spread.mid, spread.hi) == (pytest.approx(9), 10, 15)
    assert Range.of([10.0], 0.1) == Range(9.0, 10.0, 11.0)
    assert str(Range(180, 250, 360)) == "4 min 10 s (3 min to 6 min)"
    assert [duration(seconds) for seconds in (0.42, 45, 250, 3600, 12_000, 190_000)] == [
        "0.42 s", "45 s", "4 min 10 s", "1 h", "3 h 20 min", "2 d 5 h"]
    assert makespan([3, 1, 1, 1], 2) == 3
