"""``ablation plan``: trials, levels, problems, and what the study will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ablation.console import Format, emit, note
from ablation.errors import PlanError

if TYPE_CHECKING:
    from ablation.estimate import Estimate
    from ablation.plan import Plan


def show_plan(study: str, overrides: list[str], store: str | None, allow_tiny: bool, format: Format,
              measure: bool) -> None:
    """Prints as far as the plan could be resolved, then raises its ``PlanError``. ``measure``: a few steps of each kind
    of trial; without it the cost is told where the store already knows it."""
    from ablation.plan import Plan, plan as make_plan
    from ablation.spec import StudySpec

    problem: PlanError | None = None
    try:
        planned = make_plan(StudySpec.load(study, overrides), store=store, allow_tiny=allow_tiny or None)
    except PlanError as error:
        if not isinstance(error.plan, Plan):
            raise
        planned, problem = error.plan, error
    cost = _cost(planned, measure) if problem is None else None
    frame = planned.to_frame()
    if measure and cost is not None and format is not Format.table:
        costs = cost.to_frame().drop(columns=["method", "backbone", "imbalance", "seed"])
        frame = frame.merge(costs, on="key", how="left")
    emit(frame, format)
    if format is Format.table:
        print()
        emit(planned.level_counts(), format)
        if measure and cost is not None and cost.known:
            print()
            emit(cost.kinds_frame(), format)
        print(f"\n{len(planned.trials)} trials, {len(planned.pending())} to run")
    lines = cost.lines() if cost is not None else []
    for line in lines:
        print(line) if format is Format.table else note(line)
    if problem:
        raise problem
    if not lines and planned.pending():
        note(f"how long will it take here: ablation plan {study} --estimate")


def _cost(planned: Plan, measure: bool) -> Estimate | None:
    """None where nothing is asked for and this machine, a laptop before its cluster, could not hold the study."""
    from ablation.estimate import estimate

    try:
        return estimate(planned, measure=measure, say=note)
    except PlanError:
        if measure:
            raise
        return None
