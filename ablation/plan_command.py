"""``ablation plan``: trials, levels, problems, and what the study will cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ablation.commands import search_size
from ablation.console import Format, emit, note
from ablation.errors import DataError, PlanError, SpecError

if TYPE_CHECKING:
    from ablation.estimate import Estimate
    from ablation.plan import Plan
    from ablation.study_file import Document, Loc


def show_plan(study: str, overrides: list[str], store: str | None, allow_tiny: bool, format: Format,
              measure: bool) -> None:
    """Prints as far as the plan could be resolved, then raises its ``PlanError``. ``measure``: a few steps of each kind
    of trial; without it the cost is told where the store already knows it."""
    from ablation.plan import Plan

    problem: PlanError | None = None
    try:
        planned = load_plan(study, overrides, store, allow_tiny)
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
        if planned.search is not None:
            print(search_size(planned))
    lines = cost.lines() if cost is not None else []
    for line in lines:
        print(line) if format is Format.table else note(line)
    if problem:
        raise problem
    if not lines and planned.pending():
        note(f"how long will it take here: ablation plan {study} --estimate")


def load_plan(source: str, overrides: list[str], store: str | None, allow_tiny: bool) -> Plan:
    """The plan of a study that is named as on the command line; what is wrong with it is told with its place."""
    from ablation.plan import plan as make_plan
    from ablation.sources import read_source
    from ablation.spec import StudySpec
    from ablation.study_file import apply_overrides

    spec = StudySpec.load(source, overrides)
    try:
        return make_plan(spec, store=store, allow_tiny=allow_tiny or None)
    except (SpecError, PlanError, DataError) as error:
        document = apply_overrides(read_source(source), overrides)
        problems = [_located(problem, document) for problem in str(error).splitlines()]
        if isinstance(error, PlanError):
            raise PlanError(problems, error.plan) from error
        raise SpecError(problems) from error


def _located(problem: str, document: Document) -> str:
    """``problem`` behind the place of the field that it begins with: ``study.yaml:6: data.root: …``."""
    found = re.match(r"([a-z_]+(?:\.[A-Za-z0-9_]+)*)( [^ :]+)?:", problem)
    if found is None:
        return f"{document.origin}: {problem}"
    field = "grid.imbalance" if found[1] == "imbalance" and found[2] else found[1]
    loc: Loc = tuple(field.split("."))
    known = any(loc[:length] in document.places for length in range(1, len(loc) + 1))
    return f"{document.place(loc) if known else document.origin}: {problem}"


def _cost(planned: Plan, measure: bool) -> Estimate | None:
    """None where nothing is asked for and this machine, a laptop before its cluster, could not hold the study."""
    from ablation.estimate import estimate

    try:
        return estimate(planned, measure=measure, say=note)
    except PlanError:
        if measure:
            raise
        return None
