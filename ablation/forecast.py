"""What a launch of a study was expected to take, and took: ``STORE/<study>/estimate.json``, of the last launch."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, Any

from ablation.durations import Range
from ablation.events import Event, OnEvent
from ablation.files import read_dict, write_json
from ablation.store import Store, StudyStore, TrialState
from trainers.countdown import duration

if TYPE_CHECKING:
    from ablation.plan import Plan

FILE = "estimate.json"


@dataclasses.dataclass(frozen=True)
class Launch:
    """One ``ablation run`` on this machine that had something to do. Times are Unix seconds."""

    began: float
    trials: int
    """That were to run."""
    expected: Range | None
    """None: neither a measurement nor finished trials told of all of them."""
    basis: str = ""
    ended: float | None = None
    """When the last trial had ended; the report comes after it."""
    finished: int = 0
    decoded: bool = False
    """Whether all pictures were decoded before: then the time to the first trial is that of Ray and of processes."""


def begin(plan: Plan, address: str | None, max_concurrent: int | None, tell: OnEvent) -> None:
    """Write what the stored calibration says of the trials that are about to run. Of a cluster it says nothing.

    Neither this nor ``end`` ever raises: an estimate is worth a warning, never a study.
    """
    try:
        (plan.store.path / FILE).unlink(missing_ok=True)
        if (address or os.environ.get("RAY_ADDRESS") or "local") != "local":
            return
        from ablation.estimate import estimate

        found = estimate(plan, max_concurrent=max_concurrent)
        whole = bool(found.known) and not found.unknown and not found.searched
        _write(plan.store, Launch(
            time.time(), len(found.trials), found.seconds if whole else None, found.basis if whole else "",
            decoded=found.pictures_mb == 0 and bool(found.known)))
    except Exception as error:
        tell(Event("warning", f"no estimate: {type(error).__name__}: {error}"))


def end(plan: Plan, max_concurrent: int | None, tell: OnEvent) -> None:
    """Write how long the launch took, and what its finished trials tell for the next estimate."""
    try:
        launch = read(plan.store)
        if launch is not None:
            _end(plan, launch, max_concurrent)
    except Exception as error:
        tell(Event("warning", f"no figures for the next estimate: {type(error).__name__}: {error}"))


def _end(plan: Plan, launch: Launch, max_concurrent: int | None) -> None:
    from ablation.calibration import Calibration, finished_entries, seat

    trials = plan.trials if plan.search is None else plan.search.trials()
    states = {trial.key: plan.store.read_state(trial.key) for trial in trials}
    begun = {key: state for key, state in states.items() if (state.started or 0.0) >= launch.began}
    finished = {key for key, state in begun.items() if state.state is TrialState.FINISHED}
    _write(plan.store, dataclasses.replace(launch, ended=time.time(), finished=len(finished)))
    if not finished:
        return
    given = seat(plan, [trial for trial in trials if trial.key in begun], max_concurrent)
    calibration = Calibration(Store(plan.store.path.parent))
    calibration.add("finished", finished_entries(plan, [trial for trial in trials if trial.key in finished], given))
    if launch.decoded:
        calibration.add_launch(min(state.started or 0.0 for state in begun.values()) - launch.began)


def read(study: StudyStore) -> Launch | None:
    """The last launch, or None where there was none or its file is damaged."""
    record = read_dict(study.path / FILE)[0]
    try:
        expected = record.pop("expected")
        return Launch(**record, expected=None if expected is None else Range(**expected))
    except (KeyError, TypeError):
        return None


def told(study: StudyStore, now: float | None = None) -> str | None:
    """``estimated 4 min 10 s (3 min to 6 min), took 4 min 50 s: 16 % longer``; None where nothing was estimated."""
    launch = read(study)
    if launch is None or launch.expected is None:
        return None
    text = f"estimated {launch.expected} for {launch.trials} trial{'s' * (launch.trials != 1)} by {launch.basis}"
    if launch.ended is None:
        if study.lock_holder() is None:
            return f"{text}; the driver died before its end"
        return f"{text}; running for {duration((time.time() if now is None else now) - launch.began)}"
    took = launch.ended - launch.began
    if launch.finished < launch.trials:
        return f"{text}; {launch.finished} finished in {duration(took)}"
    off = took / launch.expected.mid - 1 if launch.expected.mid else 0.0
    error = f"{abs(off):.0%} {'longer' if off > 0 else 'shorter'}".replace("%", " %")
    return f"{text}, took {duration(took)}: {error}" + ("" if launch.expected.lo <= took <= launch.expected.hi
                                                        else ", outside the range")


def _write(study: StudyStore, launch: Launch) -> None:
    record: dict[str, Any] = dataclasses.asdict(launch)
    write_json(study.path / FILE, record, sync=False)
