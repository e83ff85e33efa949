"""What stands first: how far the study is, and what each level says."""

from __future__ import annotations

from ablation.analysis.document import Block, Terms, Text
from ablation.analysis.findings import counts_sentence, level_findings
from ablation.analysis.sections.view import StudyView
from trainers.evaluation.catalogue import METRICS


def kicker(view: StudyView) -> str:
    """One line on the score that the report is about."""
    about = METRICS.get(view.metric)
    return f"Study report. Score: `{view.metric}`" + (f", {about.summary}, {about.range}." if about else ".")


def summary(view: StudyView) -> tuple[Block, ...]:
    findings = level_findings(view.cells, view.baseline, view.metric)
    text = counts_sentence(view.trials)
    if not findings:
        text += f" No self-supervised trial has finished with `{view.metric}`, so there is no result to report yet."
    elif (view.cells["n"] < 2).all():
        text += (
            " Every cell rests on one trial: the numbers show that the study runs and where it points, not which "
            "method is better."
        )
    terms = tuple((f"{level} defects" if "%" in level else level, " ".join(said)) for level, said in findings)
    return (Text(text), Terms(terms)) if terms else (Text(text),)
