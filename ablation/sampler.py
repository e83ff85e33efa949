"""Optuna, asked and told: the only file of the service that drives it.

One Optuna study per search, in SQLite beside the trials or in a database for all (``ABLATION_OPTUNA_STORAGE``), for the
Optuna dashboard. The plan in the store is the truth: an Optuna study that was lost is made again from it. Ray's
``OptunaSearch`` is not used: it tells what was stopped early as COMPLETE, leaves diverged trials RUNNING, and forgets
groups of seeds.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ablation.distributions import Categorical, Distribution, Integer, LogUniform, Parameter, Uniform
from ablation.errors import ServiceUnavailable, SpecError
from ablation.files import writing

if TYPE_CHECKING:
    import optuna

    from ablation.search_settings import Search

MOST_POINTS = 1_000_000


def storage_url(study_dir: Path) -> str:
    """``ABLATION_OPTUNA_STORAGE``, else ``search/optuna.db`` in the study's folder."""
    return os.environ.get("ABLATION_OPTUNA_STORAGE") or f"sqlite:///{study_dir / 'search' / 'optuna.db'}"


def open_storage(study_dir: Path) -> optuna.storages.RDBStorage:
    """Raises ``ServiceUnavailable`` when the database does not answer."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    url = storage_url(study_dir)
    if url.startswith("sqlite:///"):
        folder = Path(url.removeprefix("sqlite:///")).parent
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    try:
        return optuna.storages.RDBStorage(url)
    except Exception as error:  # sqlalchemy, its drivers and optuna each raise their own kinds
        from ablation.mlflow_server import redact

        line = redact((str(error) or type(error).__name__).splitlines()[0][:200])
        raise ServiceUnavailable(f"Optuna storage {redact(url)} cannot be used: {line}; see ABLATION_OPTUNA_STORAGE"
                                 ) from error


@dataclass(frozen=True)
class Told:
    """What a sampler learns of a candidate. ``values`` None: it failed; ``epoch``: where it was ended early."""

    values: tuple[float, ...] | None = None
    epoch: int | None = None


class Sampler:
    """The Optuna study of one search. Every draw is seeded by (settings, cell, number), so that a search that was
    killed goes on as if it had not been, and the searches of one cell begin alike whatever their objective."""

    def __init__(self, storage: optuna.storages.BaseStorage, name: str, cell: str, settings: Search,
                 parameters: Sequence[Parameter], directions: Sequence[Literal["minimize", "maximize"]]) -> None:
        import optuna

        self.settings, self.parameters, self.cell = settings, tuple(parameters), cell
        self.space = {parameter.path: _distribution(parameter) for parameter in parameters}
        self.study = optuna.create_study(storage=storage, study_name=name, directions=list(directions),
                                         load_if_exists=True)

    def ask(self, number: int) -> tuple[int, dict[str, Any]] | None:
        """Optuna's number and the settings of candidate ``number``; None when the grid has no further point."""
        self.study.sampler = self._sampler(number)
        if self.settings.sampler == "grid":
            points = self._points()
            if number >= len(points):
                return None
            self.study.enqueue_trial(points[number])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls ``group`` experimental on every use
            trial = self.study.ask(self.space)
        return trial.number, dict(trial.params)

    def add(self, params: Mapping[str, Any], told: Told | None = None, note: str | None = None) -> int:
        """A trial that was not drawn: the recipe (``told`` None: still to be told), or one that is known already.

        ``params`` may lack settings whose value the method decides itself.
        """
        from optuna.trial import TrialState, create_trial

        known = {parameter.path: params[parameter.path] for parameter in self.parameters
                 if parameter.path in params and holds(parameter.distribution, params[parameter.path])}
        state = TrialState.RUNNING if told is None else TrialState.COMPLETE if told.values else TrialState.FAIL
        self.study.add_trial(create_trial(
            state=state, params=known, distributions={path: self.space[path] for path in known},
            values=list(told.values) if told and told.values else None, user_attrs={"source": note} if note else {}))
        return len(self.study.get_trials(deepcopy=False)) - 1

    def tell(self, number: int, told: Told) -> None:
        """Once only: what was told before stays."""
        import optuna

        trial = self.study.get_trials(deepcopy=False)[number]
        if trial.state.is_finished():
            return
        if told.values is None:
            self.study.tell(number, state=optuna.trial.TrialState.FAIL)
        elif told.epoch is None:
            self.study.tell(number, list(told.values))
        else:
            if len(told.values) == 1:
                optuna.trial.Trial(self.study, trial._trial_id).report(told.values[0], told.epoch)
            self.study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def forget_strangers(self, known: set[int]) -> None:
        """Drop what was asked for but never planned, because the driver was killed in between."""
        for trial in self.study.get_trials(deepcopy=False):
            if not trial.state.is_finished() and trial.number not in known:
                self.tell(trial.number, Told())

    def has(self, number: int | None) -> bool:
        """Whether the study has a trial of that number: not when its database was lost."""
        return number is not None and number < len(self.study.get_trials(deepcopy=False))

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        settings = self.settings
        digest = hashlib.blake2b(f"{settings.seed}:{self.cell}:{number}".encode(), digest_size=4).digest()
        seed = int.from_bytes(digest, "little")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if settings.sampler == "tpe":
                # Grouped: the recipe lacks settings that the method decides itself.
                return optuna.samplers.TPESampler(
                    n_startup_trials=settings.n_startup, multivariate=settings.multivariate,
                    group=settings.multivariate, constant_liar=True, seed=seed)
            if settings.sampler == "cmaes":
                return optuna.samplers.CmaEsSampler(n_startup_trials=settings.n_startup, seed=seed,
                                                    warn_independent_sampling=False)
            return optuna.samplers.RandomSampler(seed=seed)

    def _points(self) -> list[dict[str, Any]]:
        """All points of the grid, in an order that depends on the seed only: a budget may end before the grid."""
        axes = [_grid_values(parameter, self.settings.grid_points) for parameter in self.parameters]
        total = int(np.prod([len(axis) for axis in axes]))
        if total > MOST_POINTS:
            raise SpecError(f"search.grid_points: {self.cell}: a grid of {total:,} points; lower grid_points, or "
                            "name a smaller space")
        order = np.random.default_rng(self.settings.seed).permutation(total)
        names = [parameter.path for parameter in self.parameters]
        points = list(itertools.product(*axes))
        return [dict(zip(names, points[place], strict=True)) for place in order]


