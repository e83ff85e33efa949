"""One study, its driver interrupted, killed, and started again each time: nothing is lost, nothing twice.

SIGTERM is what ``ablation stop`` sends: test_control.py.
"""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from ablation.store import Store, StudyStore, TrialState
from tests.integration.drivers import Start, drivers, processes_of
from tests.integration.studies import ablation, environment, wait_for, write_study
from tests.integration.undisturbed import assert_equal_to_undisturbed

EPOCHS, SEEDS = 120, [0]


@dataclass
class Stop:
    """How one driver ended."""

    exit_code: int
    output: str
    states: set[TrialState]
    seconds: float
    token: Path
    token_open_to: int
    """Permissions for others than its user."""


@dataclass
class Storm:
    folder: Path
    file: Path
    study: StudyStore
    stops: dict[str, Stop]


def strike(start: Start, storm: Storm, name: str, *blows: signal.Signals) -> None:
    """Start the driver, let its trial get on, and send it signals."""
    before = {key: storm.study.read_state(key).epoch for key in storm.study.planned_keys()}
    process = start(storm.file)
    launched = time.time()

    def is_getting_on() -> bool:
        now = [storm.study.read_state(key) for key in storm.study.planned_keys()]
        assert process.poll() is None, process.stdout and process.stdout.read()
        return len(now) == len(SEEDS) and all((status.started or 0) > launched and status.epoch >= 1 for status in now)

    wait_for(is_getting_on)
    token = token_of(storm.folder)
    open_to = (token.stat().st_mode | token.parent.stat().st_mode) & 0o077
    begun = time.monotonic()
    for number, blow in enumerate(blows):
        if number:
            time.sleep(1)
            assert process.poll() is None  # the blow before has not ended it yet
        process.send_signal(blow)
    out, _ = process.communicate(timeout=120)
    seconds = time.monotonic() - begun
    states = {storm.study.read_state(key).state for key in storm.study.planned_keys()}
    assert all(storm.study.read_state(key).epoch < EPOCHS for key in before), "the trial ended before the blow"
    storm.stops[name] = Stop(process.returncode, out, states, seconds, token, open_to)


def token_of(folder: Path) -> Path:
    """Where the newest local cluster has its token from. Processes that write a title over their environment tell
    nothing, and those of the cluster before may still be there."""
    found = {}
    for number in processes_of(folder):
        with contextlib.suppress(OSError):
            began = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[19])
            words = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            for word in words:
                if word.startswith(b"RAY_AUTH_TOKEN_PATH="):
                    found[began] = word
    return Path(found[max(found)].partition(b"=")[2].decode())


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Storm:
    folder = tmp_path_factory.mktemp("storm")
    storm = Storm(folder, write_study(folder, seeds=SEEDS, epochs=EPOCHS), StudyStore(folder / "studies" / "tiny"), {})
    with drivers(folder) as start:
        strike(start, storm, "ctrl-c", signal.SIGINT)
        strike(start, storm, "kill -9", signal.SIGKILL)
        strike(start, storm, "ctrl-c twice", signal.SIGINT, signal.SIGINT)
    done = ablation(folder, "run", storm.file)
    assert done.returncode == 0, done.stderr
    return storm


def test_ctrl_c_saves_what_runs(storm: Storm) -> None:
    stop = storm.stops["ctrl-c"]
    assert stop.exit_code == 130
    assert stop.states == {TrialState.STOPPED}
    assert "run the same command again to continue" in stop.output


def test_a_second_ctrl_c_does_not_wait(storm: Storm) -> None:
    stop = storm.stops["ctrl-c twice"]
    assert stop.exit_code == 130
    assert stop.seconds < 20
    assert "Traceback" not in stop.output


def test_a_killed_driver_leaves_the_study_free_to_go_on(storm: Storm) -> None:
    assert storm.stops["kill -9"].exit_code == -signal.SIGKILL
    assert "ctrl-c twice" in storm.stops  # the next driver got on with it


def test_no_process_stays_behind(storm: Storm) -> None:
    """Ray's own take a minute to see that their driver is dead; until then they may write to no trial of the next."""
    wait_for(lambda: not processes_of(storm.folder, "ray::"), seconds=90)


def test_the_results_are_those_of_an_undisturbed_run(storm: Storm, tmp_path: Path) -> None:
    cache = Path(environment(storm.folder)["ABLATION_CACHE"])
    assert_equal_to_undisturbed(storm.file, storm.study, cache, tmp_path)
    assert all(storm.study.read_state(key).attempt == 4 for key in storm.study.planned_keys())


def test_mlflow_has_one_run_for_each_trial(storm: Storm) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Store(storm.folder / 'studies').root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) == 1 + len(children)
    assert sorted(run.info.run_name for run in children) == sorted(storm.study.planned_keys())
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in children:
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/grad_norm")]
        assert steps == []  # kept in the store only
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/feature_std")]
        assert sorted(set(steps)) == list(range(1, EPOCHS + 1))


def test_a_local_cluster_needs_a_token_that_only_its_user_can_read(storm: Storm) -> None:
    assert {name: stop.token_open_to for name, stop in storm.stops.items()} == dict.fromkeys(storm.stops, 0)
    assert len({stop.token for stop in storm.stops.values()}) == len(storm.stops)
    left = {name for name, stop in storm.stops.items() if stop.token.exists()}
    assert left <= {"kill -9"}  # nobody is left to remove it
