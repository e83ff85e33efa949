"""A store on a network disk that is slow all the time and away for some seconds, as its own processes see it."""

from __future__ import annotations

import os
import time
from pathlib import Path

from ablation.store import StudyStore, TrialState
from tests.integration.drivers import drivers
from tests.integration.studies import environment, wait_for, write_study
from tests.integration.undisturbed import assert_equal_to_undisturbed

AWAY_SECONDS = 4.0
# Python runs this at the start of every process of the study: driver, raylet's workers, trials.
BAD_DISK = '''
import builtins, errno, io, os, time
store, away = os.environ["BAD_DISK_STORE"], os.environ["BAD_DISK_AWAY"]

def slow_or_away(call):
    def wrapped(path, *arguments, **options):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(store):
            if path_exists(away):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            time.sleep(0.01)
        return call(path, *arguments, **options)
    return wrapped

path_exists = os.path.exists
os.open, os.replace, os.mkdir = slow_or_away(os.open), slow_or_away(os.replace), slow_or_away(os.mkdir)
builtins.open = io.open = slow_or_away(io.open)
'''


def test_a_slow_disk_that_is_away_for_seconds_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BAD_DISK)
    path = write_study(tmp_path, epochs=60)
    study = StudyStore(tmp_path / "studies" / "tiny")
    away = tmp_path / "away"
    with drivers(tmp_path, BAD_DISK_STORE=str(study.path / "trials"), BAD_DISK_AWAY=str(away),
                 PYTHONPATH=os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])) as start:
        process = start(path)
        wait_for(lambda: any(study.read_state(key).epoch >= 2 for key in study.planned_keys()))
        away.touch()
        [key] = study.planned_keys()
        before = study.read_state(key).epoch
        time.sleep(AWAY_SECONDS)
        assert study.read_state(key).epoch <= before + 1  # it did hit the trial
        away.unlink()
        out, _ = process.communicate(timeout=180)
    assert process.returncode == 0, out
    assert study.read_state(key).state is TrialState.FINISHED
    assert study.read_state(key).attempt == 1  # it waited, nothing was started again
    assert_equal_to_undisturbed(path, study, Path(environment(tmp_path)["ABLATION_CACHE"]), tmp_path / "undisturbed")
