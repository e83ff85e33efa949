"""A search under way: which trial comes next, and what every epoch of a trial means for it. No Ray, no Optuna.

Everything here happens between two epochs of a trial: Tune begins the next one only after ``epoch_ended`` returned, so
that a budget of epochs is kept exactly. What is decided is in the store before anything follows from it.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ablation.candidates import (
    COMPLETE,
    FAIL,
    PRUNED,
    Candidate,
    CellSearch,
    Outcome,
    curve,
    final_numbers,
    objective_of,
    outcome_of,
    train_seconds,
    turned,
)
from ablation.errors import SpecError
from ablation.halving import Halving, MedianRule, Pruner
from ablation.ledger import ASKED
from ablation.sampler import Sampler, Told, open_storage
from ablation.search_plan import recipe_values
from ablation.search_settings import RECIPE
from ablation.store import Store, TrialState

if TYPE_CHECKING:
    from ablation.plan import Plan
    from ablation.results import StudyResults
    from ablation.spec import StudySpec
    from ablation.trial import Trial

FUTILE = 50
"""So many candidates that failed before their first epoch end a search: its space fits nothing."""


def search(spec: StudySpec, store: Store | str | Path | None = None, **options: Any) -> StudyResults:
    """Plan and run a study with ``search:``; ``options`` as of ``ablation.run``. Blocks; goes on where it was killed.

    Winners: ``results.best_recipes()``; candidates: ``results.search_dataframe()``. Raises ``SpecError`` for a study
    without a search, otherwise what ``ablation.plan`` and ``ablation.run`` raise.
    """
    from ablation.driver import run_plan
    from ablation.plan import plan

    if spec.search is None:
        raise SpecError(f"study '{spec.name}' has no search; add search: {{num_samples: 50}}, or use ablation.run")
    return run_plan(plan(spec, store=store), **options)


class SearchRun:
    """One driver's view of all searches of a study. Raises ``ServiceUnavailable`` without its Optuna storage."""

    def __init__(self, plan: Plan, warn: Callable[[str], None]) -> None:
        assert plan.search is not None
        self.planned, self.plan, self.study, self.warn = plan, plan.search, plan.store, warn
        self.settings = self.plan.settings
        self.running: set[str] = set()
        self.begun: dict[str, Trial] = {}
        """Every trial that this launch has handed out."""
        self._over: set[str] = set()  # keys that this launch may not begin again
        self._winners: set[str] = set()
        storage = open_storage(plan.study_dir)
        self.samplers = {search.name: self._sampler(storage, search) for search in self.plan.searches}
        self.pruners = {search.name: self._pruner(search) for search in self.plan.searches}
        for search in self.plan.searches:
            self._take_up(search)

    @property
    def most_at_once(self) -> int:
        """How many trials could be trained at the same time."""
        each = self.settings.num_samples or 2 ** 10
        return len(self.plan.searches) * each * len(self.settings.seeds)

    # --- what comes next --------------------------------------------------------------------------------------

    def next(self) -> Trial | None:
        """A trial to begin now; None when there is nothing, or nothing before a running trial has ended."""
        for search in sorted(self.plan.searches, key=lambda search: (self._in_flight(search), search.begun)):
            if trial := self._next_of(search):
                return self._begin(trial)
        for _, trial in self.plan.fresh():
            if self._startable(trial):
                return self._begin(trial)
        return None

    def _next_of(self, search: CellSearch) -> Trial | None:
        for candidate in search.candidates:
            if candidate.outcome is None and (trial := self._next_seed(search, candidate)):
                return trial
        while not self.plan.exhausted(search):
            asked = self._ask(search)
            search.dry = asked is None
            self.planned.write_rows()
            if asked and asked.outcome is None and (trial := self._next_seed(search, asked)):
                return trial
        return None

    def _next_seed(self, search: CellSearch, candidate: Candidate) -> Trial | None:
        """The first of a candidate's trials that waits. Those that another search trains or has trained are shared."""
        for seed, trial in candidate.trials.items():
            if trial.key in self._over and (reason := self._failure(trial)):  # in the hands of another search
                self._close(search, candidate, FAIL, reason)
                return None
            if seed not in candidate.begun and not self._share(search, candidate, seed):
                return None
            if self._startable(trial):
                if not self._charge_next(search, candidate, seed):
                    self._close(search, candidate, PRUNED, "budget")
                    return None
                return trial
        self._finish(search, candidate)
        return None

    def _share(self, search: CellSearch, candidate: Candidate, seed: int) -> bool:
        """Walk through what is there already of a trial as if it were trained now; False if the candidate ended."""
        trial = candidate.trials[seed]
        for epoch in range(1, self.plan.reached(trial) + 1):
            if not self._left(search):
                self._close(search, candidate, PRUNED, "budget")
                return False
            candidate.begun[seed] = epoch
            if epoch < trial.config.train.epochs and self._prunes(search, candidate, seed, epoch):
                self._close(search, candidate, PRUNED, str(self.settings.scheduler))
                return False
        if trial.key in self.running and not self._charge_next(search, candidate, seed):
            self._close(search, candidate, PRUNED, "budget")
            return False
        return True

    def _charge_next(self, search: CellSearch, candidate: Candidate, seed: int) -> bool:
        """Charge the epoch that the trial begins now, if any is left of it; False where the budget has none."""
        trial = candidate.trials[seed]
        reached = self.plan.reached(trial)
        if reached < trial.config.train.epochs:
            if not self._left(search):
                return False
            reached += 1
        candidate.begun[seed] = reached
        return True

    def _startable(self, trial: Trial) -> bool:
        if trial.key in self.running or trial.key in self._over:
            return False
        return self.study.read_state(trial.key).state is not TrialState.FINISHED

    def _failure(self, trial: Trial) -> str | None:
        status = self.study.read_state(trial.key)
        return (status.reason or "failed") if status.state is TrialState.FAILED else None

    def _begin(self, trial: Trial) -> Trial:
        self.running.add(trial.key)
        self.begun[trial.key] = trial
        self.study.write_trial(trial.key, trial.record())
        self.planned.write_rows()
        return trial

    def _ask(self, search: CellSearch) -> Candidate | None:
        sampler = self.samplers[search.name]
        if not search.candidates and RECIPE in self.settings.warm_start and self.settings.sampler != "grid":
            candidate = self.plan.add(search, {}, None)
            if candidate.trials:
                trial = candidate.trials[self.settings.seeds[0]]
                candidate.sampled = sampler.add(recipe_values(search, trial))
            return candidate
        if len(search.candidates) >= FUTILE and not search.begun:
            self.warn(f"search {search.name}: its first {FUTILE} candidates failed before they began; it ends")
            return None
        asked = sampler.ask(len(search.candidates))
        if asked is None:
            return None
        number, settings = asked
        candidate = self.plan.add(search, settings, number)
        if candidate.outcome:
            sampler.tell(number, Told())
        return candidate

    # --- what happened ----------------------------------------------------------------------------------------

    def epoch_ended(self, key: str, epoch: int) -> None:
        """Charge the next epoch to every search that wants it; a trial that none wants is asked to end."""
        wanted = any(trial.key == key for _, trial in self.plan.fresh())
        for search, candidate, seed in list(self._attached(key)):
            last = epoch >= candidate.trials[seed].config.train.epochs
            if not last and self._prunes(search, candidate, seed, epoch):
                self._close(search, candidate, PRUNED, str(self.settings.scheduler))
            elif not last and not self._left(search):
                self._close(search, candidate, PRUNED, "budget")
            else:
                candidate.begun[seed] = max(candidate.begun.get(seed, 0), epoch + (not last))
                wanted = True
        if not wanted:
            self.study.request_stop(key, "pruned")

    def ended(self, key: str) -> None:
        """The trial has ended, in whichever state."""
        self.running.discard(key)
        status = self.study.read_state(key)
        if status.state is TrialState.FAILED or status.reason == ASKED["reason"]:
            self._over.add(key)
        for search, candidate, _ in list(self._attached(key)):
            if status.state is TrialState.FAILED:
                self._close(search, candidate, FAIL, status.reason or "failed")
            else:
                self._finish(search, candidate)

    def _attached(self, key: str) -> Iterator[tuple[CellSearch, Candidate, int]]:
        for search in self.plan.searches:
            for candidate in search.candidates:
                if candidate.outcome is None:
                    for seed, trial in candidate.trials.items():
                        if trial.key == key and seed in candidate.begun:
                            yield search, candidate, seed

    def _in_flight(self, search: CellSearch) -> int:
        return sum(trial.key in self.running for candidate in search.candidates if candidate.outcome is None
                   for trial in candidate.trials.values())

    def _left(self, search: CellSearch) -> bool:
        """Whether the search may begin one more epoch."""
        settings = self.settings
        if settings.max_epochs and search.begun >= settings.max_epochs:
            return False
        return not settings.gpu_seconds or self._seconds(search) < settings.gpu_seconds

    def _prunes(self, search: CellSearch, candidate: Candidate, seed: int, epoch: int) -> bool:
        pruner = self.pruners[search.name]
        if pruner is None:
            return False
        value = curve(self.study.read_history(candidate.trials[seed].key), search.metric).get(epoch)
        if value is None:
            return False
        weak = pruner.prunes(seed, epoch, str(candidate.number), turned(value, search.metric))
        return weak and candidate.settings != {}  # the recipe runs to its end

    def _finish(self, search: CellSearch, candidate: Candidate) -> None:
        """Complete the candidate once all of its trials are finished."""
        keys = [trial.key for trial in candidate.trials.values()]
        if any(self.study.read_state(key).state is not TrialState.FINISHED for key in keys):
            return
        values = [objective_of(final_numbers(self.study, key), search.metric) for key in keys]
        if any(value is None for value in values):
            self._close(search, candidate, FAIL, f"no {search.metric}")
        else:
            self._close(search, candidate, COMPLETE)

    def _close(self, search: CellSearch, candidate: Candidate, state: str, reason: str = "") -> None:
        seconds = self._candidate_seconds(candidate)
        candidate.outcome = outcome_of(self.study, search.metric, candidate, state, reason, seconds, self.settings.cost)
        if candidate.sampled is not None:
            self.samplers[search.name].tell(candidate.sampled, self._told(search, candidate.outcome))
        self.planned.write_rows()
        if self.plan.ended(search) and search.winner() is None and search.name not in self._winners:
            self._winners.add(search.name)
            self.warn(f"search {search.name}: no candidate was completed, so there is no winner")

    def _told(self, search: CellSearch, outcome: Outcome) -> Told:
        if outcome.value is None or outcome.state == FAIL or (self.settings.cost and outcome.cost is None):
            return Told()
        values = (_shown(outcome.value, search.metric), *([outcome.cost] if outcome.cost is not None else []))
        return Told(values, outcome.epoch if outcome.state == PRUNED else None)

    def _seconds(self, search: CellSearch) -> float:
        return sum(candidate.outcome.seconds if candidate.outcome else self._candidate_seconds(candidate)
                   for candidate in search.candidates)

    def _candidate_seconds(self, candidate: Candidate) -> float:
        ranks = self.planned.spec.resources.num_workers
        return ranks * sum(
            train_seconds(self.study.read_history(trial.key), trial.subset.num_images, candidate.begun.get(seed, 0))
            for seed, trial in candidate.trials.items() if trial.subset)

    # --- taking up what an earlier driver left ----------------------------------------------------------------

    def _sampler(self, storage: Any, search: CellSearch) -> Sampler:
        directions: list[Literal["minimize", "maximize"]] = [
            "minimize" if turned(1.0, search.metric) < turned(0.0, search.metric) else "maximize"]
        if self.settings.cost:
            directions.append("minimize")
        return Sampler(storage, f"{self.study.name}/{search.name}/{search.digest}", search.cell, self.settings,
                       search.parameters, directions)

    def _pruner(self, search: CellSearch) -> Pruner | None:
        settings, config = self.settings, self.plan.recipe[search.method, search.backbone, search.imbalance][0].config
        if settings.scheduler is None:
            return None
        if settings.scheduler == "median":
            return MedianRule(settings.grace_epochs, settings.n_startup)
        every = 1 if search.metric == "train/loss" else config.evaluation.every or 1
        return Halving(settings.grace_epochs, settings.reduction_factor, every, config.train.epochs)

    def _take_up(self, search: CellSearch) -> None:
        """Tell Optuna and the pruner what they missed, and close what ended while no driver looked."""
        sampler = self.samplers[search.name]
        if not sampler.study.get_trials(deepcopy=False) and not self.settings.cost:
            for settings, value, key in search.known:
                sampler.add(settings, Told((_shown(value, search.metric),)), key)
        for candidate in search.candidates:
            if candidate.trials and not sampler.has(candidate.sampled):  # its database was lost
                trial = candidate.trials[self.settings.seeds[0]]
                candidate.sampled = sampler.add(candidate.settings or recipe_values(search, trial))
            if candidate.outcome and candidate.sampled is not None and sampler.has(candidate.sampled):
                sampler.tell(candidate.sampled, self._told(search, candidate.outcome))
            for seed, trial in candidate.trials.items():
                reached = candidate.outcome.epoch if candidate.outcome else candidate.begun.get(seed, 0)
                for epoch in range(1, min(reached, trial.config.train.epochs - 1) + 1):
                    self._prunes(search, candidate, seed, epoch)
            if candidate.outcome is None and (
                    failed := [reason for trial in candidate.trials.values() if (reason := self._failure(trial))]):
                self._close(search, candidate, FAIL, failed[0])
        sampler.forget_strangers({one.sampled for one in search.candidates if one.sampled is not None})


def _shown(value: float, metric: str) -> float:
    """The value as Optuna sees it: as measured, but for what is best near 1."""
    return turned(value, metric) if metric == "label_free/alpha_req" else value


class _CallableModule(types.ModuleType):
    """``ablation.search`` is the module and the call, as ``ablation.plan`` is."""

    def __call__(self, spec: StudySpec, store: Store | str | Path | None = None, **options: Any) -> StudyResults:
        return search(spec, store, **options)


sys.modules[__name__].__class__ = _CallableModule
