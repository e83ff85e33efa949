"""MLflow as a view of the store: the only file that knows MLflow.

``Mirror`` copies what the store says of a study into MLflow: experiment = study, one parent run, one child run per
trial. It can be run at any time, any number of times: runs are found again by their tags and every point carries
the time of its epoch, so that a replay adds nothing. Training never waits for it: a driver runs it on a thread,
and ``ablation sync`` brings MLflow up to date after an outage.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ablation.errors import ServiceUnavailable
from ablation.ledger import PRUNED
from ablation.mlflow_server import DEFAULTS, first_opening, redact, require_server, tracking_address
from ablation.mlflow_views import TRAINING, VIEWS, experiment_tags, view_path
from ablation.store import Store, StudyStore, TrialState, TrialStatus
from ablation.study_note import study_note
from ablation.trial import shown
from trainers.countdown import Countdown
from trainers.evaluation.catalogue import IN_STORE_ONLY

STATUS = {TrialState.FINISHED: "FINISHED", TrialState.FAILED: "FAILED", TrialState.STOPPED: "KILLED",
          TrialState.STALE: "KILLED", TrialState.RUNNING: "RUNNING"}
KIND, TRIAL, STUDY, PARENT = "ablation.study", "ablation.trial", "study", "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SEARCH = "ablation.search"
"""Candidates are children of the run of their search, which is a child of the study's: parent, search, trial."""
COPIED = "ablation.copied"
"""What of a trial the run already has: a new driver need not copy thousands of finished trials again."""
BATCH, OPEN_ATTEMPTS = 1000, 4
MAX_HOSTS = 9
"""With four numbers each they stay under 40 keys."""


