"""The store stays readable whatever is killed, tells the truth about every trial, and lets one driver in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablation.errors import StoreError, StudyLocked
from ablation.store import ERROR_BYTES, STALE_SECONDS, Store, StudyStore, TrialState, TrialStatus

KEY = "simclr-resnet18-p0.05-s0-00000000"


@pytest.fixture
def study(tmp_path: Path) -> StudyStore:
    return Store(tmp_path).study("study")


def test_a_trial_without_files_is_pending(study: StudyStore) -> None:
    assert study.read_state(KEY) == TrialStatus()
    assert study.read_history(KEY) == []
    assert study.read_result(KEY) is None
    assert study.read_error(KEY) is None
    assert study.read_trial(KEY) == {}
    assert not study.path.exists()  # reading leaves no trace


def test_a_state_comes_back_as_written(study: StudyStore) -> None:
    status = TrialStatus(
        state=TrialState.RUNNING,
        heartbeat=time.time(),
        epoch=3,
        epochs=9,
        attempt=1,
        host="h",
        pid=7,
        flags=("collapsed",),
        started=1.0,
    )
    study.write_state(KEY, status)
    assert study.read_state(KEY) == status
    assert study.update_state(KEY, epoch=4).epoch == study.read_state(KEY).epoch == 4


def test_running_without_a_heartbeat_is_stale(study: StudyStore) -> None:
    study.write_state(KEY, TrialStatus(state=TrialState.RUNNING, heartbeat=1000.0))
    assert study.read_state(KEY, now=1000.0 + STALE_SECONDS).state is TrialState.RUNNING
    stale = study.read_state(KEY, now=1001.0 + STALE_SECONDS)
    assert stale.state is TrialState.STALE
    assert stale.message == "no heartbeat for 31 s"


def test_a_result_means_finished_even_if_the_state_was_not_written(study: StudyStore) -> None:
    study.write_state(KEY, TrialStatus(state=TrialState.RUNNING, heartbeat=0.0))
    study.write_result(KEY, {"metrics": {"probe/auroc": 0.5}})
    assert study.read_state(KEY).state is TrialState.FINISHED


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("state.json", '{"state": "RUN'),
        ("state.json", '{"state": "FLYING"}'),
        ("state.json", "[1]"),
        ("state.json", ""),
        ("result.json", '{"metrics": '),
        ("result.json", "null"),
        ("state.json", "\x00\x00"),
    ],
)
def test_a_damaged_file_is_a_state_with_a_message(study: StudyStore, name: str, text: str) -> None:
    study.write_state(KEY, TrialStatus(state=TrialState.FINISHED))
    (study.trial_dir(KEY) / name).write_text(text)
    status = study.read_state(KEY)
    assert status.state is TrialState.FAILED
    assert status.reason == "unreadable"
    assert status.message is not None
    assert status.message.startswith(name)
    assert study.read_result(KEY) is None


def test_finished_without_a_result_is_not_finished(study: StudyStore) -> None:
    study.write_state(KEY, TrialStatus(state=TrialState.FINISHED))
    assert study.read_state(KEY).message == "state.json says FINISHED but there is no result.json"


def test_unknown_fields_of_a_newer_version_are_ignored(study: StudyStore) -> None:
    study.write_state(KEY, TrialStatus(state=TrialState.STOPPED))
    path = study.trial_dir(KEY) / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"new": 1}))
    assert study.read_state(KEY).state is TrialState.STOPPED


def line(step: int) -> dict[str, object]:
    return {"epoch": step, "step": step, "time": 1.0, "metrics": {"train/loss": 0.5}}


def test_a_torn_last_line_costs_only_itself(study: StudyStore) -> None:
    for step in (1, 2):
        study.append_history(KEY, line(step))
    with (study.trial_dir(KEY) / "history.jsonl").open("a") as handle:
        handle.write('{"epoch": 3, "st')
    assert [record["step"] for record in study.read_history(KEY)] == [1, 2]
    study.append_history(KEY, line(3))
    assert [record["step"] for record in study.read_history(KEY)] == [1, 2, 3]


def test_truncating_drops_what_a_resumed_trial_repeats(study: StudyStore) -> None:
    for step in (1, 2, 3):
        study.append_history(KEY, line(step))
    study.truncate_history(KEY, 1)
    assert [record["step"] for record in study.read_history(KEY)] == [1]
    study.truncate_history("unknown", 1)
    assert not study.trial_dir("unknown").exists()


def test_nan_is_refused_not_written(study: StudyStore) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        study.write_result(KEY, {"metrics": {"probe/auroc": float("nan")}})
    assert study.read_result(KEY) is None
    assert list(study.path.rglob("*.tmp")) == []


def test_only_the_tail_of_an_error_is_kept(study: StudyStore) -> None:
    study.write_error(KEY, "é" * ERROR_BYTES + "ValueError: the end")
    text = study.read_error(KEY)
    assert text is not None
    assert text.endswith("é" + "ValueError: the end")
    assert len(text.encode()) <= ERROR_BYTES


def test_reset_makes_a_trial_pending_and_keeps_its_history(study: StudyStore) -> None:
    study.append_history(KEY, line(1))
    study.write_result(KEY, {"metrics": {"a": 1}})
    study.write_error(KEY, "x")
    study.reset(KEY)
    assert study.read_state(KEY).state is TrialState.PENDING
    assert len(study.read_history(KEY)) == 1


def test_studies_are_listed_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.studies() == []
    store.study("b").write_plan({"trials": []})
    store.study("a").write_study("name: a\n")
    (tmp_path / "no-study").mkdir()
    assert store.studies() == ["a", "b"]


def test_a_damaged_plan_falls_back_to_the_trials_on_disk(study: StudyStore) -> None:
    study.write_state(KEY, TrialStatus())
    (study.path / "plan.json").write_text("{")
    assert study.planned_keys() == [KEY]


def test_the_root_is_the_argument_then_the_environment_then_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABLATION_STORE", raising=False)
    assert Store().root == tmp_path / "studies"
    monkeypatch.setenv("ABLATION_STORE", "elsewhere")
    assert Store().root == tmp_path / "elsewhere"
    assert Store("here").root == tmp_path / "here"
    assert Store(f"file://{tmp_path}/x").root == tmp_path / "x"


def test_an_object_store_is_refused_in_one_line() -> None:
    with pytest.raises(StoreError, match=r"^store s3://bucket/x: object stores are not supported yet") as caught:
        Store("s3://bucket/x")
    assert caught.value.exit_code == 2


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file is a file; name a folder with --store"):
        Store(tmp_path / "file")
    study = StudyStore(tmp_path / "file" / "study")
    for write in (
        lambda: study.write_study("x"),
        lambda: study.append_history(KEY, line(1)),
        lambda: study.lock().__enter__(),
    ):
        with pytest.raises(
            StoreError, match=r"cannot write \(.+\); free the folder or choose another with --store"
        ) as caught:
            write()
        assert "\n" not in str(caught.value)


# --- real processes ------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from ablation.store import StudyStore
with StudyStore(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""
WRITE = """
import sys
from ablation.store import StudyStore, TrialState, TrialStatus
store = StudyStore(sys.argv[1])
print("go", flush=True)
step = 0
while True:
    step += 1
    store.write_state("key", TrialStatus(state=TrialState.RUNNING, heartbeat=1e12, epoch=step, message="x" * 20000))
    store.append_history("key", {"epoch": step, "step": step, "time": 0.0, "metrics": {"m" * 5000: 1.0}})
    store.write_plan({"trials": [{"key": "key", "pad": "x" * 20000}]})
