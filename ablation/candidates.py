"""The nouns of a hyper-parameter search: candidates, what became of them, and the search of one cell."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ablation.distributions import Parameter
from ablation.search_settings import OBJECTIVES
from trainers.config import Imbalance
from trainers.names import short_name

if TYPE_CHECKING:
    from ablation.store import StudyStore
    from ablation.trial import Trial

COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"
"""Optuna's words."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of a candidate, as its search saw it. Once written it stays, whatever becomes of its trials later."""

    state: str
    value: float | None = None
    """Of the objective, mean over the tuning seeds, after ``epoch`` epochs of each."""
    epoch: int = 0
    epochs: int = 0
    """Begun for it, over all seeds: what the search was charged."""
    seconds: float = 0.0
    cost: float | None = None
    reason: str = ""


@dataclass
class Candidate:
    """One setting of the hyper-parameters, with one trial per tuning seed."""

    number: int
    settings: dict[str, Any]
    """Field of the study file -> value; empty = the recipe."""
    trials: dict[int, Trial]
    sampled: int | None = None
    """Its number in Optuna."""
    outcome: Outcome | None = None
    begun: dict[int, int] = field(default_factory=dict)
    """Seed -> epochs begun so far, while it has no outcome."""

    @property
    def epochs(self) -> int:
        """What its search is charged."""
        return self.outcome.epochs if self.outcome else sum(self.begun.values())

    def record(self) -> dict[str, Any]:
        return {"number": self.number, "settings": self.settings, "sampled": self.sampled,
                "keys": {str(seed): trial.key for seed, trial in self.trials.items()},
                "begun": {str(seed): epochs for seed, epochs in self.begun.items()},
                "outcome": asdict(self.outcome) if self.outcome else None}


@dataclass
class CellSearch:
    """The search of one (method, backbone, imbalance) by one objective."""

    method: str
    backbone: str
    imbalance: Imbalance
    metric: str
    parameters: tuple[Parameter, ...]
    candidates: list[Candidate] = field(default_factory=list)
    known: list[tuple[dict[str, Any], float, str]] = field(default_factory=list)
    """Settings, value and key of finished trials of other studies."""
    digest: str = ""
    dry: bool = False
    """The sampler has nothing more: a grid that was walked through."""

    @property
    def cell(self) -> str:
        level = "natural" if self.imbalance == "natural" else f"p{self.imbalance:g}"
        return f"{short_name(self.method)}-{short_name(self.backbone)}-{level}"

    @property
    def name(self) -> str:
        return f"{self.cell}/{self.metric}"

    def sign(self, recipe_keys: Sequence[str]) -> None:
        """Candidates of an earlier plan may go on only in a search of equal trials, space and objective."""
        facts = repr([self.metric, list(recipe_keys), [(p.path, p.distribution) for p in self.parameters]])
        self.digest = hashlib.blake2b(facts.encode(), digest_size=4).hexdigest()

    @property
    def begun(self) -> int:
        """Epochs that the search has begun, over all candidates and seeds."""
        return sum(candidate.epochs for candidate in self.candidates)

    def winner(self) -> Candidate | None:
        """The best of the complete ones, the earlier of equals; None while there is none."""
        done = [(candidate, candidate.outcome.value) for candidate in self.candidates
                if candidate.outcome and candidate.outcome.state == COMPLETE and candidate.outcome.value is not None]
        return max(done, key=lambda pair: (turned(pair[1], self.metric), -pair[0].number), default=(None, 0.0))[0]

    def record(self) -> dict[str, Any]:
        return {"name": self.name, "digest": self.digest, "method": short_name(self.method),
                "backbone": short_name(self.backbone), "imbalance": self.imbalance, "metric": self.metric,
                "dry": self.dry,
                "candidates": [candidate.record() for candidate in self.candidates]}


def turned(value: float, metric: str) -> float:
    """The value of an objective so that higher is better: its authors' direction, 1 - distance for ``near 1``."""
    from trainers.evaluation.catalogue import METRICS

    better = METRICS[OBJECTIVES[metric]].better
    if better == "near 1":
        return -abs(value - 1)
    return -value if better == "lower" or metric == "train/loss" else value


def objective_of(metrics: Mapping[str, float], metric: str) -> float | None:
    """The one number of a trial that a search may look at (``OBJECTIVES``); never one of the test set."""
    return metrics.get(OBJECTIVES[metric])


def final_numbers(study: StudyStore, key: str) -> dict[str, float]:
    result = study.read_result(key) or {}
    return {**(result.get("further") or {}), **(result.get("metrics") or {})}


def curve(history: Iterable[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """Epoch -> value of the objective, where it was measured between epochs."""
    values = {record["epoch"]: objective_of(record.get("metrics") or {}, metric) for record in history}
    return {epoch: value for epoch, value in values.items() if value is not None}


def train_seconds(history: Iterable[Mapping[str, Any]], num_images: int, epochs: int) -> float:
    """Seconds of training in the first ``epochs`` epochs, on each rank."""
    rates = [(record.get("metrics") or {}).get("train/images_per_second") for record in history
             if record["epoch"] <= epochs]
    return sum(num_images / float(rate) for rate in rates if rate)


def outcome_of(study: StudyStore, metric: str, candidate: Candidate, state: str, reason: str, seconds: float,
               cost: str | None) -> Outcome:
    """What a candidate came to: its final numbers if COMPLETE, else those of the last epoch that all seeds reached."""
    charged: dict[str, Any] = {"epochs": sum(candidate.begun.values()), "seconds": seconds, "reason": reason}
    trials = candidate.trials.values()
    if state == COMPLETE:
        numbers = [final_numbers(study, trial.key) for trial in trials]
        return Outcome(state=state, value=_mean([objective_of(found, metric) for found in numbers]),
                       epoch=min(trial.config.train.epochs for trial in trials),
                       cost=_mean([found.get(cost or "") for found in numbers]), **charged)
    curves = [{epoch: value for epoch, value in curve(study.read_history(trial.key), metric).items()
               if epoch <= candidate.begun.get(seed, 0)} for seed, trial in candidate.trials.items()]
    if state == PRUNED and curves and (common := set.intersection(*map(set, curves))):
        last = max(common)
        return Outcome(state=state, value=_mean([found[last] for found in curves]), epoch=last, **charged)
    return Outcome(state=state, **charged)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) and known else None