class Mirror:
    """One study in MLflow. Building one raises ``SpecError`` for an address that MLflow cannot log to; every public
    method raises ``ServiceUnavailable`` when it cannot be reached."""

    def __init__(self, store: Store, study: StudyStore, uri: str | None = None) -> None:
        for name, value in DEFAULTS.items():
            os.environ.setdefault(name, value)
        self.store, self.study, self.uri = store, study, tracking_address(store, uri)
        self._client: Any = None
        self._experiment = self._parent = ""
        self._runs: dict[str, str] = {}
        self._searches: dict[str, str] = {}
        self._synced: dict[str, tuple[int, str]] = {}
        self._loads: dict[str, float] = {}
        self._begun = 0.0

    def sync(self, keys: Iterable[str] | None = None, say: Callable[[str], None] | None = None) -> None:
        """Copy the named trials (default: all planned ones) as the store has them now. PENDING ones have no run."""
        with self._reachable():
            self._connect()
            wanted = self.study.planned_keys() if keys is None else list(keys)
            countdown = Countdown("MLflow:", len(wanted), "trials", say)
            for key in wanted:
                self._sync_trial(key)
                countdown.step()

    def finish(self, report_dir: Path | None = None, say: Callable[[str], None] | None = None) -> None:
        """Bring everything up to date, attach the report to the parent run and end it. ``say``: told how far it is."""
        self.sync(say=say)
        with self._reachable():
            statuses = [self.study.read_state(key) for key in self.study.planned_keys()]
            states = [status.state for status in statuses]
            note = study_note(self.study, self._links())
            self._client.set_tag(self._parent, NOTE, note)
            self._client.set_experiment_tag(self._experiment, NOTE, note)
            if report_dir is not None and report_dir.is_dir():
                self._client.log_artifacts(self._parent, str(report_dir), "report")
            if (self.study.path / "study.yaml").exists():
                self._client.log_artifact(self._parent, str(self.study.path / "study.yaml"))
            for state in TrialState:
                self._client.set_tag(self._parent, f"trials.{state.lower()}", str(states.count(state)))
            complete = all(status.state in (TrialState.FINISHED, TrialState.FAILED) or status.reason == PRUNED["reason"]
                           for status in statuses)
            end = max((status.finished or 0.0 for status in statuses), default=0.0) or time.time()
            for run in (*self._searches.values(), self._parent):
                self._client.set_terminated(run, "FINISHED" if complete else "KILLED", end_time=int(end * 1000))

    def open_run(self, key: str) -> tuple[Any, str, str]:
        """(client, run, experiment) of a trial that has begun; copies the study first where MLflow does not have it."""
        with self._reachable():
            experiment = self._open().get_experiment_by_name(self.study.name)
            runs = [] if experiment is None else self._open().search_runs(
                [experiment.experiment_id], f"tags.`{TRIAL}` = '{key}'", max_results=1)
        if not runs:
            self.finish(self.study.path / "report")
            return self._client, self._runs[key], self._experiment
        return self._open(), runs[0].info.run_id, runs[0].info.experiment_id

    def _connect(self) -> None:
        if self._client is not None:
            return
        require_server(self.uri)
        logging.getLogger("alembic").setLevel(logging.ERROR)
        with first_opening(self.uri):
            client = self._open()
            experiment = client.get_experiment_by_name(self.study.name)
            if experiment is None:
                location = None if self.uri.startswith("http") else (self.store.root / "mlartifacts").as_uri()
                experiment = client.get_experiment(
                    client.create_experiment(self.study.name, artifact_location=location))
        self._experiment = experiment.experiment_id
        for name, value in experiment_tags(experiment.creation_time).items():
            if experiment.tags.get(name) != value:
                client.set_experiment_tag(self._experiment, name, value)
        runs = client.search_runs([self._experiment], max_results=50_000)
        children = {run.data.tags[TRIAL]: run for run in runs if TRIAL in run.data.tags}
        self._runs = {key: run.info.run_id for key, run in children.items()}
        self._synced = {}  # what a lost server had is gone
        for key, run in children.items():
            lines, _, ended = run.data.tags.get(COPIED, "").partition(" ")
            if ended:
                self._synced[key] = (int(lines), ended)
        self._searches = {run.data.tags[SEARCH]: run.info.run_id for run in runs if SEARCH in run.data.tags}
        parents = [run.info.run_id for run in runs if run.data.tags.get(KIND) == self.study.name]
        tags = {KIND: self.study.name, STUDY: self.study.name} | _origin()
        self._parent = parents[0] if parents else client.create_run(
            self._experiment, start_time=self._first_start(), run_name=self.study.name, tags=tags).info.run_id
        self._begun = client.get_run(self._parent).info.start_time / 1000
        for run in (*self._searches.values(), self._parent):
            client.update_run(run, status="RUNNING")
        self._client = client

    def _first_start(self) -> int:
        """Milliseconds; of the first trial where the study has begun before MLflow could be reached."""
        starts = [self.study.read_state(key).started for key in self.study.planned_keys()]
        return int(min((start for start in starts if start), default=time.time()) * 1000)

    def _links(self) -> str:
        """Markdown: where on MLflow's page to go on from the study's run."""
        report = f"#/experiments/{self._experiment}/runs/{self._parent}/artifacts/report/report.html{TRAINING}"
        views = (f"[{name}]({view_path(self._experiment, key)})" for key, (name, _) in VIEWS.items())
        return f"[Report]({report}). Charts: {', '.join(views)}."

    def _open(self) -> Any:
        """Clients that find a fresh PostgreSQL together collide, since each makes the tables: one gets through."""
        from mlflow import MlflowClient

        for attempt in range(OPEN_ATTEMPTS - 1):
            try:
                return MlflowClient(self.uri)
            except Exception:
                if self.uri.startswith("http"):
                    raise
                time.sleep(1 + attempt)
        return MlflowClient(self.uri)

    def _sync_trial(self, key: str) -> None:
        status = self.study.read_state(key)
        if status.state is TrialState.PENDING:
            return
        record = self.study.read_trial(key)
        history = self.study.read_history(key)
        seen, ended_seen = self._synced.get(key, (0, ""))
        ended = f"{status.state} {status.finished or ''}"
        run = self._runs.get(key) or self._create(key, record, status)
        if len(history) < seen:  # the trial went back to its checkpoint
            seen = 0
        if history[seen:]:
            self._log(run, _points(history[seen:]))
        if ended_seen != ended:
            self._close(key, run, status, again=bool(ended_seen))
            if status.state is not TrialState.RUNNING:
                self._client.set_tag(run, COPIED, f"{len(history)} {ended}")
        self._log_load(status)
        self._synced[key] = (len(history), ended)

    def _log_load(self, status: TrialStatus) -> None:
        """How busy the node of a trial is, on the parent run: nodes have more trials than one."""
        known = status.host in self._loads or len(self._loads) < MAX_HOSTS
        if known and status.heartbeat and status.host and status.load and (
                status.heartbeat > self._loads.get(status.host, 0.0)):
            self._loads[status.host] = status.heartbeat
            self._log(self._parent, [(f"system/{status.host}/{name}", value, status.heartbeat,
                                      max(0, int(status.heartbeat - self._begun)))
                                     for name, value in status.load.items()])

    def _create(self, key: str, record: dict[str, Any], status: TrialStatus) -> str:
        config = shown(record.get("config", {}))
        factors = {name: str(config.get(name)) for name in ("method", "backbone", "imbalance", "seed")}
        subset = record.get("subset", {})
        started = int((status.started or time.time()) * 1000)
        tags = factors | _origin() | {TRIAL: key, STUDY: self.study.name, PARENT: self._parent_of(key, started),
                                      "data_digest": str(record.get("data_digest"))}
        run: str = self._client.create_run(self._experiment, start_time=started, tags=tags, run_name=key).info.run_id
        self._runs[key] = run
        from mlflow.entities import Param

        params = [Param(name, str(value)) for name, value in flatten(config)]
        counts = ("num_defects", "num_normals")
        params += [Param(f"subset.{name}", str(subset[name])) for name in counts if name in subset]
        for start in range(0, len(params), 100):
            self._client.log_batch(run, params=params[start:start + 100])
        self._client.log_dict(run, record.get("config", {}), "config.json")
        self._client.log_inputs(run, datasets=[_dataset(config.get("data", {}), str(record.get("data_digest")))])
        return run

    def _parent_of(self, key: str, started: int) -> str:
        """The run of the study, or of the search that a candidate belongs to, which begins with its first one."""
        name = next((row.get("search") for row in self.study.read_plan()["trials"] if row["key"] == key), None)
        if name is None:
            return self._parent
        if name not in self._searches:
            tags = {SEARCH: name, STUDY: self.study.name, PARENT: self._parent,
                    "objective": name.partition("/")[2]} | _origin()
            self._searches[name] = self._client.create_run(
                self._experiment, start_time=started, run_name=f"search {name}", tags=tags).info.run_id
        return self._searches[name]

    def _close(self, key: str, run: str, status: TrialStatus, again: bool) -> None:
        """State, result and files. A run that came back from the dead is RUNNING again."""
        self._client.set_tag(run, "state", str(status.state))
        for name, value in (("reason", status.reason), ("message", status.message), ("flags", ",".join(status.flags))):
            if value or again:
                self._client.set_tag(run, name, (value or "")[:5000])
        result = self.study.read_result(key)
        if status.state is TrialState.FINISHED and result:
            moment = status.finished or status.heartbeat or 0.0
            step = result["epochs"]
            self._log(run, [(name, value, moment, step) for name, value in result["metrics"].items()
                            if name not in IN_STORE_ONLY])
            self._client.log_dict(run, result["provenance"], "provenance.json")
            for name, value in result["provenance"].items():
                if not isinstance(value, dict):  # a tag is one word on the page
                    self._client.set_tag(run, f"provenance.{name}", str(value)[:5000])
            self._attach(run, key, ("encoder.safetensors", "probe.safetensors", "contact_sheet.png"))
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
            line += "; install that package beside ablation" if isinstance(error, ModuleNotFoundError) else ""
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

    def finish(self, report_dir: Path | None, say: Callable[[str], None] | None = None) -> None:
        """Last full copy; one warning when MLflow is away."""
        self._ended.set()
        self._thread.join()
        try:
            self.mirror.finish(report_dir, say)
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


def flatten(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested mapping -> ``("train.epochs", 3)`` …"""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _points(history: list[dict[str, Any]]) -> list[tuple[str, float, float, int]]:
    return [(name, value, record["time"], record["epoch"]) for record in history
            for name, value in record["metrics"].items() if name not in IN_STORE_ONLY]


def _origin() -> dict[str, str]:
    """Tags behind the columns "User" and "Source"."""
    tags = {"mlflow.source.name": "ablation", "mlflow.source.type": "LOCAL"}
    with suppress(OSError, KeyError):  # a container may run as a number without a name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def _dataset(data: dict[str, Any], digest: str) -> Any:
    """What MLflow shows as the input of a run."""
    from mlflow.entities import Dataset, DatasetInput

    name = Path(str(data.get("root") or data.get("dataset"))).name
    source = json.dumps({"dataset": data.get("dataset"), "root": data.get("root")})
    return DatasetInput(Dataset(name=name, digest=digest, source_type="local", source=source))
