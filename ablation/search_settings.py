"""``search:`` of a study file: what is searched, by which rule, for how much, and judged by what."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ablation.fields import Model, Problems, Seeds, as_tuple, checked, items
from trainers.config import suggest

OBJECTIVES = {
    "probe/auroc": "validation/auroc", "probe/ap": "validation/ap", "train/loss": "train/loss",
    **{name: name for name in (
        "label_free/rankme", "label_free/rankme_embedding", "label_free/lidar", "label_free/alpha_req",
        "label_free/nesum", "label_free/stable_rank", "label_free/self_cluster", "label_free/uniformity",
        "label_free/alignment")},
}
"""What a search may look at: objective -> the number of a trial that it reads. None of them comes from test images:
the probe's scores are those on validation, label-free metrics are of train images."""
COSTS = ("time/train", "time/total", "memory/peak_mb")
RECIPE = "recipe"
FRESH_OFFSET = 1000


def _objective(name: str) -> str | None:
    if name in OBJECTIVES:
        return None
    hint = suggest(name, OBJECTIVES) or f"; there are {', '.join(OBJECTIVES)}"
    return f"'{name}' cannot drive a search{hint}"


def _cost(name: str | None) -> Problems:
    if name is not None and name not in COSTS:
        yield "", f"'{name}' is no cost{suggest(name, COSTS)}; there are {', '.join(COSTS)}"


def _source(name: str) -> str | None:
    return None if name.strip() else "name a study of the store, or recipe"


Objectives = Annotated[tuple[str, ...], BeforeValidator(as_tuple, str | list[str]), items(_objective)]
Sources = Annotated[tuple[str, ...], BeforeValidator(as_tuple, str | list[str]),
                    checked(lambda names: ((str(i), said) for i, name in enumerate(names) if (said := _source(name))))]


def _search_problems(search: Any) -> Problems:
    if search.num_samples is None and search.max_epochs is None and search.gpu_seconds is None:
        yield "num_samples", "set num_samples, max_epochs or gpu_seconds: a search needs an end"
    if search.cost is not None and search.sampler == "cmaes":
        yield "cost", "CMA-ES has one objective; use sampler: tpe"
    if search.fresh_seeds is not None and (both := sorted(set(search.seeds) & set(search.fresh_seeds))):
        yield "fresh_seeds", (f"{both[0]} is among seeds too: the winner was chosen there, so its score would be the "
                              "largest of many; use other seeds")


class Search(Model):
    """Hyper-parameter search in each (method, backbone, imbalance), with the same budget for all of them.

    Candidates are judged on the mean over ``seeds``; the winner and the recipe are then trained on ``fresh_seeds``,
    so that the reported score is not the largest of many.
    """

    space: str = "default"
    """``default`` = the built-in space of each method, or ``path.py:function``. Fields that the study sets itself are
    not searched."""
    sampler: Literal["tpe", "cmaes", "random", "grid"] = "tpe"
    multivariate: bool = True
    """TPE models settings together."""
    n_startup: Annotated[int, Field(ge=1)] = 10
    """Candidates drawn at random before TPE or CMA-ES begins; trials before the median rule begins."""
    grid_points: Annotated[int, Field(ge=2)] = 3
    """Values of a continuous setting with ``sampler: grid``."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the sampler."""
    num_samples: Annotated[int | None, Field(ge=1)] = 50
    """Candidates of one search, the recipe included; null = no limit."""
    max_epochs: Annotated[int | None, Field(ge=1)] = None
    """Epochs that one search may begin, over all its candidates and seeds."""
    gpu_seconds: Annotated[float | None, Field(gt=0)] = None
    """Seconds of training that one search may use, times ranks; seconds of the CPU where there is no GPU. Checked after
    every epoch."""
    scheduler: Literal["asha", "median"] | None = None
    """Ends weak candidates early, by the objective that ``evaluation.every`` reports. The recipe runs to its end."""
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    """No candidate ends before."""
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    """ASHA keeps one in so many at each rung; rungs are that factor apart."""
    metric: Objectives = ("probe/auroc",)
    """Objectives; each one drives a search of its own, with the same budget. ``probe/*`` is measured on validation."""
    cost: Annotated[str | None, checked(_cost)] = None
    """Second objective, to be low: time/train, time/total or memory/peak_mb. The winner is the best by ``metric``."""
    seeds: Seeds = (0,)
    """Candidates are judged on the mean over these seeds."""
    fresh_seeds: Seeds | None = None
    """Where winner and recipe are compared; null = each seed of the grid plus 1000."""
    warm_start: Sources = (RECIPE,)
    """``recipe``: the first candidate is the recipe. Names of studies in the store: the sampler knows their finished
    trials of equal data and epochs."""


SearchField = Annotated[Search, checked(_search_problems)]
