"""Studies of self-supervised learning under class imbalance: plan, run on Ray, track in MLflow, analyse.

Everything public is here and loads when it is first used, so that ``import ablation`` is instant::

    spec = ablation.StudySpec.load("study.yaml", overrides=["train.epochs=5"])
    plan = ablation.plan(spec, store="./studies")
    results = ablation.run(plan)
    results.trials_dataframe()
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablation.defect_models import load_model as load_model
    from ablation.errors import (
        AblationError as AblationError,
        DataError as DataError,
        MissingExtra as MissingExtra,
        NothingMatched as NothingMatched,
        PlanError as PlanError,
        ServiceUnavailable as ServiceUnavailable,
        SpecError as SpecError,
        StoreError as StoreError,
        StudyLocked as StudyLocked,
    )
    from ablation.plan import Plan as Plan, plan as plan
    from ablation.results import StudyResults as StudyResults, load_study as load_study
    from ablation.scoring import score as score
    from ablation.search import search as search
    from ablation.spec import StudySpec as StudySpec
    from ablation.store import Store as Store, TrialState as TrialState, TrialStatus as TrialStatus
    from ablation.trial import Trial as Trial

__version__ = "0.1.0"

_HOME = {
    "AblationError": "errors", "DataError": "errors", "MissingExtra": "errors", "NothingMatched": "errors",
    "PlanError": "errors", "ServiceUnavailable": "errors", "SpecError": "errors", "StoreError": "errors",
    "StudyLocked": "errors", "StudySpec": "spec", "Plan": "plan", "Trial": "trial", "StudyResults": "results",
    "load_study": "results", "load_model": "defect_models", "score": "scoring", "Store": "store",
    "TrialState": "store", "TrialStatus": "store",
}
__all__ = [*_HOME, "plan", "run", "search", "__version__"]  # noqa: PLE0604 - all names are strings


def __getattr__(name: str) -> Any:
    if name in ("plan", "search"):
        return importlib.import_module(f"ablation.{name}")  # a module that can be called, see its last lines
    if name not in _HOME:
        raise AttributeError(f"module 'ablation' has no attribute {name!r}")
    return getattr(importlib.import_module(f"ablation.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def run(plan: Plan, address: str | None = None, tracking_uri: str | None = None,
        on_event: Callable[[Any], None] | None = None, max_concurrent: int | None = None) -> StudyResults:
    """Run what is pending of a plan on Ray (``address=None``: a local cluster) and return the results. Blocks.

    Idempotent: finished trials are skipped, interrupted ones continue, failures never end the study.
    """
    from ablation.driver import run_plan

    return run_plan(plan, address=address, tracking_uri=tracking_uri, on_event=on_event, max_concurrent=max_concurrent)
