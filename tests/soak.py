"""A study of many tiny trials while a seeded monkey kills, stops and interrupts its processes every few seconds.

    make soak          # python -m tests.soak --trials 200 --seed 0

Starts the driver again whenever it has ended, until it ends with exit code 0. Then every planned trial must be
FINISHED, with the numbers of an undisturbed run to the last bit, and have one MLflow run each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

from ablation.store import StudyStore, TrialState
from tests.integration.drivers import drivers
from tests.integration.studies import environment, wait_for, write_study
from tests.integration.undisturbed import assert_equal_to_undisturbed

METHODS = ["simclr", "barlow_twins", "byol", "supervised"]
BLOWS = {"kill -9 a trial": 10, "stop a trial": 2, "kill -9 the driver": 2, "Ctrl-C": 2, "SIGTERM": 1}
PAUSE = (5.0, 15.0)
"""Seconds between two blows; a new process takes about six to import what it needs."""


def strike(blow: str, driver: subprocess.Popen[str], study: StudyStore, chance: random.Random) -> bool:
    """False when there was nobody to strike."""
    if blow in ("kill -9 a trial", "stop a trial"):
        running = [status.pid for status in map(study.read_state, study.planned_keys())
                   if status.state is TrialState.RUNNING and status.pid is not None]
        if not running or driver.poll() is not None:
            return False
        try:
            os.kill(chance.choice(running), signal.SIGKILL if blow.startswith("kill") else signal.SIGSTOP)
        except ProcessLookupError:
            return False
        return True
    number = {"kill -9 the driver": signal.SIGKILL, "Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM}[blow]
    driver.send_signal(number)
    return True


def soak(folder: Path, num_trials: int, seed: int) -> tuple[Counter[str], Counter[int]]:
    """Blows by kind, exit codes of drivers."""
    chance = random.Random(seed)
    file = write_study(folder, METHODS, seeds=range(num_trials // len(METHODS)), epochs=3)
    study = StudyStore(folder / "studies" / "tiny")
    blows: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    with drivers(folder, ABLATION_HEARTBEAT_SECONDS="4") as start:
        while 0 not in codes:
            assert sum(codes.values()) < num_trials, "the drivers come to no end"
            log = (folder / "log.txt").open("a")
            driver = start(file, stdout=log)
            wait_for(lambda driver=driver: driver.poll() is not None or study.lock_holder())  # it handles signals now
            while driver.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    driver.wait(chance.uniform(*PAUSE))
                    break
                blow = chance.choices(list(BLOWS), list(BLOWS.values()))[0]
                blows[blow] += strike(blow, driver, study, chance)
                done = sum(study.read_state(key).state is TrialState.FINISHED for key in study.planned_keys())
                print(f"{time.strftime('%H:%M:%S')} {done}/{num_trials} finished, {blow}", flush=True)
            log.close()
            codes[driver.returncode] += 1
            assert driver.returncode in (0, 3, 130, -signal.SIGKILL), (folder / "log.txt").read_text()[-3000:]
    assert len(study.planned_keys()) == num_trials
    assert_equal_to_undisturbed(file, study, Path(environment(folder)["ABLATION_CACHE"]), folder / "undisturbed")
    assert_one_run_each(folder, study)
    return blows, codes


def assert_one_run_each(folder: Path, study: StudyStore) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'studies' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(study.name)
    assert experiment is not None
    names = [str(run.info.run_name) for run in client.search_runs([experiment.experiment_id], max_results=10_000)]
    assert sorted(names) == sorted([study.name, *study.planned_keys()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        blows, codes = soak(Path(folder), chosen.trials, chosen.seed)
    print(f"{chosen.trials} trials FINISHED, equal to an undisturbed run; seed {chosen.seed}; "
          f"{sum(blows.values())} blows: {dict(blows)}; drivers by exit code: {dict(codes)}; "
          f"{time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
