"""Stop one trial, stop the study, read the logs, let trials run again, watch: against a real driver."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ablation.store import StudyStore, TrialState
from tests.integration.studies import ablation, command, environment, wait_for, write_study
from trainers import checkpoint

PATIENCE = 300.0
"""Seconds; two ranks beside another test file need minutes on two cores."""


def test_stop_logs_retry_and_watch(tmp_path: Path) -> None:
    path = write_study(tmp_path, seeds=[0, 1], epochs=20_000)  # cannot end by itself before it is stopped
    study = StudyStore(tmp_path / "studies" / "tiny")
    driver = subprocess.Popen(command("run", path), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    watcher = None
    try:
        wait_for(lambda: study.planned_keys() and all(study.read_state(k).epoch >= 1 for k in study.planned_keys()),
                 PATIENCE)
        first, second = study.planned_keys()
        watcher = subprocess.Popen(command("status", "tiny", "--watch", "--format", "json"), cwd=tmp_path,
                                   env=environment(tmp_path), stdout=subprocess.PIPE, text=True)

        asked = ablation(tmp_path, "stop", "tiny", first)
        assert asked.returncode == 0, asked.stderr
        wait_for(lambda: study.read_state(first).state is TrialState.STOPPED, PATIENCE)
        assert study.read_state(first).reason == "stop_requested"
        assert study.read_state(second).state is TrialState.RUNNING
        assert (study.trial_dir(first) / "checkpoint.pt").exists()
        assert not study.stop_requested(first)

        assert driver.poll() is None
        early = ablation(tmp_path, "retry", "tiny", first)
        assert early.returncode == 2  # its driver would not know
        assert f"process {driver.pid} on" in early.stderr
        stopped = ablation(tmp_path, "stop", "tiny")
        assert stopped.returncode == 0, stopped.stderr
        out, _ = driver.communicate(timeout=120)
        assert driver.returncode == 130, out
        assert study.read_state(second).state is TrialState.STOPPED
        shown, _ = watcher.communicate(timeout=60)
        assert {row["state"] for row in json.loads(shown)} == {"STOPPED"}
    finally:
        for process in (driver, watcher):
            if process is not None and process.poll() is None:
                process.kill()

    again = ablation(tmp_path, "retry", "tiny", second)
    assert "1 trial(s) are PENDING again" in again.stderr
    assert study.read_state(second).state is TrialState.PENDING
    study.write_error(first, "Traceback\nValueError: no")
    assert ablation(tmp_path, "logs", "tiny", first).stdout.endswith("Traceback\nValueError: no\n")
    assert f"{first}: ValueError: no\n" in ablation(tmp_path, "logs", "tiny").stdout

    for arguments, message in ((("stop", "tiny"), "no driver runs study 'tiny'"),
                               (("stop", "tiny", first), "none of these trials is running"),
                               (("retry", "tiny", second), "none of these trials has failed or was stopped"),
                               (("logs", "tiny", first[:-1]), f"did you mean '{first}'")):
        refused = ablation(tmp_path, *arguments)
        assert refused.returncode == 4
        assert message in refused.stderr


def test_a_stopped_trial_continues_where_it_was_on_two_ranks(tmp_path: Path) -> None:
    path = write_study(tmp_path, epochs=20_000, num_workers=2)
    study = StudyStore(tmp_path / "studies" / "tiny")
    driver = subprocess.Popen(command("run", path), cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: driver.poll() is not None
                 or (study.planned_keys() and study.read_state(study.planned_keys()[0]).epoch >= 2), PATIENCE)
        assert driver.poll() is None, driver.stdout and driver.stdout.read()
        (key,) = study.planned_keys()
        assert ablation(tmp_path, "stop", "tiny", key).returncode == 0
        out, _ = driver.communicate(timeout=120)
    finally:
        if driver.poll() is None:
            driver.kill()
    assert driver.returncode == 130, out  # not finished, not failed
    epoch = study.read_state(key).epoch
    found = checkpoint.load(study.trial_dir(key), print)
    assert found is not None
    assert found[0] == checkpoint.Position(epoch)
    assert [record["epoch"] for record in study.read_history(key)] == list(range(1, epoch + 1))
