"""The store: the truth about every study, one folder per trial, plain files. No pandas, no Ray, no MLflow.

``STORE/<study>/{study.yaml,plan.json,driver.lock}`` and, per trial, ``trials/<key>/{trial.json,state.json,
history.jsonl,result.json,error.txt}`` beside what the trainer writes. JSON files are replaced as a whole, so that a
reader sees the old or the new one, whatever is killed. One process at a time writes a trial; any number may read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ablation.errors import StoreError, StudyLocked
from ablation.files import folder_path, parse, read_dict, read_json, write_atomic, write_json, writing
from trainers.atomic import patiently

HEARTBEAT_SECONDS = float(os.environ.get("ABLATION_HEARTBEAT_SECONDS", "10"))
"""Between two signs of life of a running trial."""
STALE_SECONDS = 3 * HEARTBEAT_SECONDS
ERROR_BYTES = 4096
STUDY_FILE, PLAN_FILE, LOCK_FILE, TRIALS = "study.yaml", "plan.json", "driver.lock", "trials"
STOP_FILE = "stop.request"


class TrialState(enum.StrEnum):
    """Where a trial stands. STALE is never written: it is a RUNNING trial without a heartbeat for 30 s."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    STALE = "STALE"


@dataclass(frozen=True, kw_only=True)
class TrialStatus:
    """``state.json``. Times are Unix seconds."""

    state: TrialState = TrialState.PENDING
    heartbeat: float | None = None
    epoch: int = 0
    epochs: int | None = None
    attempt: int = 0
    host: str | None = None
    pid: int | None = None
    reason: str | None = None
    """One word for tables: ``diverged``, ``out_of_memory``, ``unreadable`` …"""
    message: str | None = None
    flags: tuple[str, ...] = ()
    load: dict[str, float] | None = None
    """Of the machine at the heartbeat, see ``ablation.machine_load``."""
    started: float | None = None
    finished: float | None = None


_STATUS_FIELDS = {field.name for field in dataclasses.fields(TrialStatus)}


