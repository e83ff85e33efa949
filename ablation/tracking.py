"""MLflow as a view of the store: the only file that knows MLflow.

``Mirror`` copies what the store says of a study into MLflow: experiment = study, one parent run, one child run per
trial. It can be run at any time, any number of times: runs are found again by their tags and every point carries
the time of its epoch, so that a replay adds nothing. Training never waits for it: a driver runs it on a thread,
and ``ablation sync`` brings MLflow up to date after an outage.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ablation.errors import ServiceUnavailable
from ablation.store import Store, StudyStore, TrialState, TrialStatus
from trainers.data.atomic import locked

# Before mlflow is imported: a dead server must cost seconds, not the four minutes of its default retries.
DEFAULTS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
            "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet",
            "MLFLOW_LOGGING_LEVEL": "ERROR"}
STATUS = {TrialState.FINISHED: "FINISHED", TrialState.FAILED: "FAILED", TrialState.STOPPED: "KILLED",
          TrialState.STALE: "KILLED", TrialState.RUNNING: "RUNNING"}
KIND, TRIAL, STUDY, PARENT = "ablation.study", "ablation.trial", "study", "mlflow.parentRunId"
BATCH = 1000


def default_uri(store: Store) -> str:
    """``MLFLOW_TRACKING_URI``, or a SQLite file in the store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store.root / 'mlflow.db'}"


class Mirror:
    """One study in MLflow. Every public method raises ``ServiceUnavailable`` when MLflow cannot be reached."""

    def __init__(self, store: Store, study: StudyStore, uri: str | None = None) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        self.store, self.study, self.uri = store, study, uri or default_uri(store)
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[str, str] = {}
        self._synced: dict[str, tuple[int, str]] = {}

    def sync(self, keys: Iterable[str] | None = None) -> None:
        """Copy the named trials (default: all planned ones) as the store has them now. PENDING ones have no run."""
        with self._reachable():
            self._connect()
            for key in self.study.planned_keys() if keys is None else keys:
                self._sync_trial(key)

    def finish(self, report_dir: Path | None = None) -> None:
        """Bring everything up to date, attach the report to the parent run and end it."""
        self.sync()
        with self._reachable():
            states = [self.study.read_state(key).state for key in self.study.planned_keys()]
            if report_dir is not None and report_dir.is_dir():
                self._client.log_artifacts(self._parent, str(report_dir), "report")
            if (self.study.path / "study.yaml").exists():
                self._client.log_artifact(self._parent, str(self.study.path / "study.yaml"))
            for state in TrialState:
                self._client.set_tag(self._parent, f"trials.{state.lower()}", str(states.count(state)))
            complete = all(state in (TrialState.FINISHED, TrialState.FAILED) for state in states)
            self._client.set_terminated(self._parent, "FINISHED" if complete else "KILLED")

    def _connect(self) -> None:
        if self._client is not None:
            return
        from mlflow import MlflowClient

        logging.getLogger("alembic").setLevel(logging.ERROR)
        with _first_opening(self.uri):
            client = MlflowClient(self.uri)
            experiment = client.get_experiment_by_name(self.study.name)
            if experiment is None:
                location = None if self.uri.startswith("http") else (self.store.root / "mlartifacts").as_uri()
                self._experiment = client.create_experiment(self.study.name, artifact_location=location)
            else:
                self._experiment = experiment.experiment_id
        runs = client.search_runs([self._experiment], max_results=50_000)
        self._runs = {run.data.tags[TRIAL]: run.info.run_id for run in runs if TRIAL in run.data.tags}
        parents = [run.info.run_id for run in runs if run.data.tags.get(KIND) == self.study.name]
        tags = {KIND: self.study.name, STUDY: self.study.name}
        self._parent = parents[0] if parents else client.create_run(
            self._experiment, run_name=self.study.name, tags=tags).info.run_id
        client.update_run(self._parent, status="RUNNING")
        self._client = client

    def _sync_trial(self, key: str) -> None:
        status = self.study.read_state(key)
        if status.state is TrialState.PENDING:
            return
        record = self.study.read_trial(key)
        history = self.study.read_history(key)
        seen, state_seen = self._synced.get(key, (0, ""))
        fresh = key not in self._runs
        run = self._runs.get(key) or self._create(key, record, status)
        if len(history) < seen:  # the trial went back to its checkpoint
            seen = 0
        if history[seen:]:
            self._log(run, _points(history[seen:]))
        if fresh or state_seen != status.state:
            self._close(key, run, status)
        self._synced[key] = (len(history), str(status.state))

    def _create(self, key: str, record: dict[str, Any], status: TrialStatus) -> str:
        config = record.get("config", {})
        factors = {name: str(config.get(name)) for name in ("method", "backbone", "imbalance", "seed")}
        subset = record.get("subset", {})
        tags = factors | {TRIAL: key, STUDY: self.study.name, PARENT: self._parent,
                          "data_digest": str(record.get("data_digest"))}
        started = int((status.started or time.time()) * 1000)
        run: str = self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=key).info.run_id
        self._runs[key] = run
        from mlflow.entities import Param

        params = [Param(name, str(value)) for name, value in flatten(config)]
        counts = ("num_defects", "num_normals")
        params += [Param(f"subset.{name}", str(subset[name])) for name in counts if name in subset]
        for start in range(0, len(params), 100):
            self._client.log_batch(run, params=params[start:start + 100])
        self._client.log_dict(run, config, "config.json")
        return run

    def _close(self, key: str, run: str, status: TrialStatus) -> None:
        """State, result and files. A run that came back from the dead is RUNNING again."""
        self._client.set_tag(run, "state", str(status.state))
        for name, value in (("reason", status.reason), ("message", status.message), ("flags", ",".join(status.flags))):
            if value:
                self._client.set_tag(run, name, value[:5000])
        result = self.study.read_result(key)
        if status.state is TrialState.FINISHED and result:
            moment = status.finished or time.time()
            step = result["epochs"]
            self._log(run, [(name, value, moment, step) for name, value in result["metrics"].items()])
            for name, value in result["provenance"].items():
                self._client.set_tag(run, f"provenance.{name}", str(value)[:5000])
            self._attach(run, key, ("encoder.safetensors", "contact_sheet.png"))
        if status.state is TrialState.FAILED:
            self._attach(run, key, ("error.txt",))
        if status.state is TrialState.RUNNING:
            self._client.update_run(run, status="RUNNING")
        else:
            end = int((status.finished or time.time()) * 1000)
            self._client.set_terminated(run, STATUS[status.state], end_time=end)

    def _attach(self, run: str, key: str, names: Iterable[str]) -> None:
        for name in names:
            path = self.study.trial_dir(key) / name
            if path.exists():
                self._client.log_artifact(run, str(path))

    def _log(self, run: str, points: list[tuple[str, float, float, int]]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(name, value, int(moment * 1000), step) for name, value, moment, step in points]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(run, metrics=metrics[start:start + BATCH])

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except ServiceUnavailable:
            raise
        except Exception as error:  # mlflow, requests and sqlalchemy each raise their own kinds
            self._client = None
            line = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise ServiceUnavailable(f"MLflow at {redact(self.uri)} cannot be used: {redact(line)}") from error


