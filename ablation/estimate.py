"""What a study will cost on this machine, before it runs, and how far off that was.

A trial takes ``fixed + steps * step + evaluations * pictures * rate``. The numbers come from trials of its kind that
finished on this machine, else from its calibration (``ablation.calibration``). Every time is a range: from the spread
of what was measured, but never narrower than ``LEAST_SPREAD``. The study's time lets trials follow each other on as
many places as the machine has.
"""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablation.calibration import Calibration, Seat, cost_kind, kind_text, local_machines, measure as measure_kinds, seat
from ablation.durations import Range
from ablation.placement import share
from ablation.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from ablation.plan import Plan
    from ablation.trial import Trial

LEAST_SPREAD = {"calibration": 0.15, "finished trials": 0.07}
"""Half a range, relative: what two runs of equal trials differ by on a quiet machine, and what a few steps miss."""
RAY_SECONDS = 6.0
"""A local Ray and Tune, until the first run here has told."""
GAP_SECONDS = 0.4
"""Between two trials in one warm process (docs/architecture.md)."""
DRAWING_SPEEDUP = 0.7
"""Of decoding by all cores, per core."""
QUIET = 0.85
"""Least ``cpu_share`` that is not worth a word."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What trials of one kind cost, and how that is known."""

    step: Range
    fixed: Range
    embed: Range
    """Seconds of evaluation per embedded picture."""
    peak_mb: float
    files_mb: float
    checkpoint_mb: float
    basis: str
    count: int
    """Steps measured, or trials finished."""
    cpu_share: float = 1.0
    """Less than 1: the machine was busy with other things during the measurement."""