class StudyStore:
    """One study's folder. Reading never raises for a missing or damaged trial file; writing raises ``StoreError``."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.name
        self._trials = str(self.path / TRIALS)

    # --- the study -----------------------------------------------------------------------------------------------

    @property
    def exists(self) -> bool:
        return (self.path / PLAN_FILE).is_file() or (self.path / STUDY_FILE).is_file()

    def write_study(self, text: str) -> None:
        write_atomic(self.path / STUDY_FILE, text)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """``plan`` has a list ``trials`` of mappings with ``key`` and the cell: what this study consists of now."""
        write_json(self.path / PLAN_FILE, plan)

    def read_plan(self) -> dict[str, Any]:
        """The last saved plan, or the trials found on disk when it cannot be read."""
        plan = read_json(self.path / PLAN_FILE)
        if isinstance(plan, dict) and isinstance(plan.get("trials"), list):
            return plan
        return {"trials": [{"key": key} for key in self.keys_on_disk()]}

    def planned_keys(self) -> list[str]:
        """In plan order. Trials of earlier plans stay on disk but are not listed."""
        return [row["key"] for row in self.read_plan()["trials"]]

    def keys_on_disk(self) -> list[str]:
        folder = self.path / TRIALS
        return sorted(child.name for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []

    def trial_dir(self, key: str) -> Path:
        return self.path / TRIALS / key

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the study for one driver, others get ``StudyLocked``. The kernel frees it when the holder dies."""
        handle = _open_lock(self.path / LOCK_FILE)
        with handle:
            if not _acquire(handle):
                raise StudyLocked(f"study '{self.name}' is already run by {_holder(handle)}; "
                                  f"wait for it or stop it with: ablation stop {self.name}")
            holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
            _overwrite(handle, json.dumps(holder))
            try:
                yield
            finally:
                _overwrite(handle, "")  # the file stays: unlinking it would let two drivers lock two inodes

    def lock_holder(self) -> dict[str, Any] | None:
        """Who runs the study now: ``{host, pid, started}``, or None. A dead holder does not count."""
        try:
            with (self.path / LOCK_FILE).open() as handle:
                try:
                    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    holder = parse(handle.read())
                    return holder if isinstance(holder, dict) else {}
        except OSError:
            pass
        return None

    # --- one trial: what it is -----------------------------------------------------------------------------------

    def write_trial(self, key: str, record: Mapping[str, Any]) -> None:
        """``trial.json``; does nothing when it already says the same."""
        path = self.trial_dir(key) / "trial.json"
        if read_json(path) != record:
            write_json(path, record, sync=False)  # can always be planned again

    def read_trial(self, key: str) -> dict[str, Any]:
        """``trial.json``, or an empty dict."""
        return read_dict(self._file(key, "trial.json"))[0]

    # --- one trial: how it goes ----------------------------------------------------------------------------------

    def write_state(self, key: str, status: TrialStatus) -> None:
        record = dataclasses.asdict(status) | {"flags": list(status.flags)}
        write_json(self.trial_dir(key) / "state.json", record)

    def update_state(self, key: str, **changes: Any) -> TrialStatus:
        """Change some fields of what was last written (PENDING when nothing was), and write it."""
        status = dataclasses.replace(self.written_status(key), **changes)
        self.write_state(key, status)
        return status

    def read_state(self, key: str, now: float | None = None) -> TrialStatus:
        """FINISHED if there is a result; STALE if RUNNING without a heartbeat; FAILED/``unreadable`` if damaged."""
        return self.read_outcome(key, now)[0]

    def read_outcome(self, key: str, now: float | None = None) -> tuple[TrialStatus, dict[str, Any]]:
        """``read_state`` and the result (empty when there is none), each file read once."""
        status = self._written_status(key)
        result, damage = read_dict(self._file(key, "result.json"))
        if damage:
            return dataclasses.replace(status, state=TrialState.FAILED, reason="unreadable", message=damage), {}
        if result:
            finished = status.state is TrialState.FINISHED
            return status if finished else dataclasses.replace(status, state=TrialState.FINISHED), result
        if status.state is TrialState.FINISHED:
            return dataclasses.replace(status, state=TrialState.FAILED, reason="unreadable",
                                       message="state.json says FINISHED but there is no result.json"), {}
        if status.state is TrialState.RUNNING:
            silence = (time.time() if now is None else now) - (status.heartbeat or status.started or 0.0)
            if silence > STALE_SECONDS:
                return dataclasses.replace(status, state=TrialState.STALE, reason=status.reason or "no_heartbeat",
                                           message=status.message or f"no heartbeat for {silence:.0f} s"), {}
        return status, {}

    def _file(self, key: str, name: str) -> str:
        """As text: building paths would take half the time of reading 10,000 trials."""
        return f"{self._trials}/{key}/{name}"

    def written_status(self, key: str) -> TrialStatus:
        """``state.json`` for whoever is about to write it: waits for a disk that is away instead of making one up."""
        return self._written_status(key, patient=True)

    def _written_status(self, key: str, patient: bool = False) -> TrialStatus:
        record, damage = read_dict(self._file(key, "state.json"), patient)
        if not damage:
            try:
                fields = {name: value for name, value in record.items() if name in _STATUS_FIELDS}
                fields["state"] = TrialState(fields.get("state", "PENDING"))
                return TrialStatus(**fields | {"flags": tuple(fields.get("flags") or ())})
            except (ValueError, TypeError) as error:
                damage = f"state.json: {error}"
        return TrialStatus(state=TrialState.FAILED, reason="unreadable", message=damage)

    def append_history(self, key: str, record: Mapping[str, Any]) -> None:
        """One epoch: ``{"epoch", "step", "time", "metrics": {name: value}}``, finite values only."""
        path = self.trial_dir(key) / "history.jsonl"
        line = json.dumps(record, allow_nan=False) + "\n"

        size: list[int] = []  # before the first attempt: a second one starts from there

        def append() -> None:
            with path.open("ab+") as handle:
                size.append(handle.tell())
                handle.truncate(size[0])
                # What a killed writer left half-written stays one bad line of its own.
                whole = not size[0] or _ends_with_newline(handle)
                handle.write((line if whole else "\n" + line).encode())
                handle.flush()
                os.fsync(handle.fileno())

        with writing(path):
            patiently(append)

    def read_history(self, key: str) -> list[dict[str, Any]]:
        """All whole lines, in order; a line torn by a kill is skipped."""
        try:
            text = (self.trial_dir(key) / "history.jsonl").read_text(errors="replace")
        except OSError:
            return []
        records = (parse(line) for line in text.splitlines())
        return [record for record in records if isinstance(record, dict) and "step" in record]

    def truncate_history(self, key: str, step: int) -> None:
        """Drop lines after ``step``: what a resumed trial is about to repeat."""
        path = self.trial_dir(key) / "history.jsonl"
        if path.exists():
            kept = [record for record in self.read_history(key) if record["step"] <= step]
            write_atomic(path, "".join(json.dumps(record) + "\n" for record in kept))

    def write_result(self, key: str, result: Mapping[str, Any]) -> None:
        """``{"metrics", "epochs", "steps", "provenance", "flags"}``. From here on the trial is FINISHED."""
        write_json(self.trial_dir(key) / "result.json", result)

    def read_result(self, key: str) -> dict[str, Any] | None:
        """None when absent or damaged (``read_state`` tells which)."""
        return read_dict(self._file(key, "result.json"))[0] or None

    def write_error(self, key: str, text: str) -> None:
        """Keep the last 4 kB of a traceback."""
        tail = text.encode()[-ERROR_BYTES:].decode(errors="ignore")
        write_atomic(self.trial_dir(key) / "error.txt", tail)

    def read_error(self, key: str) -> str | None:
        try:
            return (self.trial_dir(key) / "error.txt").read_text(errors="replace")
        except OSError:
            return None

    def request_stop(self, key: str | None = None, reason: str = "") -> None:
        """Ask whoever runs the trial to end after its present epoch; without a key, the whole study."""
        write_atomic(self._stop_file(key), reason)

    def stop_reason(self, key: str) -> str:
        """What the trial was asked to end for, empty when a person asked; see ``stop_requested``."""
        with contextlib.suppress(OSError):
            return self._stop_file(key).read_text()
        return ""

    def stop_requested(self, key: str | None = None) -> bool:
        return os.path.exists(self._stop_file(key))  # a disk that is away says no instead of raising

    def clear_stop(self, key: str | None = None) -> None:
        with contextlib.suppress(OSError):
            self._stop_file(key).unlink(missing_ok=True)

    def _stop_file(self, key: str | None) -> Path:
        return (self.path if key is None else self.trial_dir(key)) / STOP_FILE

    def reset(self, key: str) -> None:
        """Make a trial PENDING again. History and checkpoints stay: the trainer decides where it continues.

        Attempts are counted on, so that a process that is left over from an earlier one stays shut out.
        """
        attempt = self.written_status(key).attempt
        with writing(self.trial_dir(key)):
            for name in ("result.json", "error.txt"):
                (self.trial_dir(key) / name).unlink(missing_ok=True)
        self.write_state(key, TrialStatus(attempt=attempt))