"""


def start(code: str, study: StudyStore) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", code, str(study.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_a_second_driver_is_refused_and_told_who_holds_the_study(study: StudyStore) -> None:
    holder = start(HOLD, study)
    try:
        with pytest.raises(
            StudyLocked, match=rf"'study' is already run by process {holder.pid} on \S+ since 20"
        ) as caught:
            study.lock().__enter__()
        assert caught.value.exit_code == 2
        found = study.lock_holder()
        assert found is not None
        assert found["pid"] == holder.pid
    finally:
        holder.kill()
        holder.communicate()
    assert study.lock_holder() is None  # the kernel freed the lock of the killed process
    with study.lock():
        written = json.loads((study.path / "driver.lock").read_text())
        assert written["pid"] == os.getpid()
    with study.lock():
        pass


def test_kill_in_the_middle_of_writes_leaves_a_readable_store(study: StudyStore) -> None:
    for round_number in range(4):
        writer = start(WRITE, study)
        time.sleep(0.03 * (round_number + 1))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        status = study.read_state("key")
        assert status.state is TrialState.RUNNING
        history = study.read_history("key")
        assert all(record["metrics"] for record in history)
        assert status.epoch - history[-1]["step"] in (0, 1)
        assert study.planned_keys() == ["key"]
        study.truncate_history("key", 1)
        assert {record["step"] for record in study.read_history("key")} == {1}


def test_workers_can_use_the_store_without_pandas() -> None:
    code = "import ablation.store, sys; print([n for n in ('pandas', 'ray', 'torch', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