class BackgroundMirror:
    """A ``Mirror`` on a thread of the driver. ``touch`` marks a trial; nothing here ever raises into the study."""

    def __init__(self, mirror: Mirror, warn: Callable[[str], None], period: float = 2.0) -> None:
        self.mirror, self.warn, self.period = mirror, warn, period
        self._dirty: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._warned = False
        self._thread = threading.Thread(target=self._run, name="mlflow-mirror", daemon=True)
        self._thread.start()

    def touch(self, key: str) -> None:
        with self._lock:
            self._dirty.add(key)

    def finish(self, report_dir: Path | None) -> None:
        """Last full copy; one warning when MLflow is away."""
        self._ended.set()
        self._thread.join()
        try:
            self.mirror.finish(report_dir)
        except ServiceUnavailable as error:
            self.warn(f"{error}; later: ablation sync {self.mirror.study.name}")

    def _run(self) -> None:
        wait = 0.0
        while not self._ended.wait(wait):
            with self._lock:
                keys, self._dirty = self._dirty, set()
            try:
                self.mirror.sync(sorted(keys))
                wait = self.period
            except ServiceUnavailable as error:
                with self._lock:
                    self._dirty |= keys
                if not self._warned:
                    self.warn(f"{error}; the study goes on")
                self._warned, wait = True, 30.0


def server_version(uri: str, timeout: float = 5.0) -> str | None:
    """Version of the MLflow server at an http address; None where it asks for a password first.

    Raises ``ServiceUnavailable`` when it does not answer. A password in the address is neither sent nor shown.
    """
    parts = urllib.parse.urlsplit(uri)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().rstrip("/")
    try:
        with urllib.request.urlopen(f"{bare}/version", timeout=timeout) as reply:
            return str(reply.read(100).decode())
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            return None
        raise ServiceUnavailable(f"MLflow at {redact(uri)} answers {error.code} {error.reason}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServiceUnavailable(f"MLflow at {redact(uri)} does not answer: {type(error).__name__}") from error


def serve(store: Store, uri: str | None, port: int, say: Callable[[str], None]) -> int:
    """Run ``mlflow server`` on loopback until it ends or Ctrl-C; prints the address once it answers."""
    uri = uri or default_uri(store)
    if uri.startswith("http"):
        say(f"MLflow already serves at {redact(uri)}")
        return 0
    port = port or _free_port()
    _require_free(port)
    artifacts = (store.root / "mlartifacts").as_uri()
    environment = DEFAULTS | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | dict(os.environ)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--default-artifact-root",
               artifacts, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    server: subprocess.Popen[bytes] | None = None
    try:
        with _first_opening(uri):
            # A group of its own: MLflow leaves its workers behind when only it is ended.
            server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
            while server.poll() is None and not _answers(port):
                time.sleep(0.2)
        if server.poll() is None:
            say(f"MLflow: http://127.0.0.1:{port} (Ctrl-C ends it)")
        return 0 if server.wait() == 0 else 6
    except KeyboardInterrupt:
        return 0
    finally:
        if server is not None:
            _end_group(server)


def _end_group(server: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(timeout=10)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise ServiceUnavailable(f"port {port} is taken: choose another with --port, or --port 0 for any") from None


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mapping -> ``("train.epochs", 3)`` …"""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def redact(text: str) -> str:
    """Every address in ``text`` without its user and password."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _points(history: list[dict[str, Any]]) -> list[tuple[str, float, float, int]]:
    return [(name, value, record["time"], record["epoch"]) for record in history
            for name, value in record["metrics"].items()]


@contextmanager
def _first_opening(uri: str) -> Iterator[None]:
    """Creating a SQLite schema by two processes at once leaves it half-migrated: one at a time."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    with locked(path.with_name(path.name + ".lock")):
        yield