def holds(distribution: Distribution, value: Any) -> bool:
    """Whether a value could have been drawn."""
    if isinstance(distribution, Categorical):
        return value in distribution.choices
    number = isinstance(value, int if isinstance(distribution, Integer) else int | float)
    return number and not isinstance(value, bool) and distribution.low <= value <= distribution.high


def _distribution(parameter: Parameter) -> Any:
    from optuna import distributions

    found = parameter.distribution
    if isinstance(found, Uniform):
        return distributions.FloatDistribution(found.low, found.high)
    if isinstance(found, LogUniform):
        return distributions.FloatDistribution(found.low, found.high, log=True)
    if isinstance(found, Integer):
        return distributions.IntDistribution(found.low, found.high, log=found.log)
    return distributions.CategoricalDistribution(found.choices)


def _grid_values(parameter: Parameter, points: int) -> Sequence[Any]:
    found = parameter.distribution
    if isinstance(found, Categorical):
        return found.choices
    if isinstance(found, Uniform):
        return [float(value) for value in np.linspace(found.low, found.high, points)]
    log = isinstance(found, LogUniform) or found.log
    values = np.geomspace(found.low, found.high, points) if log else np.linspace(found.low, found.high, points)
    if isinstance(found, Integer):
        return sorted({round(float(value)) for value in values})
    return [min(max(float(value), found.low), found.high) for value in values]