@dataclass(frozen=True, kw_only=True)
class TrialEstimate:
    """MiB, seconds, hours of GPU."""

    trial: Trial
    seconds: Range
    gpu_hours: float
    memory_mb: float
    disk_mb: float
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Of the trials that are not FINISHED. ``seconds`` is what a person waits, up to the end of the last trial."""

    trials: tuple[Trial, ...]
    """In plan order."""
    known: tuple[TrialEstimate, ...]
    problems: tuple[str, ...]
    seat: Seat
    seconds: Range
    pictures_mb: float
    """Decoded pictures that the cache lacks."""
    searched: bool = False
    """A search draws more trials than are known: ``seconds`` is for all that it may draw, the sums are not."""

    @property
    def unknown(self) -> list[Trial]:
        """Those of kinds that nothing is known of."""
        keys = {entry.trial.key for entry in self.known}
        return [trial for trial in self.trials if trial.key not in keys]

    @property
    def memory_mb(self) -> float:
        """Of all ranks that run at once."""
        largest = max((entry.memory_mb for entry in self.known), default=0.0)
        return largest * self.seat.at_once * self.seat.num_workers

    @property
    def disk_mb(self) -> float:
        """In the store at the end, and the checkpoints of what runs at once."""
        checkpoints = max((2 * entry.cost.checkpoint_mb for entry in self.known), default=0.0)
        return sum(entry.disk_mb for entry in self.known) + checkpoints * self.seat.at_once

    @property
    def gpu_hours(self) -> float:
        return sum(entry.gpu_hours for entry in self.known)

    @property
    def basis(self) -> str:
        """``calibration``, ``finished trials`` or both with their numbers of trials."""
        counts = Counter(entry.cost.basis for entry in self.known)
        return next(iter(counts)) if len(counts) == 1 else ", ".join(f"{n} by {name}" for name, n in counts.items())

    def to_frame(self) -> pd.DataFrame:
        """One row per trial in plan order; NaN where nothing is known. ``attrs["study"]`` has the sums."""
        import pandas as pd

        costs = {entry.trial.key: {
            "seconds": entry.seconds.mid, "seconds_lo": entry.seconds.lo, "seconds_hi": entry.seconds.hi,
            "gpu_hours": entry.gpu_hours, "memory_mb": entry.memory_mb, "disk_mb": entry.disk_mb,
            "basis": entry.cost.basis, "measured": entry.cost.count} for entry in self.known}
        rows = [{"key": trial.key, "method": trial.method, "backbone": trial.backbone, "imbalance": trial.imbalance,
                 "seed": trial.seed, "basis": ""} | costs.get(trial.key, {}) for trial in self.trials]
        columns = ["key", "method", "backbone", "imbalance", "seed", "seconds", "seconds_lo", "seconds_hi", "gpu_hours",
                   "memory_mb", "disk_mb", "basis", "measured"]
        frame = pd.DataFrame(rows, columns=columns).astype({"measured": "Int64"})
        frame.attrs["study"] = self.summary()
        return frame

    def summary(self) -> dict[str, Any]:
        """The study as a whole, as plain data."""
        return {"trials": len(self.trials), "unknown": len(self.unknown),
                "at_once": self.seat.at_once, "seconds": self.seconds.mid, "seconds_lo": self.seconds.lo,
                "seconds_hi": self.seconds.hi, "gpu_hours": self.gpu_hours, "memory_mb": self.memory_mb,
                "disk_mb": self.disk_mb, "pictures_mb": self.pictures_mb, "basis": self.basis}

    def kinds_frame(self) -> pd.DataFrame:
        """For people: one row per kind of trial."""
        import pandas as pd

        kinds: dict[str, list[TrialEstimate]] = {}
        for entry in self.known:
            kinds.setdefault(kind_text(cost_kind(entry.trial)), []).append(entry)
        rows = []
        for text, entries in kinds.items():
            typical = sorted(entries, key=lambda entry: entry.seconds.mid)[len(entries) // 2]
            cost = typical.cost
            noun = "steps" if cost.basis == "calibration" else "finished trials"
            rows.append({"kind": text, "trials": len(entries), "a trial takes": str(typical.seconds),
                         "a step": f"{cost.step.mid:.3g} s", "memory": size(typical.memory_mb),
                         "disk": size(typical.disk_mb), "from": f"{cost.count} {noun}"})
        return pd.DataFrame(rows)

    def lines(self) -> list[str]:
        """What a person wants to know, one sentence a line."""
        if not self.known:
            return [*self.problems]
        one = self.seat.at_once == 1
        gpus = f", {self.gpu_hours:.2g} GPU-hours" if self.gpu_hours else ""
        most = "at most " if self.searched else ""
        found = [f"estimate: {most}{self.seconds} here, {self.seat.at_once} trial{'' if one else 's'} at once"
                 f"{gpus}; memory {size(self.memory_mb)}, disk {size(self.disk_mb)} in the store"
                 + (f" and {size(self.pictures_mb)} of decoded pictures" if self.pictures_mb >= 1 else "")
                 + f"; by {self.basis}"]
        if self.unknown:
            kinds = dict.fromkeys(kind_text(cost_kind(trial)) for trial in self.unknown)
            found.append(f"not in it: {len(self.unknown)} trial(s) that nothing is known of ({'; '.join(kinds)})")
        share = statistics.mean(entry.cost.cpu_share for entry in self.known)
        if share < QUIET:
            found.append(f"this machine was busy when it was measured: trials had {share:.0%} of their CPUs, and take "
                         "about that share of the time on a quiet one")
        return [*found, *self.problems]


def size(mb: float) -> str:
    """MiB for people."""
    return f"{mb / 1024:.1f} GiB" if mb >= 1000 else f"{mb:.0f} MiB"


def estimate(plan: Plan, *, measure: bool = False, max_concurrent: int | None = None,
             say: Callable[[str], None] = lambda line: None) -> Estimate:
    """Of what is pending. Instant unless ``measure``.

    Raises ``PlanError`` where this machine can never hold a trial.
    """
    store = Store(plan.store.path.parent)
    problems = measure_kinds(plan, store, say) if measure else []
    pending, calibration = plan.pending(), Calibration(store)
    if not pending:
        nothing = Seat(1, 0.0, 1, 1)
        return Estimate(trials=(), known=(), problems=(), seat=nothing, seconds=Range(0, 0, 0), pictures_mb=0.0)
    given = seat(plan, pending, max_concurrent)
    costs: dict[str, Cost | None] = {}
    known = []
    cells: set[Any] = set()
    for trial in pending:
        kind = repr(cost_kind(trial))
        if kind not in costs:
            costs[kind] = _cost(calibration, trial, given)
        cost = costs[kind]
        if cost is None:
            continue
        cell = (trial.backbone, trial.seed, trial.subset.digest if trial.subset else "")
        known.append(_trial_estimate(plan, trial, cost, given, first=cell not in cells))
        cells.add(cell)
    pictures_mb, pictures_seconds = _pictures(plan, pending, calibration) if known else (0.0, 0.0)
    seconds = Range(0, 0, 0)
    if known:
        seconds = _study_seconds(_with_candidates(plan, known), given, calibration, pictures_seconds)
    if plan.search is not None and known and not plan.search.settings.num_samples:
        problems.append("search.num_samples is null: what the search draws from now on is not in it")
    return Estimate(trials=tuple(pending), known=tuple(known), problems=tuple(problems), seat=given, seconds=seconds,
                    pictures_mb=pictures_mb, searched=plan.search is not None)


def _with_candidates(plan: Plan, known: Sequence[TrialEstimate]) -> list[TrialEstimate]:
    """Those of a search that nobody has drawn yet, taken to cost what is known: at most, since it ends poor ones."""
    if plan.search is None:
        return list(known)
    drawn = {trial.key for trial in plan.search.trials()}
    more = max(0, plan.search.most_trials - len(drawn))
    return [*known, *itertools.islice(itertools.cycle(known), more)]


def _cost(calibration: Calibration, trial: Trial, given: Seat) -> Cost | None:
    """From finished trials where there are any, since they saw what a calibration cannot: the load of a whole study."""
    finished = _nearest(calibration.entries(trial, "finished"), given)
    measured = _nearest(calibration.entries(trial, "measured"), given)
    if not (finished or measured):
        return None
    basis, entries = ("finished trials", finished) if finished else ("calibration", measured[-1:])
    least = LEAST_SPREAD[basis]
    steps = [step for entry in entries for step in entry["steps"]]
    # More threads make a trial faster by something between nothing and their number. A machine that was busy with
    # other things may be so again or not.
    threads = entries[-1]["cpus"] / given.cpus
    stretch = (min(1.0, threads) * entries[-1].get("cpu_share", 1.0), max(1.0, threads))
    checkpoint = max((entry["checkpoint_mb"] for entry in measured), default=3 * max(e["files_mb"] for e in entries))
    return Cost(
        step=Range.of(steps, least, stretch),
        fixed=Range.of([entry.get("fixed", entry.get("setup", 0.0)) for entry in entries], least, stretch),
        embed=Range.of([entry["conclude"] / max(1, entry["num_embedded"]) for entry in entries], least, stretch),
        peak_mb=max(entry["peak_mb"] or 0.0 for entry in entries), files_mb=max(entry["files_mb"] for entry in entries),
        checkpoint_mb=checkpoint, basis=basis, count=len(steps),
        cpu_share=entries[-1].get("cpu_share", 1.0))


def _nearest(entries: Sequence[dict[str, Any]], given: Seat) -> list[dict[str, Any]]:
    """Those that ran as trials will run now; where there are none, those on the same device with as many ranks."""
    alike = [entry for entry in entries
             if entry["num_workers"] == given.num_workers and bool(entry["gpus"]) == bool(given.gpus)]
    equal = [entry for entry in alike if entry["cpus"] == given.cpus and entry["at_once"] == given.at_once]
    return equal or alike


def _trial_estimate(plan: Plan, trial: Trial, cost: Cost, given: Seat, first: bool) -> TrialEstimate:
    config, images = trial.config, trial.subset.num_images if trial.subset else 0
    epochs, every = config.train.epochs, config.evaluation.every
    steps = epochs * (images // (config.train.batch_size or 1))
    evaluations = 1 + ((epochs - 1) // every if every else 0)
    # The first trial of a cell also scores the untrained backbone, on training and test pictures.
    pictures = evaluations * plan.num_embedded(trial) + (images + config.evaluation.max_images // 2 if first else 0)
    pictures = min(pictures, (evaluations + first) * plan.num_embedded(trial))
    seconds = cost.fixed + cost.step * steps + cost.embed * pictures + Range(GAP_SECONDS, GAP_SECONDS, GAP_SECONDS)
    ranks = given.num_workers
    return TrialEstimate(trial=trial, seconds=seconds, gpu_hours=seconds.mid * given.gpus * ranks / 3600,
                         memory_mb=cost.peak_mb, disk_mb=2 * cost.files_mb, cost=cost)


def _pictures(plan: Plan, pending: Sequence[Trial], calibration: Calibration) -> tuple[float, float]:
    """MiB and seconds of the decoded pictures that are not in the cache yet."""
    from trainers.data.cache import Cache, default_cache_dir, num_cores

    one = float(calibration.content["pictures"].get(plan.data_digest, 0.0))
    mb = seconds = 0.0
    for side in {trial.config.data.resolved_cache_size for trial in pending}:
        missing = Cache.open(plan.dataset, side, default_cache_dir()).num_missing(plan.needed)
        mb += missing * 3 * side * side / 2**20
        seconds += missing * one / max(1.0, DRAWING_SPEEDUP * num_cores())
    return mb, seconds


def _study_seconds(known: Sequence[TrialEstimate], given: Seat, calibration: Calibration, pictures: float) -> Range:
    launches = calibration.content["launches"]
    start = statistics.median(launches) if launches else RAY_SECONDS + max(
        (entry.get("start", 0.0) for found in calibration.content["kinds"].values()
         for entry in found["measured"].values()), default=RAY_SECONDS)
    packed = given.at_once * _trials_per_card(known, given)
    return Range(0.8 * start + 0.7 * pictures + makespan((entry.seconds.lo for entry in known), packed),
                 start + pictures + makespan((entry.seconds.mid for entry in known), given.at_once),
                 1.3 * start + 1.5 * pictures + makespan((entry.seconds.hi for entry in known), given.at_once))


def _trials_per_card(known: Sequence[TrialEstimate], given: Seat) -> int:
    """How many trials will share a card once the first of each kind has run; what that brings is not known before."""
    card_mb = local_machines().card_mb
    if given.gpus != 1.0 or given.num_workers > 1 or card_mb is None:
        return 1
    return max(1, int(1 / max(share(entry.memory_mb, card_mb) for entry in known) + 1e-3))


def makespan(seconds: Iterable[float], places: int) -> float:
    """When the last one ends if each starts, in order, at the first place that is free."""
    free = [0.0] * places
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)
