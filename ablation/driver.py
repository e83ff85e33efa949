"""Run a plan on Ray: the only file that knows Ray Tune.

The ledger in the store decides what is left to do (planned trials minus FINISHED), never Tune's own snapshot,
which forgets trials and ignores an enlarged grid. Tune schedules: it reserves resources, starts and reuses
processes, and repeats trials whose process was lost.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import os
import shlex
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation import forecast, low_memory
from ablation.access import cluster_address, refusal, require_answer, require_token
from ablation.calibration import seat
from ablation.errors import ServiceUnavailable, StoreError
from ablation.events import Event, OnEvent
from ablation.launch import make_pending, settle, write_report
from ablation.ledger import ASKED, PRUNED
from ablation.pictures import prepare_pictures
from ablation.placement import Machines, Node, Placement
from ablation.signals import finish_first, interrupt, on_signal, stop_tune
from ablation.store import Store, StudyStore, TrialState
from ablation.tracking import BackgroundMirror, Mirror
from ablation.watch import Watch

if TYPE_CHECKING:
    from ablation.plan import Plan
    from ablation.results import StudyResults
    from ablation.search import SearchRun
    from ablation.spec import StudySpec
    from ablation.trial import Trial

    Feed = tuple[SearchRun, Callable[[Trial], dict[str, Any]]]

START_ATTEMPTS = 3
OBJECT_STORE_BYTES = 256 * 2**20  # jobs are plain data; pictures travel by memory-mapped files


def run_plan(plan: Plan, address: str | None = None, tracking_uri: str | None = None,
             on_event: OnEvent | None = None, max_concurrent: int | None = None) -> StudyResults:
    """Train what is not FINISHED yet, write the report, return the results. Blocks.

    Runs on the cluster at ``address`` or ``RAY_ADDRESS``, else on a local one that lives as long as the call. A
    failed trial never ends the study. Safe to repeat after any interruption. Raises ``StudyLocked`` when another
    driver holds the study, ``ServiceUnavailable`` when Ray cannot be reached, ``PlanError`` when the cluster can
    never hold a trial, ``KeyboardInterrupt`` when interrupted (what was running is STOPPED and continues later).
    """
    from ablation.results import load_study

    tell = on_event or (lambda event: None)
    study = StudyStore(plan.study_dir)
    store = Store(study.path.parent)
    todo = plan.pending()
    if todo and cluster_address(address) is None:  # what cannot be is told before anything is written
        seat(plan, todo)
    copy = Mirror(store, study, tracking_uri)
    with study.lock(), on_signal(interrupt):
        study.clear_stop()
        if plan.search is not None:
            plan.search.refresh()  # another driver may have gone on with it since it was planned
        plan.save()
        todo = plan.pending()
        for trial in todo:
            make_pending(study, trial.key)
        begun = time.time()
        if todo or not (plan.search is None or plan.search.complete):
            forecast.begin(plan, address, max_concurrent, tell)
            mirror = BackgroundMirror(copy, lambda text: tell(Event("warning", text)))
            try:
                _train(plan, todo, study, address, max_concurrent, mirror, tell)
            finally:
                with on_signal(finish_first):
                    settle(study, [trial.key for trial in todo] if plan.search is None else study.planned_keys(), begun)
                    forecast.end(plan, max_concurrent, tell)
                    report = write_report(study, store, tell)
                    mirror.finish(report, lambda text: tell(Event("phase", text)))
        elif not (study.path / "report" / "report.html").exists():
            write_report(study, store, tell)
    return load_study(study.name, store=store.root)


def _train(plan: Plan, todo: list[Trial], study: StudyStore, address: str | None, max_concurrent: int | None,
           mirror: BackgroundMirror, tell: OnEvent) -> None:
    """Prepare the pictures, hand the trials to Tune in waves, wait."""
    cache_dir = prepare_pictures(todo or list(plan.trials), tell)
    with connect(address, tell) as machines, on_signal(interrupt):  # again: Ray has put its own handler
        placement = Placement(plan.spec.resources, machines, study)
        if plan.search is not None:
            _search(plan, placement, study, cache_dir, max_concurrent, mirror, tell)
            return
        left = list(todo)
        attempts = {trial.key: study.read_state(trial.key).attempt for trial in todo}
        while left:
            wave = placement.wave(left, plan.trials)
            again: list[Trial] = []
            try:
                _fit(plan, _jobs(wave, plan, cache_dir), study, max_concurrent, mirror, tell)
            except RuntimeError as error:
                if low_memory.SIGN not in str(error):
                    raise
                again, max_concurrent = low_memory.fewer_at_once(study, [trial for trial, _, _ in wave],
                                                                 max_concurrent, plan.spec.retries, attempts)
                tell(Event("warning", f"a node ran out of memory: going on with {max_concurrent} trial(s) at once"))
            done = {trial.key for trial, _, _ in wave} - {trial.key for trial in again}
            left = [trial for trial in left if trial.key not in done]


def _search(plan: Plan, placement: Placement, study: StudyStore, cache_dir: Path, max_concurrent: int | None,
            mirror: BackgroundMirror, tell: OnEvent) -> None:
    """Let the search say trial after trial what Tune trains next."""
    from ablation.search import SearchRun

    run = SearchRun(plan, lambda text: tell(Event("warning", text)))
    cpus, gpus = placement.each(run.most_at_once)

    def job_of(trial: Trial) -> dict[str, Any]:
        return _jobs([(trial, cpus, gpus)], plan, cache_dir)[0]

    while True:
        try:
            return _fit(plan, [], study, max_concurrent, mirror, tell, (run, job_of))
        except RuntimeError as error:
            if low_memory.SIGN not in str(error):
                raise
            lost = [run.begun[key] for key in run.running]
            _, max_concurrent = low_memory.fewer_at_once(study, lost, max_concurrent, plan.spec.retries)
            for trial in lost:
                run.ended(trial.key)
            tell(Event("warning", f"a node ran out of memory: going on with {max_concurrent} trial(s) at once"))


@contextmanager
def connect(address: str | None, tell: OnEvent) -> Iterator[Machines]:
    """Raises ``ServiceUnavailable`` when ``address`` (or ``RAY_ADDRESS``) names a cluster that does not answer."""
    address = cluster_address(address)
    local = address is None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if local:
        require_token()  # before the import: Ray reads its settings then
        # Read by the C library at the start of each worker process (docs/results/performance.md).
        os.environ.setdefault("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1")
    import ray

    options: dict[str, Any] = {"address": address}
    if local:  # a session of its own: other clusters on this machine are neither joined nor disturbed
        options = {"address": "local", "num_cpus": len(os.sched_getaffinity(0)), "include_dashboard": False,
                   "object_store_memory": OBJECT_STORE_BYTES}
    else:
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")  # a refused token would be told every second
    tell(Event("phase", "starting a local Ray" if local else f"connecting to Ray at {address}"))
    attempts = START_ATTEMPTS if local else 1
    for attempt in range(attempts):
        try:
            ray.init(**options, logging_level=logging.ERROR, log_to_driver=False)
            break
        except Exception as error:  # Ray raises many kinds; on a busy machine a local start may just time out
            ray.shutdown()
            if attempt + 1 == attempts:
                raise ServiceUnavailable(refusal(address or "local", error)) from error
            tell(Event("phase", "the local Ray did not start in time, trying again"))
    try:
        yield _machines()
    finally:
        ray.shutdown()


def submit(spec: StudySpec, store: Store, options: Sequence[str], address: str) -> str:
    """Have the cluster run a study by itself, with the code of this process; returns Ray's submission id.

    ``address`` is that of the dashboard, ``http://HOST:8265``; ``options`` go to ``ablation run`` there. Packages and
    the resolved study travel; the store and the data must be visible to the cluster under the same paths, and the
    ``python`` on its PATH must have the dependencies. Raises ``ServiceUnavailable``.
    """
    found = [importlib.util.find_spec(name) for name in ("ablation", "trainers", "search_spaces")]
    packages = [str(Path(str(package.origin)).parent) for package in found if package]
    command = ["python", "-m", "ablation.cli", "run", "study.yaml", "--store", str(store.root), *options]
    require_answer(address)
    logging.getLogger("ray").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "study.yaml").write_text(spec.to_yaml())
        try:
            from ray.job_submission import JobSubmissionClient

            return str(JobSubmissionClient(address).submit_job(
                entrypoint=shlex.join(command), runtime_env={"working_dir": folder, "py_modules": packages},
                metadata={"study": spec.name}))
        except Exception as error:  # requests, Ray and the server's own words
            raise ServiceUnavailable(refusal(address, error)) from error


def _machines() -> Machines:
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = tuple(Node(cpus=node.get("CPU", 0.0), gpus=node.get("GPU", 0.0)) for node in alive)
    if not any(node.gpus for node in nodes):
        return Machines(nodes)
    from ablation.worker import smallest_card_mb

    return Machines(nodes, smallest_card_mb())


def _jobs(wave: list[tuple[Trial, int, float]], plan: Plan, cache_dir: Path) -> list[dict[str, Any]]:
    """One plain mapping per trial."""
    from ablation.worker import Job

    ranks = plan.spec.resources.num_workers
    return [dataclasses.asdict(Job(trial.key, trial.config.to_dict(), str(plan.study_dir), str(cache_dir), ranks, cpus,
                                   gpus)) for trial, cpus, gpus in wave]


def _fit(plan: Plan, jobs: list[dict[str, Any]], study: StudyStore, max_concurrent: int | None,
         mirror: BackgroundMirror, tell: OnEvent, search: Feed | None = None) -> None:
    """Train ``jobs``, or whatever a search wants next."""
    from ray import tune

    from ablation.worker import Gang, Job, end_elsewhere

    os.environ.update(TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1", TUNE_GLOBAL_CHECKPOINT_S="3600", RAY_AIR_NEW_OUTPUT="0",
                      TUNE_DISABLE_STRICT_METRIC_CHECKING="1", TUNE_PRINT_ALL_TRIAL_ERRORS="0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what happens to trials is told by our own events
    watch = Watch(study, end_elsewhere, tell)
    scratch = Path(tempfile.mkdtemp(prefix=".tune-", dir=study.path))
    trainable = tune.with_resources(Gang, lambda config: Job(**config["job"]).resources())
    run = search[0] if search else None
    source: dict[str, Any] = {"search_alg": _searcher(study, *search), "num_samples": -1} if search else {}
    tuner = tune.Tuner(
        trainable, param_space=None if search else {"job": tune.grid_search(jobs)},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=max_concurrent,
                                    trial_dirname_creator=lambda trial: trial.trial_id, **source),
        run_config=tune.RunConfig(
            name="tune", storage_path=str(scratch), verbose=0, callbacks=[_listener(study, mirror, watch, tell, run)],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # the trainer keeps its own
            failure_config=tune.FailureConfig(max_failures=plan.spec.retries + 1)))
    try:
        # SIGTERM would abort Ray without a trace; Tune stops in order on SIGUSR1, as it does on Ctrl-C. It leaves a
        # handler for Ctrl-C behind that does nothing once it has ended.
        with (on_signal(signal.default_int_handler, signal.SIGINT), on_signal(interrupt, signal.SIGUSR1),
              on_signal(stop_tune) as stops, watch):
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    keys = [job["key"] for job in jobs] if run is None else run.begun
    left = [status for key in keys if (status := study.read_state(key)).state in
            (TrialState.PENDING, TrialState.RUNNING, TrialState.STOPPED)
            and status.reason not in (ASKED["reason"], PRUNED["reason"])]
    if left or stops:
        raise KeyboardInterrupt(f"{len(left)} trials left")


def _searcher(study: StudyStore, run: SearchRun, job_of: Callable[[Trial], dict[str, Any]]) -> Any:
    """Tune's question what comes next, passed on to the search."""
    from ray.tune.search import Searcher

    class NextTrial(Searcher):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return Searcher, ()  # as the listener below

        def suggest(self, trial_id: str) -> Any:
            trial = run.next()
            if trial is None:
                return None if run.running else Searcher.FINISHED
            make_pending(study, trial.key)
            return {"job": job_of(trial)}

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            """The listener has said it already."""

        def save(self, checkpoint_path: str) -> None:
            """The plan in the store is what a search goes on from."""

        def restore(self, checkpoint_path: str) -> None:
            """Never asked: Tune's own restore is not used."""

    return NextTrial()


