"""A trial's processes are killed and stopped, memory and services taken away: nothing is lost or counted twice."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

import ablation as package
from ablation.store import StudyStore, TrialState
from tests.integration.drivers import drivers, process_of
from tests.integration.studies import ablation, environment, wait_for, write_study
from tests.integration.undisturbed import train_here

EPOCHS = 40


@dataclass
class Storm:
    """A study of one trial whose last rank was first killed, then stopped so that it lives and does nothing."""

    folder: Path
    file: Path
    study: StudyStore
    key: str
    attempts: list[int]
    exit_code: int
    output: str
    second_driver: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Storm:
    """Of two ranks; what one rank comes to in the end is looked at in test_driver_faults.py and test_cluster.py."""
    folder = tmp_path_factory.mktemp("storm")
    file = write_study(folder, epochs=EPOCHS, num_workers=2)
    study = StudyStore(folder / "studies" / "tiny")
    with drivers(folder, ABLATION_HEARTBEAT_SECONDS="6") as start:
        process = start(file)

        def gets_on(attempt: int, epoch: int) -> bool:
            assert process.poll() is None, process.stdout and process.stdout.read()
            now = [study.read_state(key) for key in study.planned_keys()]
            return any(status.attempt == attempt and status.epoch >= epoch for status in now)

        attempts = []
        for attempt, blow in ((1, signal.SIGKILL), (2, signal.SIGSTOP)):
            wait_for(lambda attempt=attempt: gets_on(attempt, 2), seconds=180)
            [key] = study.planned_keys()
            pid = process_of(folder, "ray::Rank")
            attempts.append(study.read_state(key).attempt)
            os.kill(pid, blow)
            if attempt == 1:
                second_driver = ablation(folder, "run", file)
        out, _ = process.communicate(timeout=300)
    return Storm(folder, file, study, key, attempts, process.returncode, out, second_driver)


def test_a_killed_rank_is_started_again(storm: Storm) -> None:
    assert storm.exit_code == 0, storm.output
    assert storm.attempts[0] == 1
    assert storm.output.count("retry") == 2, storm.output


def test_a_rank_that_hangs_is_ended_and_started_again(storm: Storm) -> None:
    assert storm.output.count("no sign of life") == 1, storm.output
    assert storm.study.read_state(storm.key).state is TrialState.FINISHED
    assert storm.study.read_state(storm.key).attempt == 3


def test_a_second_driver_is_refused_and_told_of_the_first(storm: Storm) -> None:
    assert storm.second_driver.returncode == 2
    assert "is already run by process" in storm.second_driver.stderr


def test_no_epoch_is_lost_or_doubled(storm: Storm, tmp_path: Path) -> None:
    """Equal to the bit only with as many ranks: tests/distributed/test_resume.py."""
    cache = Path(environment(storm.folder)["ABLATION_CACHE"])
    history = storm.study.read_history(storm.key)
    assert [record["epoch"] for record in history] == list(range(1, EPOCHS + 1))
    [trial] = package.plan(package.StudySpec.load(str(storm.file)), store=storm.study.path.parent).trials
    alone, _ = train_here(trial, cache, tmp_path)
    for record, (_, expected) in zip(history, alone, strict=True):
        assert record["metrics"]["train/loss"] == pytest.approx(expected["train/loss"], rel=0.03)  # bf16


def test_a_ray_cluster_that_is_not_there(tmp_path: Path) -> None:
    done = ablation(tmp_path, "run", write_study(tmp_path), "--address", "127.0.0.1:9")
    assert done.returncode == 6
    assert "Ray at 127.0.0.1:9 cannot be used" in done.stderr


def test_a_node_without_memory_fails_its_trials_and_not_the_study(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is told that the node is full at 1 % of its memory, so that it ends every worker."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    done = ablation(tmp_path, "run", write_study(tmp_path, epochs=1000, more="retries: 0"))
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    study = StudyStore(tmp_path / "studies" / "tiny")
    [status] = [study.read_state(key) for key in study.planned_keys()]
    assert status.state is TrialState.FAILED
    assert status.reason in ("out_of_memory", "process_lost")  # a worker that is ended at its start cannot say why
