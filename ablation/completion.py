"""What the shell offers at the tab key. Imports nothing heavy, and is silent whatever is wrong: nobody has asked."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import typer

Offer = Callable[[typer.Context, str], list[str]]


def _silent(offer: Offer) -> Offer:
    @functools.wraps(offer)
    def quiet(context: typer.Context, incomplete: str) -> list[str]:
        try:
            return offer(context, incomplete)
        except Exception:
            return []

    return quiet


@_silent
def sources(context: typer.Context, incomplete: str) -> list[str]:
    """Study files beside what is typed, and the built-in studies."""
    from ablation.sources import builtin_studies

    folder = incomplete[:incomplete.rfind("/") + 1]
    files = sorted(path.name for path in Path(folder or ".").expanduser().glob("*.y*ml"))
    return [folder + name for name in files] + ([] if folder else list(builtin_studies()))


@_silent
def studies(context: typer.Context, incomplete: str) -> list[str]:
    """Studies of the store."""
    from ablation.store import Store

    return Store(context.params.get("store")).studies()


@_silent
def keys(context: typer.Context, incomplete: str) -> list[str]:
    """Trials of the study that stands before them."""
    from ablation.store import Store

    given = context.params.get("keys") or ()
    return [key for key in Store(context.params.get("store")).study(str(context.params["name"])).planned_keys()
            if key not in given]


@_silent
def studies_and_keys(context: typer.Context, incomplete: str) -> list[str]:
    """For ``[STUDY] KEY``, with which the words begin; files may follow, which the shell knows."""
    from ablation.store import Store

    store = Store(context.params.get("store"))
    given = tuple(context.params.get("trial") or context.params.get("words") or ())
    if given:
        return store.study(given[0]).planned_keys() if given[1:] == () and given[0] in store.studies() else []
    names = store.studies()
    return names + [key for name in names for key in store.study(name).planned_keys()]


@_silent
def methods(context: typer.Context, incomplete: str) -> list[str]:
    from trainers.names import METHOD_NAMES

    return list(METHOD_NAMES)


@_silent
def metrics(context: typer.Context, incomplete: str) -> list[str]:
    from trainers.evaluation.catalogue import METRICS

    return list(METRICS)


@_silent
def gates(context: typer.Context, incomplete: str) -> list[str]:
    """``probe/auroc=``, to be followed by a number."""
    return [f"{metric}=" for metric in metrics(context, incomplete)]


@_silent
def label_free(context: typer.Context, incomplete: str) -> list[str]:
    """Metrics that choose without labels; of a comma-separated list the last."""
    before = incomplete[:incomplete.rfind(",") + 1]
    return [before + metric for metric in metrics(context, incomplete) if metric.startswith(("label_free/", "train/"))]
