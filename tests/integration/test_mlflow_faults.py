"""MLflow goes away while a study runs and comes back after it: the study does not notice, ``sync`` catches up."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from ablation.store import StudyStore, TrialState
from tests.integration.drivers import drivers
from tests.integration.studies import ablation, command, environment, free_port, wait_for, write_study

EPOCHS = 150


@contextmanager
def server(folder: Path, port: int) -> Iterator[str]:
    """``ablation ui`` over a store of its own; ended as a person does."""
    said = folder / "ui.txt"
    with said.open("w") as handle:
        process = subprocess.Popen(command("ui", "--port", str(port), "--store", folder / "team"), cwd=folder,
                                   env=environment(folder), stderr=handle)
    try:
        wait_for(lambda: "Ctrl-C ends it" in said.read_text())
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def test_mlflow_that_goes_away_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    port = free_port()
    path = write_study(tmp_path, epochs=EPOCHS)
    study = StudyStore(tmp_path / "studies" / "tiny")
    with drivers(tmp_path) as start:
        with server(tmp_path, port) as uri:
            process = start(path, "--tracking-uri", uri)
            client = MlflowClient(uri)

            def num_runs() -> int:
                experiment = client.get_experiment_by_name("tiny")
                return len(client.search_runs([experiment.experiment_id])) if experiment else 0

            wait_for(lambda: num_runs() == 2)  # the study's and the trial's
            assert study.read_state(study.planned_keys()[0]).state is TrialState.RUNNING
        out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, out
    assert "ablation sync tiny" in out
    assert "Traceback" not in out
    [key] = study.planned_keys()
    assert study.read_state(key).state is TrialState.FINISHED

    away = ablation(tmp_path, "sync", "tiny", "--tracking-uri", uri)
    assert away.returncode == 6
    with server(tmp_path, port):
        caught_up = ablation(tmp_path, "sync", "tiny", "--tracking-uri", uri)
        assert caught_up.returncode == 0, caught_up.stderr
        assert num_runs() == 2
        experiment = client.get_experiment_by_name("tiny")
        assert experiment is not None
        [child] = [run for run in client.search_runs([experiment.experiment_id]) if run.info.run_name == key]
        assert child.info.status == "FINISHED"
        steps = [point.step for point in client.get_metric_history(child.info.run_id, "train/feature_std")]
        assert steps == list(range(1, EPOCHS + 1))
