"""What a search consists of: its cells, their candidates so far, and the trials on fresh seeds. No Optuna, no Ray."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ablation.candidates import Candidate, CellSearch, Outcome, final_numbers, objective_of
from ablation.distributions import OPTIONS, Categorical, Parameter, own_value
from ablation.errors import PlanError, SpecError
from ablation.halving import Halving
from ablation.ledger import PRUNED
from ablation.search_settings import FRESH_OFFSET, RECIPE
from ablation.spaces import load_space
from ablation.store import Store, TrialState
from trainers.config import Imbalance, OptimConfig
from trainers.names import short_name

if TYPE_CHECKING:
    from ablation.plan import Planner
    from ablation.search_settings import Search
    from ablation.spec import StudySpec
    from ablation.store import StudyStore
    from ablation.trial import Trial

CANDIDATE, FRESH = "candidate", "fresh"
"""Roles of trials in a study with a search."""
Cell = tuple[str, str, Imbalance]


class SearchPlan:
    """The growing part of a plan. Only the driver that holds the study's lock adds to it."""

    def __init__(self, spec: StudySpec, planner: Planner, store: StudyStore) -> None:
        assert spec.search is not None
        self.settings: Search = spec.search
        self.planner, self.store = planner, store
        self.fresh_seeds = self.settings.fresh_seeds or tuple(seed + FRESH_OFFSET for seed in spec.grid.seed)
        self.cells: list[Cell] = list(itertools.product(spec.grid.method, spec.grid.backbone, spec.grid.imbalance))
        planner.problems |= dict.fromkeys(self._problems(spec))
        self.recipe = {cell: tuple(planner.trial((*cell, seed)) for seed in self.fresh_seeds) for cell in self.cells}
        self.searches: list[CellSearch] = []
        self._tuned: dict[tuple[str, int], tuple[Trial, ...]] = {}
        for cell in self.cells:
            parameters = self._parameters(cell)
            trials = [planner.trial((*cell, seed)) for seed in self.settings.seeds]
            for metric in self.settings.metric:
                search = CellSearch(*cell, metric, parameters, known=self._known(cell, metric, parameters))
                search.sign([trial.key for trial in trials])
                self.searches.append(search)
        if not planner.problems:
            self.refresh()

    # --- what there is to train -------------------------------------------------------------------------------

    def fresh(self) -> list[tuple[str, Trial]]:
        """(arm, trial) on the fresh seeds: the recipe, and the winner of each search that has ended."""
        found = [(RECIPE, trial) for cell in self.cells for trial in self.recipe[cell]]
        for search in self.searches:
            if self.ended(search) and (winner := search.winner()):
                found += [(search.metric, trial) for trial in self._again(search, winner)]
        return found

    def _again(self, search: CellSearch, winner: Candidate) -> tuple[Trial, ...]:
        name = (search.digest, winner.number)
        if name not in self._tuned:
            cell = (search.method, search.backbone, search.imbalance)
            self._tuned[name] = tuple(self.planner.trial((*cell, seed), winner.settings) for seed in self.fresh_seeds)
        return self._tuned[name]

    def trials(self) -> tuple[Trial, ...]:
        """Each key once, candidates first."""
        found = {trial.key: trial for search in self.searches for candidate in search.candidates
                 for trial in candidate.trials.values()}
        return tuple((found | {trial.key: trial for _, trial in self.fresh()}).values())

    def pending(self) -> list[Trial]:
        """What is known to need training; a search may still add candidates."""
        found = {trial.key: trial for search in self.searches for candidate in search.candidates
                 if candidate.outcome is None for trial in candidate.trials.values()}
        found |= {trial.key: trial for _, trial in self.fresh()}
        return [trial for key, trial in found.items() if self.store.read_state(key).state is not TrialState.FINISHED]

    @property
    def most_trials(self) -> int:
        """How many trials there will be at most, as far as ``num_samples`` says."""
        searched = (self.settings.num_samples or 0) * len(self.settings.seeds) * len(self.searches)
        return searched + len(self.fresh_seeds) * (len(self.cells) + len(self.searches))

    @property
    def complete(self) -> bool:
        return all(self.ended(search) for search in self.searches) and not self.pending()

    def ended(self, search: CellSearch) -> bool:
        """Whether the budget is spent and every candidate has its outcome."""
        return self.exhausted(search) and all(candidate.outcome for candidate in search.candidates)

    def exhausted(self, search: CellSearch) -> bool:
        """No further candidate may be asked for."""
        settings, number = self.settings, len(search.candidates)
        spent = [candidate.outcome for candidate in search.candidates if candidate.outcome]
        return bool(search.dry or (settings.num_samples and number >= settings.num_samples)
                    or (settings.max_epochs and search.begun >= settings.max_epochs)
                    or (settings.gpu_seconds and sum(one.seconds for one in spent) >= settings.gpu_seconds))

    # --- growing ----------------------------------------------------------------------------------------------

    def add(self, search: CellSearch, settings: dict[str, Any], sampled: int | None) -> Candidate:
        """The next candidate. One that cannot be planned (a batch that does not fit …) has failed at once."""
        cell = (search.method, search.backbone, search.imbalance)
        before = dict(self.planner.problems)
        trials = {seed: self.planner.trial((*cell, seed), settings) for seed in self.settings.seeds}
        new = [problem for problem in self.planner.problems if problem not in before]
        self.planner.problems = before
        candidate = Candidate(len(search.candidates), settings, {} if new else trials, sampled)
        if new:
            candidate.outcome = Outcome(state="FAIL", reason=new[0])
        search.candidates.append(candidate)
        return candidate

    def reached(self, trial: Trial) -> int:
        """Whole epochs that a trial has done; one that its search has ended would begin anew."""
        if self.store.read_state(trial.key).reason == PRUNED["reason"]:
            return 0
        return max((record["epoch"] for record in self.store.read_history(trial.key)), default=0)

    def rows(self) -> list[dict[str, Any]]:
        """Lines of ``plan.json``."""
        rows: dict[str, dict[str, Any]] = {}
        for search in self.searches:
            for candidate in search.candidates:
                for trial in candidate.trials.values():
                    rows.setdefault(trial.key, trial.row() | {"role": CANDIDATE, "search": search.name})
        for _, trial in self.fresh():
            rows.setdefault(trial.key, trial.row() | {"role": FRESH})
        return list(rows.values())

    def record(self) -> dict[str, Any]:
        """``search`` of ``plan.json``."""
        return {"searches": [search.record() for search in self.searches],
                "fresh": [{"arm": arm, "key": trial.key} for arm, trial in self.fresh()]}

    def refresh(self) -> None:
        """Take up what the store says of candidates so far. Raises nothing: what does not fit is begun anew."""
        record = self.store.read_plan().get("search") or {}
        saved = {(entry.get("name"), entry.get("digest")): entry for entry in record.get("searches", ())}
        for search in self.searches:
            entry = saved.get((search.name, search.digest), {})
            search.candidates = []
            for line in entry.get("candidates", ()):
                candidate = self.add(search, line["settings"], line["sampled"])
                if line["outcome"]:
                    candidate.outcome = Outcome(**line["outcome"])
                else:
                    candidate.begun = {int(seed): self.reached(candidate.trials[int(seed)]) for seed in line["begun"]}
            search.dry = bool(entry.get("dry"))

    # --- spaces and problems ----------------------------------------------------------------------------------

    def _parameters(self, cell: Cell) -> tuple[Parameter, ...]:
        """The method's space without what the study sets itself, and without batches that a subset cannot fill."""
        method, backbone, _ = cell
        try:
            space = load_space(method, self.settings.space)
        except SpecError as error:
            raise PlanError([f"search.space: {line}" for line in str(error).splitlines()]) from None
        trials = [self.planner.trial((*cell, seed)) for seed in self.settings.seeds]
        train = self.planner.written((*cell, self.settings.seeds[0]))
        images = min((trial.subset.num_images for trial in trials if trial.subset), default=0)
        found = tuple(self._feasible(parameter, images) for parameter in space.for_backbone(backbone)
                      if not _is_set(train, parameter.path))
        parameters = tuple(parameter for parameter in found if parameter)
        if not parameters:
            self.planner.problems["search.space: the study itself sets every field that the space of "
                                  f"{short_name(method)} has for {short_name(backbone)}; leave one open"] = None
        return parameters

    def _feasible(self, parameter: Parameter, images: int) -> Parameter | None:
        ranks, found = self.planner.spec.resources.num_workers, parameter.distribution
        if parameter.path != "train.batch_size" or not isinstance(found, Categorical):
            return parameter
        choices = tuple(size for size in found.choices
                        if isinstance(size, int) and size <= images and size % ranks == 0)
        if len(choices) < 2:
            return None
        return dataclasses.replace(parameter, distribution=Categorical(choices))

    def _problems(self, spec: StudySpec) -> Iterator[str]:
        search, every = self.settings, spec.evaluation.every
        if both := sorted(set(search.seeds) & set(self.fresh_seeds)):
            yield (f"search.fresh_seeds: {both[0]} is among search.seeds too, where the winner is chosen; "
                   "set other fresh_seeds")
        if search.scheduler is None:
            return
        if every is None and set(search.metric) != {"train/loss"}:
            yield (f"evaluation.every: is null, so that search.scheduler {search.scheduler} never sees a score; set it "
                   "to the epochs between two scores, for example 1")
        elif search.scheduler == "asha" and not Halving(search.grace_epochs, search.reduction_factor, every or 1,
                                                        spec.train.epochs).rungs:
            yield (f"search.grace_epochs: {search.grace_epochs} leaves no rung below train.epochs {spec.train.epochs}; "
                   "lower it, or evaluation.every")

    def _known(self, cell: Cell, metric: str,
               parameters: tuple[Parameter, ...]) -> list[tuple[dict[str, Any], float, str]]:
        """Finished trials of the studies in ``warm_start`` with the same cell, data, budget and evaluation."""
        found = []
        mine = self.recipe[cell][0].config
        for name in self.settings.warm_start:
            if name == RECIPE:
                continue
            other = Store(self.store.path.parent).study(name)
            if not other.exists:
                root = self.store.path.parent
                self.planner.problems[f"search.warm_start: there is no study '{name}' in {root}"] = None
                continue
            for row in other.read_plan()["trials"]:
                shown = (short_name(cell[0]), short_name(cell[1]), cell[2])
                if (row.get("method"), row.get("backbone"), row.get("imbalance")) != shown:
                    continue
                trial = other.read_trial(row["key"])
                config = trial.get("config") or {}
                value = objective_of(final_numbers(other, row["key"]), metric)
                if value is None or trial.get("data_digest") != self.planner.index.digest:
                    continue
                if config["train"]["epochs"] != mine.train.epochs or (
                        config["data"]["image_size"] != mine.data.image_size) or (
                        config.get("plugins", {}) != mine.plugins):
                    continue
                found.append(({p.path: _value(config["train"], p.path) for p in parameters}, value, row["key"]))
        return found


def _is_set(train: OptimConfig, path: str) -> bool:
    """Whether the study file gives the field a value of its own."""
    if path.startswith(OPTIONS):
        return path.removeprefix(OPTIONS) in train.options
    name = path.removeprefix("train.")
    return bool(getattr(train, name) != getattr(OptimConfig(), name))


def _value(train: Mapping[str, Any], path: str) -> Any:
    if path.startswith(OPTIONS):
        return (train.get("options") or {}).get(path.removeprefix(OPTIONS))
    return train.get(path.removeprefix("train."))


def recipe_values(search: CellSearch, trial: Trial) -> dict[str, Any]:
    """Searched field -> what it is in the recipe; None where the method decides it."""
    train = dataclasses.asdict(trial.config.train)
    values = {}
    for parameter in search.parameters:
        value = _value(train, parameter.path)
        if value is None and parameter.path.startswith(OPTIONS):
            value = own_value(search.method, search.backbone, parameter.path)
        values[parameter.path] = value
    return values
