"""What the longer commands do, apart from parsing."""

from __future__ import annotations

import math
import sys
import time
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

from ablation.console import TABLE_ROWS, Format, cell, emit, fail, note, one_line, one_line_grid, redraws, rendered
from ablation.errors import SpecError
from ablation.forecast import told
from trainers.config import suggest

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import RenderableType

    from ablation.plan import Plan
    from ablation.results import StudyResults

CELL = ("key", "state", "method", "backbone", "imbalance", "seed")
SHOWN = ("metrics.probe/auroc", "metrics.probe_fixed/auroc", "metrics.knn/auroc", "metrics.random_init/auroc",
         "metrics.label_free/rankme", "flags", "reason")


def run_study(source: str, overrides: list[str], *, store: str | None, tracking_uri: str | None, address: str | None,
              max_concurrent: int | None, allow_tiny: bool, gates: list[str]) -> int:
    """``ablation run``: plan, run with the live panel, print scores and the report's path. Returns the exit code."""
    from rich.console import Console

    from ablation.driver import run_plan
    from ablation.panel import Panel
    from ablation.plan_command import load_plan

    wanted = [_gate(text) for text in gates]
    planned = load_plan(source, overrides, store, allow_tiny)
    spec = planned.spec
    todo = planned.pending()
    epochs = {trial.key: trial.config.train.epochs for trial in planned.trials}
    most = None if planned.search is None else planned.search.most_trials
    note(f"{spec.name}: {len(planned.trials)} trials, {len(todo)} to run, in {planned.study_dir}" if most is None else
         f"{spec.name}: {search_size(planned)}, in {planned.study_dir}")
    try:
        console = Console(stderr=True, emoji=False)
        panel = Panel(spec.name, epochs, len(planned.trials) - len(todo), console, most)
        with redirect_stdout(sys.stderr), panel:  # stdout is for data: Ray prints there what it thinks of its workers
            results = run_plan(planned, address=address, tracking_uri=tracking_uri, on_event=panel,
                               max_concurrent=max_concurrent)
    except KeyboardInterrupt as stop:
        return fail(stop)
    frame = results.reported_trials()
    emit(_short(frame), Format.table, f"ablation results {spec.name} --format csv")
    if accuracy := told(planned.store):
        note(f"{spec.name}: {accuracy}")
    print(f"\nreport: {planned.study_dir / 'report' / 'report.html'}")
    note(f"browse: ablation ui{f' --store {store}' if store else ''}")
    missed = [text for text, gate in zip(gates, wanted, strict=True) if not _met(results, *gate)]
    for text in missed:
        note(f"gate not met: {text}")
    if missed:
        return 5
    missing = frame[frame["state"] != "FINISHED"]
    for row in missing.itertuples():
        note(f"{row.state}: {row.key}: {row.reason}")
    if (missing["state"] == "FAILED").any():
        return 3
    unfinished = planned.search is not None and not planned.search.complete
    return 130 if len(missing) or unfinished else 0  # stopped by a person: the same command continues


def search_size(planned: Plan) -> str:
    """What a search will train at most, in words."""
    search = planned.search
    assert search is not None
    settings = search.settings
    budgets = ((settings.num_samples, "candidates"), (settings.max_epochs, "epochs"),
               (settings.gpu_seconds, "s of training"))
    limits = [f"{budget:g} {unit}" for budget, unit in budgets if budget]
    done = sum(search.ended(one) for one in search.searches)
    return (f"{len(search.searches)} searches of at most {' or '.join(limits)} on {len(settings.seeds)} seed(s), "
            f"{done} of them done, then recipe and winners on {len(search.fresh_seeds)} fresh seed(s)")


