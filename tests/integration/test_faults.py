"""Kill it, run it twice, take its services away: nothing is lost and nothing is counted twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ablation as package
from ablation.store import StudyStore, TrialState
from tests.integration.studies import ablation, command, environment, wait_for, write_study


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start ``ablation run`` in the background; whatever still lives at the end is ended by its id."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(command("run", *arguments), cwd=tmp_path, env=environment(tmp_path),
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_killed_worker_is_started_again_and_a_second_driver_is_refused(
        tmp_path: Path, driver: Callable[..., subprocess.Popen[str]]) -> None:
    path = write_study(tmp_path, epochs=30)
    study = StudyStore(tmp_path / "studies" / "tiny")
    process = driver(path)
    wait_for(lambda: any(study.read_state(key).epoch >= 2 for key in study.planned_keys()))
    key = study.planned_keys()[0]

    second = ablation(tmp_path, "run", path)
    assert second.returncode == 2
    assert f"process {process.pid} on" in second.stderr

    pid = study.read_state(key).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0, out
    assert "retry" in out
    assert study.read_state(key).state is TrialState.FINISHED
    assert study.read_state(key).attempt == 2
    steps = [record["step"] for record in study.read_history(key)]
    assert steps == sorted(set(steps))
    assert len(steps) == 30


@pytest.mark.parametrize(("num_workers", "blow"), [
    (1, signal.SIGSTOP), (2, signal.SIGSTOP), (2, signal.SIGKILL),
], ids=["1-SIGSTOP", "2-SIGSTOP", "2-SIGKILL"])
def test_a_rank_that_is_lost_is_replaced_and_the_trial_continues(
        tmp_path: Path, driver: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch,
        num_workers: int, blow: signal.Signals) -> None:
    """The last rank dies, or hangs: stopped, it lives and holds its connections, but does nothing."""
    monkeypatch.setenv("ABLATION_HEARTBEAT_SECONDS", "2")
    epochs = 30 if num_workers == 1 else 10  # two ranks take longer over one
    path = write_study(tmp_path, epochs=epochs, num_workers=num_workers)
    study = StudyStore(tmp_path / "studies" / "tiny")
    process = driver(path)
    wait_for(lambda: any(study.read_state(key).epoch >= 2 for key in study.planned_keys()))
    [key] = study.planned_keys()
    struck = study.read_state(key).pid if num_workers == 1 else process_of(tmp_path, "ray::Rank")
    assert struck is not None
    os.kill(struck, blow)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    assert ("no sign of life" in out) == (blow is signal.SIGSTOP)
    assert "retry" in out
    assert study.read_state(key).state is TrialState.FINISHED
    assert study.read_state(key).attempt == 2
    assert [record["epoch"] for record in study.read_history(key)] == list(range(1, epochs + 1))


def process_of(store_folder: Path, title: str) -> int:
    """The worker process of this test's own Ray whose title begins so."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(title.encode()) and (
                    str(store_folder).encode() in (entry / "environ").read_bytes()):
                return int(entry.name)
    raise AssertionError(f"no process {title} of {store_folder}")


def test_ctrl_c_then_the_same_command_continues(tmp_path: Path, driver: Callable[..., subprocess.Popen[str]]) -> None:
    path = write_study(tmp_path, seeds=[0, 1, 2], epochs=20)
    study = StudyStore(tmp_path / "studies" / "tiny")
    process = driver(path)
    wait_for(lambda: any(study.read_state(key).epoch >= 3 for key in study.planned_keys()))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130, out
    states = {study.read_state(key).state for key in study.planned_keys()}
    assert TrialState.RUNNING not in states
    done = ablation(tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    frame = package.load_study("tiny", store=tmp_path / "studies").trials_dataframe()
    assert (frame["state"] == "FINISHED").all()
    for key in study.planned_keys():
        assert [record["epoch"] for record in study.read_history(key)] == list(range(1, 21))


def test_a_killed_driver_leaves_the_study_free_to_go_on(tmp_path: Path,
                                                        driver: Callable[..., subprocess.Popen[str]]) -> None:
    path = write_study(tmp_path, seeds=[0, 1], epochs=20)
    study = StudyStore(tmp_path / "studies" / "tiny")
    process = driver(path)
    wait_for(lambda: any(study.read_state(key).epoch >= 2 for key in study.planned_keys()))
    process.kill()
    process.wait()
    done = ablation(tmp_path, "run", path)
    assert done.returncode == 0, done.stderr
    assert all(study.read_state(key).state is TrialState.FINISHED for key in study.planned_keys())


def test_mlflow_being_away_costs_a_warning_only(tmp_path: Path) -> None:
    path = write_study(tmp_path)
    done = ablation(tmp_path, "run", path, "--tracking-uri", "http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert "ablation sync tiny" in done.stderr
    late = ablation(tmp_path, "sync", "tiny")
    assert late.returncode == 0, late.stderr
    away = ablation(tmp_path, "sync", "tiny", "--tracking-uri", "http://127.0.0.1:9")
    assert away.returncode == 6


def test_a_ray_cluster_that_is_not_there(tmp_path: Path) -> None:
    done = ablation(tmp_path, "run", write_study(tmp_path), "--address", "127.0.0.1:9")
    assert done.returncode == 6
    assert "Ray at 127.0.0.1:9 cannot be used" in done.stderr


def test_a_node_without_memory_fails_its_trials_and_not_the_study(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is told that the node is full at 1 % of its memory, so that it ends every worker."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.01")
    done = ablation(tmp_path, "run", write_study(tmp_path, epochs=300, more="retries: 0"))
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    study = StudyStore(tmp_path / "studies" / "tiny")
    [status] = [study.read_state(key) for key in study.planned_keys()]
    assert status.state is TrialState.FAILED
    assert status.reason in ("out_of_memory", "process_lost")  # a worker that is ended at its start cannot say why
