"""After Ray has ended processes for want of memory the study goes on with fewer at once, and comes to an end."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ablation.low_memory import fewer_at_once
from ablation.store import StudyStore, TrialState, TrialStatus


@pytest.fixture
def study(tmp_path: Path) -> StudyStore:
    return StudyStore(tmp_path)


def put(study: StudyStore, key: str, state: TrialState, attempt: int = 1) -> Any:
    study.trial_dir(key).mkdir(parents=True, exist_ok=True)
    study.write_state(key, TrialStatus(state=state, attempt=attempt, heartbeat=1e12))
    return SimpleNamespace(key=key, config=SimpleNamespace(train=SimpleNamespace(batch_size=64)))


def test_half_as_many_go_on_and_nothing_stays_running(study: StudyStore) -> None:
    states = {"a": TrialState.RUNNING, "b": TrialState.RUNNING, "c": TrialState.RUNNING, "d": TrialState.RUNNING,
              "e": TrialState.PENDING, "f": TrialState.FINISHED, "g": TrialState.FAILED}
    trials = [put(study, key, state) for key, state in states.items()]
    left, at_once = fewer_at_once(study, trials, None, retries=2)
    assert [trial.key for trial in left] == ["a", "b", "c", "d", "e"]
    assert at_once == 2
    assert {study.read_state(key).state for key in "abcd"} == {TrialState.STOPPED}


def test_a_trial_that_is_alone_and_does_not_fit_fails_in_the_end(study: StudyStore) -> None:
    trials = [put(study, "a", TrialState.RUNNING, attempt=3), put(study, "b", TrialState.PENDING)]
    left, at_once = fewer_at_once(study, trials, 1, retries=3)
    assert [trial.key for trial in left] == ["a", "b"]
    assert study.read_state("a").state is TrialState.STOPPED
    put(study, "a", TrialState.RUNNING, attempt=4)
    left, at_once = fewer_at_once(study, trials, at_once, retries=3)
    assert [trial.key for trial in left] == ["b"]
    assert at_once == 1
    status = study.read_state("a")
    assert (status.state, status.reason) == (TrialState.FAILED, "out_of_memory")
    assert "batch_size 64" in str(status.message)


def test_processes_that_are_ended_before_a_trial_begins_come_to_an_end_too(study: StudyStore) -> None:
    left = [put(study, key, TrialState.PENDING, attempt=0) for key in "ab"]
    at_once: int | None = None
    rounds = 0
    while left:
        left, at_once = fewer_at_once(study, left, at_once, retries=2)
        rounds += 1
        assert rounds < 10
    assert rounds == 6  # three attempts of each
    assert {study.read_state(key).reason for key in "ab"} == {"out_of_memory"}