class Store:
    """A folder of studies: ``root``, else ``ABLATION_STORE``, else ``./studies``."""

    def __init__(self, root: str | Path | None = None) -> None:
        text = str(root or os.environ.get("ABLATION_STORE") or "studies")
        if "://" in text and not text.startswith("file://"):
            raise StoreError(f"store {text}: object stores are not supported yet; use a local or NFS folder")
        self.root = folder_path(text.removeprefix("file://"))

    @classmethod
    def open(cls, store: str | Path | Store | None) -> Store:
        return store if isinstance(store, Store) else cls(store)

    def study(self, name: str) -> StudyStore:
        return StudyStore(self.root / name)

    def studies(self) -> list[str]:
        """Names of the studies that were planned or run here."""
        if not self.root.is_dir():
            return []
        return sorted(child.name for child in self.root.iterdir() if StudyStore(child).exists)


def _ends_with_newline(handle: IO[bytes]) -> bool:
    handle.seek(-1, os.SEEK_END)
    return handle.read(1) == b"\n"


def _open_lock(path: Path) -> IO[str]:
    with writing(path):
        return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+")


def _acquire(handle: IO[str], patience: float = 1.0) -> bool:
    """Take the lock. Waits only while nobody is named in the file: then somebody is just asking for the holder."""
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            handle.seek(0)
            if handle.read() or time.monotonic() > deadline:
                handle.seek(0)
                return False
            time.sleep(0.02)


def _overwrite(handle: IO[str], text: str) -> None:
    handle.seek(0)
    handle.truncate()
    handle.write(text)
    handle.flush()


def _holder(handle: IO[str]) -> str:
    record = parse(handle.read())
    if not isinstance(record, dict):
        return "another process"
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.get("started", 0)))
    return f"process {record.get('pid')} on {record.get('host')} since {started}"