def detach_study(source: str, overrides: list[str], *, store: str | None, tracking_uri: str | None,
                 address: str | None, max_concurrent: int | None, allow_tiny: bool, gates: list[str]) -> str:
    """``ablation run --detach``: hand the study to the cluster's own driver; returns Ray's submission id.

    Raises ``SpecError`` without the dashboard's address, and for a password that the job list would show.
    """
    import os

    from ablation.driver import submit
    from ablation.spec import StudySpec
    from ablation.store import Store

    address = address or os.environ.get("RAY_API_SERVER_ADDRESS") or ""
    if not address.startswith("http"):
        raise SpecError(f"--address {address or '(none)'}: --detach needs the dashboard, http://HOST:8265 "
                        "(or RAY_API_SERVER_ADDRESS)")
    tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if tracking_uri and "@" in tracking_uri:
        raise SpecError("--tracking-uri: everybody who may list jobs would read its password; leave it out of the "
                        "address and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD on the cluster")
    [_gate(text) for text in gates]
    spec, opened = StudySpec.load(source, overrides), Store(store)
    if spec.data.root:  # the job has another working folder
        spec = StudySpec.model_validate(spec.to_dict() | {"data": spec.to_dict()["data"] | {
            "root": os.path.abspath(os.path.expanduser(spec.data.root))}})
    options = ["--allow-tiny"] * allow_tiny
    for name, values in (("--tracking-uri", [tracking_uri]), ("--max-concurrent", [max_concurrent]),
                         ("--fail-under", gates)):
        options += [word for value in values if value is not None for word in (name, str(value))]
    job = submit(spec, opened, options, address)
    note(f"{spec.name}: handed to {address}; follow it with: ablation status {spec.name} --store {opened.root} --watch")
    note(f"its driver's own words: ray job logs {job} --address {address}; end it: ablation stop {spec.name} "
         f"--store {opened.root}")
    return job


QUIET = ("FINISHED", "PENDING")
URGENCY = {state: rank for rank, state in enumerate(("RUNNING", "STALE", "FAILED", "STOPPED", *QUIET[::-1]))}


def study_status(name: str | None, store: str | None) -> pd.DataFrame:
    """One row per study, or one per trial of the named study; what wants attention first in a long one."""
    import pandas as pd

    from ablation.results import load_study
    from ablation.store import Store, TrialState

    if name is None:
        opened = Store(store)
        rows = []
        for study in map(opened.study, opened.studies()):
            states = [study.read_state(key).state for key in study.planned_keys()]
            counts = {state.value: states.count(state) for state in TrialState}
            rows.append({"study": study.name, "trials": len(states), **counts, "driver": _driver(study)})
        return pd.DataFrame(rows, columns=["study", "trials", *(state.value for state in TrialState), "driver"])
    study = load_study(name, store=store).store
    rows = []
    for key in study.planned_keys():
        status = study.read_state(key)
        beat = f"{time.time() - status.heartbeat:.0f} s ago" if status.heartbeat and not status.finished else ""
        rows.append({"key": key, "state": str(status.state), "epoch": status.epoch, "epochs": status.epochs,
                     "attempt": status.attempt, "host": status.host, "heartbeat": beat, "flags": list(status.flags),
                     "reason": status.reason, "message": status.message})
    if len(rows) > TABLE_ROWS:
        rows.sort(key=lambda row: row["state"] in QUIET or row["reason"] == "pruned")
    return pd.DataFrame(rows)


def launch_line(name: str, store: str | None) -> str | None:
    """What the last launch of a study was expected to take, and took."""
    from ablation.store import Store

    return told(Store(store).study(name))


def watch_status(name: str | None, store: str | None) -> None:
    """Redraw the table every second while a driver runs; without a terminal wait without printing."""
    from rich.console import Console
    from rich.live import Live

    from ablation.results import load_study
    from ablation.store import Store

    def driven() -> bool:
        opened = Store(store)
        studies = [load_study(name, store=store).store] if name else list(map(opened.study, opened.studies()))
        return any(study.lock_holder() is not None for study in studies)

    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False, transient=True, screen=False) as live:
        while driven():
            if redraws(console):
                live.update(watch_screen(study_status(name, store), console.height), refresh=True)
            time.sleep(1.0)


