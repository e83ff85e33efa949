"""From a study to its trials: resolve every cell, cut every subset, name every problem, before anything is trained.

Adding methods, levels or seeds to a study leaves the keys of its other trials as they are, as long as
``imbalance.total`` is given: null means the largest total that all levels can meet, which depends on them.
"""

from __future__ import annotations

import dataclasses
import itertools
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation import plan_checks
from ablation.errors import DataError, PlanError, SpecError
from ablation.spec import SECTIONS, StudySpec
from ablation.store import Store, StudyStore, TrialState
from ablation.trial import SubsetCounts, Trial, canonical, trial_key
from trainers import plugins
from trainers.config import (
    ConfigError,
    DataConfig,
    Imbalance,
    ImbalanceConfig,
    OptimConfig,
    TrainConfig,
    decode,
)
from trainers.names import short_name
from trainers.recipes import resolve_train

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ablation.search_plan import SearchPlan
    from trainers.data.imbalance import Subset
    from trainers.data.index import AbstractDataset

Cell = tuple[str, str, Imbalance, int]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The trials of a study in grid order, tied to its place in a store."""

    spec: StudySpec
    trials: tuple[Trial, ...]
    data_digest: str
    problems: tuple[str, ...]
    """Empty, unless the plan comes out of a ``PlanError``."""
    store: StudyStore
    dataset: AbstractDataset = field(repr=False, compare=False)
    needed: np.ndarray = field(repr=False, compare=False)
    """Positions in the data set's index of all pictures that any trial looks at, ascending."""
    embedded: dict[str, int] = field(repr=False, compare=False)
    """By digest of a subset: pictures that one evaluation looks at."""
    search: SearchPlan | None = None
    """Of a study with ``search``; then ``trials`` are those that were known when it was planned."""

    @property
    def study_dir(self) -> Path:
        return self.store.path

    def states(self) -> dict[str, TrialState]:
        return {trial.key: self.store.read_state(trial.key).state for trial in self.trials}

    def pending(self) -> list[Trial]:
        """Planned and not FINISHED, in plan order: failed, stopped and interrupted trials are among them.

        Of a search only what is known so far, and nothing that it has ended early.
        """
        if self.search is not None:
            return self.search.pending()
        states = self.states()
        return [trial for trial in self.trials if states[trial.key] is not TrialState.FINISHED]

    def num_embedded(self, trial: Trial) -> int:
        """Pictures and augmented views that one evaluation of a trial puts through its encoder."""
        settings = trial.config.evaluation
        views = min(settings.view_images, settings.max_images) * settings.views_per_image
        return views + (self.embedded.get(trial.subset.digest, 0) if trial.subset else 0)

    def estimate(self, measure: bool = True) -> pd.DataFrame:
        """What each trial that is not FINISHED will cost on this machine: seconds, memory, disk, GPU-hours, how sure.

        ``measure`` runs a few steps of each kind of trial that neither an earlier measurement nor finished trials in
        the store know; else such trials have NaN. The study as a whole: ``frame.attrs["study"]``. See
        ``ablation.estimate``. Raises ``PlanError`` where this machine can never hold a trial.
        """
        from ablation.estimate import estimate

        return estimate(self, measure=measure).to_frame()

    def to_frame(self) -> pd.DataFrame:
        """One row per trial: key, state, method, backbone, imbalance, seed, num_defects, num_normals."""
        import pandas as pd

        states = self.states()
        rows = [{"key": trial.key, "state": str(states[trial.key])} | trial.row() for trial in self.trials]
        frame = pd.DataFrame(rows)
        return frame.astype({"num_defects": "Int64", "num_normals": "Int64"})

    def level_counts(self) -> pd.DataFrame:
        """One row per level: trials, and images, defects, normals of one trial (the smallest where they differ)."""
        import pandas as pd

        rows = []
        for level in self.spec.grid.imbalance:
            trials = [trial for trial in self.trials if trial.imbalance == level]
            subsets = [trial.subset for trial in trials if trial.subset]
            least = min(subsets, key=lambda subset: subset.num_images, default=None)
            rows.append({"imbalance": level, "trials": len(trials), "images": least.num_images if least else None,
                         "defects": least.num_defects if least else None,
                         "normals": least.num_normals if least else None})
        return pd.DataFrame(rows).astype(dict.fromkeys(("images", "defects", "normals"), "Int64"))

    def save(self) -> None:
        """Write ``trial.json`` of every trial, then ``study.yaml`` and ``plan.json``. Changes nothing that is the same.

        An earlier plan of the same name is replaced; results of keys that are no longer planned stay on disk.
        """
        for trial in self.trials:
            self.store.write_trial(trial.key, trial.record())
        self.store.write_study(self.spec.to_yaml())
        self.write_rows()

    def write_rows(self) -> None:
        """``plan.json`` alone: what a search does whenever it has grown."""
        head = {"study": self.spec.name, "data_digest": self.data_digest}
        if self.search is not None:
            self.store.write_plan(head | {"trials": self.search.rows(), "search": self.search.record()})
        else:
            self.store.write_plan(head | {"trials": [trial.row() for trial in self.trials]})


