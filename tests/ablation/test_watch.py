"""Silence is judged by the driver's own clock, and each attempt is ended once."""

from __future__ import annotations

from pathlib import Path

from ablation.events import Event
from ablation.store import STALE_SECONDS, StudyStore, TrialState, TrialStatus
from ablation.watch import Watch


def beat(study: StudyStore, heartbeat: float, attempt: int = 1, state: TrialState = TrialState.RUNNING) -> None:
    study.write_state("trial", TrialStatus(state=state, heartbeat=heartbeat, attempt=attempt, pid=7, host="here"))


def test_a_silent_process_is_ended_once_per_attempt(tmp_path: Path) -> None:
    study, ended, told = StudyStore(tmp_path), [], []  # type: ignore[var-annotated]
    (tmp_path / "trials" / "trial").mkdir(parents=True)
    watch = Watch(study, ended.append, told.append)
    watch.began("trial")
    beat(study, 100.0)
    watch.look(1000.0)
    watch.look(1000.0 + STALE_SECONDS - 1)
    assert ended == []
    watch.look(1000.0 + STALE_SECONDS)
    watch.look(1000.0 + 2 * STALE_SECONDS)
    assert [status.pid for status in ended] == [7]
    assert [event.text for event in told] == ["trial: no sign of life for 30 s, its process is ended"]
    assert isinstance(told[0], Event)
    watch.began("trial")  # Tune has started it anew
    watch.look(2000.0)
    beat(study, 200.0, attempt=2)
    watch.look(2001.0)
    watch.look(2001.0 + STALE_SECONDS)
    assert [status.attempt for status in ended] == [1, 2]


def test_a_jump_of_the_clock_ends_nothing(tmp_path: Path) -> None:
    """Hours between heartbeats by the wall clock, seconds by the driver's own."""
    study, ended = StudyStore(tmp_path), []  # type: ignore[var-annotated]
    (tmp_path / "trials" / "trial").mkdir(parents=True)
    watch = Watch(study, ended.append, lambda event: None)
    watch.began("trial")
    for number, heartbeat in enumerate((100.0, 90_000.0, 50.0, 90_020.0)):
        beat(study, heartbeat)
        watch.look(10.0 * number)
    assert ended == []


def test_what_has_ended_is_left_alone(tmp_path: Path) -> None:
    study, ended = StudyStore(tmp_path), []  # type: ignore[var-annotated]
    (tmp_path / "trials" / "trial").mkdir(parents=True)
    watch = Watch(study, ended.append, lambda event: None)
    watch.began("trial")
    beat(study, 100.0, state=TrialState.FINISHED)
    watch.look(0.0)
    watch.look(10 * STALE_SECONDS)
    beat(study, 100.0)
    watch.ended("trial")
    watch.look(20 * STALE_SECONDS)
    assert ended == []