def _listener(study: StudyStore, mirror: BackgroundMirror, watch: Watch, tell: OnEvent,
              run: SearchRun | None = None) -> Any:
    """Tune's callbacks -> events for people, and hints for the MLflow mirror."""
    from ray import tune

    class Listener(tune.Callback):  # type: ignore[misc]
        def __reduce__(self) -> Any:
            return tune.Callback, ()  # Tune pickles its callbacks for a restore, which is not used here

        def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            watch.began(trial.config["job"]["key"])
            tell(Event("start", key=trial.config["job"]["key"]))

        def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any],
                            **info: Any) -> None:
            key = trial.config["job"]["key"]
            mirror.touch(key)
            if not result.get("done"):
                loss = result.get("loss")
                if run is not None:
                    run.epoch_ended(key, result["epoch"])
                tell(Event("epoch", f"loss {loss:.4f}" if loss is not None else "", key, result["epoch"]))
                return
            watch.ended(key)
            if run is not None:
                run.ended(key)
            if result.get("state") == "FINISHED":
                score = result["metrics"].get("probe/auroc")
                tell(Event("finished", ",".join(result["flags"]), key, result["epoch"], score))
            elif result.get("state") == "STOPPED":
                kind = "pruned" if result.get("reason") == PRUNED["reason"] else "stopped"
                tell(Event(kind, str(result.get("message")), key, result["epoch"]))
            else:
                tell(Event("failed", f"{result.get('reason')}: {result.get('message')}", key, result["epoch"]))

        def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            tell(Event("retry", "in a new process, from its checkpoint if it has one", trial.config["job"]["key"]))

        def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            key = trial.config["job"]["key"]
            watch.ended(key)
            cause = (str(trial.get_error() or "the process died").strip().splitlines() or ["the process died"])[-1]
            reason = "process_lost"
            if low_memory.SIGN in str(trial.get_error()):
                train = trial.config["job"]["config"]["train"]
                reason, cause = "out_of_memory", low_memory.message(train["batch_size"])
            try:
                study.update_state(key, state=TrialState.FAILED, reason=reason, message=cause[:500],
                                   finished=time.time())
                study.write_error(key, str(trial.get_error() or cause))
            except StoreError as error:  # raised here it would end the study
                tell(Event("warning", str(error)))
            if run is not None:
                run.ended(key)
            mirror.touch(key)
            tell(Event("failed", f"{reason}: {cause[:200]}", key))

    return Listener()