def plan(spec: StudySpec, store: Store | str | Path | None = None, allow_tiny: bool | None = None) -> Plan:
    """Resolve and check a study. Reads the tables of its data set, no images; writes nothing.

    Raises ``PlanError`` with all problems and the numbers behind them, ``DataError`` if the data set cannot be opened.
    ``allow_tiny`` replaces the study's own setting.
    """
    study_store = Store.open(store).study(spec.name)
    planner = Planner(spec, spec.allow_tiny if allow_tiny is None else allow_tiny)
    search = None
    if spec.search is not None:
        from ablation.search_plan import SearchPlan

        search = SearchPlan(spec, planner, study_store)
        trials = search.trials()
    else:
        cells = itertools.product(spec.grid.method, spec.grid.backbone, spec.grid.imbalance, spec.grid.seed)
        trials = tuple(planner.trial(cell) for cell in cells)
    result = Plan(spec=spec, trials=trials, data_digest=planner.index.digest, problems=tuple(planner.problems),
                  store=study_store, dataset=planner.dataset, needed=planner.needed.nonzero()[0],
                  embedded=planner.embedded, search=search)
    if result.problems:
        raise PlanError(result.problems, plan=result)
    return result


class Planner:
    """Resolves cells, remembering what many of them share: sections, subsets, checks."""

    def __init__(self, spec: StudySpec, allow_tiny: bool) -> None:
        import numpy as np

        self.spec, self.allow_tiny = spec, allow_tiny
        self.problems: dict[str, None] = {}  # an ordered set: one problem of many trials is told once
        self.data = _absolute(spec.data)
        self.dataset = _open(self.data)
        self.index = self.dataset.index
        self.in_sets = np.zeros(len(self.index), dtype=bool)  # pictures that every evaluation looks at
        self.problems |= dict.fromkeys(self._look_at_evaluation())
        self.needed = self.in_sets.copy()
        self.embedded: dict[str, int] = {}
        self.total = self._largest_total()
        self._sections: dict[tuple[int, ...], dict[str, Any]] = {}
        self._subsets: dict[Any, SubsetCounts | None] = {}
        self._checked: set[str] = set()
        self._digests: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
        self.problems |= dict.fromkeys(plan_checks.worker_problems(spec))

    def _look_at_evaluation(self) -> Iterator[str]:
        """Overrides cannot change which pictures are evaluated on."""
        from trainers.data.imbalance import select_evaluation_sets
        from trainers.data.index import DataError as BadData

        try:
            sets = select_evaluation_sets(self.index, self.spec.evaluation)
        except BadData as error:
            text = str(error)
            yield text if text.startswith("evaluation.") else f"evaluation: {text}"
        else:
            for positions in vars(sets).values():
                self.in_sets[positions] = True
        yield from plan_checks.metric_problems(self.spec.evaluation)

    def trial(self, cell: Cell, settings: Mapping[str, Any] | None = None) -> Trial:
        """``settings`` of a search (field -> value) come after the study's overrides."""
        method, backbone, level, seed = cell
        sections = self._resolve(cell, settings or {})
        config = TrainConfig(method=method, backbone=backbone, imbalance=level, seed=seed, data=sections["data"],
                             subset=sections["imbalance"], train=sections["train"], evaluation=sections["evaluation"],
                             allow_tiny=self.allow_tiny)
        subset = self._subset(level, seed, config.subset)
        # A key names the numbers themselves, whatever a later release recommends.
        train = resolve_train(config.train, method, backbone, subset.num_images if subset else None)
        config = dataclasses.replace(config, train=train, plugins=self._code(config))
        for problem in self._check(config, subset):
            self.problems[problem] = None
        return Trial(key=trial_key(config, self.index.digest), method=short_name(method),
                     backbone=short_name(backbone), imbalance=level, seed=seed, config=config,
                     data_digest=self.index.digest, subset=subset)

    def _code(self, config: TrainConfig) -> dict[str, str]:
        """The digests of the plug-ins, read once for all trials that share them."""
        names = tuple(plugins.used(config))
        if names not in self._digests:
            self._digests[names] = plugins.digests(config)
        return self._digests[names]

    def written(self, cell: Cell) -> OptimConfig:
        """``train`` as the study file gives it for a cell, without the recipe."""
        train: OptimConfig = self._resolve(cell, {})["train"]
        return train

    def _resolve(self, cell: Cell, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The four sections after the overrides that match, and the settings of a search."""
        method, backbone, level, seed = cell
        matching = tuple(number for number, override in enumerate(self.spec.overrides)
                         if override.where.matches(method=method, backbone=backbone, imbalance=level, seed=seed))
        if not settings and matching in self._sections:
            return self._sections[matching]
        raw = {name: dataclasses.asdict(getattr(self.spec, name)) for name in SECTIONS}
        for changes in (*(self.spec.overrides[number].set for number in matching), settings):
            for path, value in changes.items():
                *parents, leaf = path.split(".")
                target: dict[str, Any] = raw
                for parent in parents:
                    target = target[parent]
                target[leaf] = value
        sections = self._decode(raw)
        if not settings:
            self._sections[matching] = sections
        return sections

    def _decode(self, raw: dict[str, Any]) -> dict[str, Any]:
        try:
            sections = {name: decode(cls, raw[name], name) for name, (cls, _) in SECTIONS.items()}
        except ConfigError as error:
            raise PlanError(str(error)) from None
        data, subset = sections["data"], sections["imbalance"]
        sections["data"] = dataclasses.replace(data, root=self.data.root, cache_size=data.resolved_cache_size)
        if subset.policy == "fixed_total" and subset.total is None:
            sections["imbalance"] = dataclasses.replace(subset, total=self.total)
        return sections

    def _largest_total(self) -> int | None:
        if self.spec.imbalance.policy != "fixed_total" or self.spec.imbalance.total is not None:
            return self.spec.imbalance.total
        from trainers.data.imbalance import largest_total
        from trainers.data.index import DataError as BadData

        try:
            # Fewer than 2 is refused with the numbers when the subsets are cut.
            return max(2, largest_total(self.index, list(self.spec.grid.imbalance)))
        except BadData as error:
            raise PlanError(f"imbalance.total: {error}") from None

    def _subset(self, level: Imbalance, seed: int, config: ImbalanceConfig) -> SubsetCounts | None:
        name = (level, seed, config)
        if name not in self._subsets:
            from trainers.data.imbalance import select_subset
            from trainers.data.index import DataError as BadData

            try:
                found = select_subset(self.index, level, seed, config, self.allow_tiny)
                self._subsets[name] = SubsetCounts(num_defects=found.num_defects, num_normals=found.num_normals,
                                                   counts=found.counts, digest=found.digest)
                self._count(found)
            except (BadData, ConfigError) as error:
                self.problems[str(error)] = None
                self._subsets[name] = None
        return self._subsets[name]

    def _count(self, subset: Subset) -> None:
        self.needed[subset.positions] = True
        trained_only = int((~self.in_sets[subset.positions]).sum())
        self.embedded[subset.digest] = int(self.in_sets.sum()) + trained_only

    def _check(self, config: TrainConfig, subset: SubsetCounts | None) -> Iterator[str]:
        """Problems of one trial, leaving out what an equal configuration already told."""
        batch, shown = config.train.batch_size, config.imbalance
        if subset and batch and batch > subset.num_images:
            yield (f"train.batch_size: {batch} is more than the {subset.num_images} images of imbalance {shown}, so an "
                   f"epoch has no full step; lower it to {subset.num_images} or less, or raise imbalance.total")
        if batch and batch % self.spec.resources.num_workers:
            yield (f"train.batch_size: {batch} cannot be divided by resources.num_workers "
                   f"{self.spec.resources.num_workers} (method {short_name(config.method)})")
        shared = canonical([config.data, config.subset, config.train, config.evaluation])
        for name, check in (("", plan_checks.value_problems), (config.method, plan_checks.option_problems)):
            if name + shared not in self._checked:
                self._checked.add(name + shared)
                yield from check(config)
        tried = canonical([config.method, config.backbone, config.data.image_size, sorted(config.train.options)])
        if {"methods", "backbones"} & set(config.plugins) and tried not in self._checked:
            self._checked.add(tried)
            yield from plan_checks.plugin_problems(config)


def _absolute(data: DataConfig) -> DataConfig:
    if data.root is None:
        return data
    return dataclasses.replace(data, root=str(Path(data.root).expanduser().resolve()))


def _open(data: DataConfig) -> AbstractDataset:
    from trainers.data import open_dataset
    from trainers.data.index import DataError as BadData

    try:
        return open_dataset(data)
    except BadData as error:
        raise DataError(f"data: {error}") from error
    except ConfigError as error:
        raise SpecError(str(error)) from error


class _CallableModule(types.ModuleType):
    """Importing this file binds ``ablation.plan`` to the module, while ``ablation.plan(spec)`` is the call: be both."""

    def __call__(self, spec: StudySpec, store: Store | str | Path | None = None,
                 allow_tiny: bool | None = None) -> Plan:
        return plan(spec, store, allow_tiny)


sys.modules[__name__].__class__ = _CallableModule