def watch_screen(frame: pd.DataFrame, height: int) -> RenderableType:
    """As much of ``study_status`` as fits, a line each; where that is not all, what runs first, and counts."""
    from rich.console import Group

    if "state" not in frame:
        return rendered(frame.head(height - 3))
    table = one_line_grid(True, False, False, False, True)
    shown = height - 2
    rows = frame if len(frame) <= shown else frame.sort_values("state", key=lambda s: s.map(URGENCY), kind="stable")
    for row in rows.head(shown).to_dict("records"):
        why = ", ".join(filter(None, (cell(row["message"]) or cell(row["reason"]), cell(row["flags"]))))
        epoch = "" if row["state"] == "PENDING" else f"epoch {row['epoch']}/{row['epochs']}"
        table.add_row(one_line(row["key"]), row["state"], epoch, row["heartbeat"], one_line(why))
    counts = ", ".join(f"{count} {state}" for state, count in frame["state"].value_counts().items())
    return Group(table, one_line(f"{len(frame)} trials: {counts}"))


def trial_rows(name: str, store: str | None, where: str | None, everything: bool) -> pd.DataFrame:
    """``ablation results``. Raises ``SpecError`` for a bad ``where``, ``NothingMatched`` when no row is left."""
    from ablation.errors import NothingMatched
    from ablation.results import load_study

    frame = load_study(name, store=store).trials_dataframe()
    if where:
        frame = _matching(frame, where)
        if frame.empty:
            raise NothingMatched(f"no trial of '{name}' matches {where!r}")
    return frame if everything else _short(frame)


def _matching(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    import pandas as pd

    columns = f"columns: {', '.join(CELL)}, and `metrics.probe/auroc` in backticks"
    try:
        chosen = frame.eval(where)
    except Exception as error:  # pandas passes on whatever its parser or the columns raise
        said = (str(error).splitlines() or [type(error).__name__])[0].removesuffix(" (<unknown>, line 1)")
        raise SpecError(f"--where {where!r}: {said} ({columns})") from None
    if not isinstance(chosen, pd.Series) or chosen.dtype.kind != "b":
        why = "= assigns, == compares" if isinstance(chosen, pd.DataFrame) else "must be true or false for each trial"
        raise SpecError(f"--where {where!r}: {why}, e.g. method == 'simclr' ({columns})")
    return frame[chosen]


def _short(frame: pd.DataFrame) -> pd.DataFrame:
    """Key and main scores, and last the cell, which the key says too; a column in which no trial has anything is left
    out."""
    role = ["role"] if "role" in frame and frame["role"].nunique() > 1 else []
    shown = [column for column in SHOWN if column in frame and frame[column].map(cell).ne("").any()]
    columns = ["key", "state", *role, *shown, *CELL[2:]]
    return frame[columns].rename(columns=lambda column: column.removeprefix("metrics."))


def _driver(study: Any) -> str:
    holder = study.lock_holder()
    return "" if holder is None else f"{holder.get('pid', '?')} on {holder.get('host', '?')}"


def _gate(text: str) -> tuple[str, float]:
    from trainers.evaluation.catalogue import METRICS

    metric, _, value = text.partition("=")
    try:
        least = float(value)
    except ValueError:
        least = math.nan
    if not math.isfinite(least):
        raise SpecError(f"--fail-under {text!r}: expected metric=number, e.g. probe/auroc=0.8")
    if metric not in METRICS:  # else it would be told after hours of training
        raise SpecError(f"--fail-under {text!r}: unknown metric '{metric}'{suggest(metric, METRICS)}; "
                        "see: ablation metrics")
    return metric, least


def _met(results: StudyResults, metric: str, least: float) -> bool:
    column = results.trials_dataframe().get(f"metrics.{metric}")
    return column is not None and bool((column.dropna() >= least).any())
