"""A study as a document that needs nothing else: a page, Markdown and LaTeX, with figures and tables beside them.

The same store gives the same bytes: nothing here reads a clock, and figures carry no dates or random ids.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.analysis import render
from ablation.analysis.bundle import Bundle, write
from ablation.analysis.document import Document
from ablation.analysis.sections import (
    claims,
    curves,
    detection,
    effects,
    failures,
    label_free,
    own_metrics,
    pictures,
    ranks,
    scores,
    search,
    selection,
    settings,
)
from ablation.analysis.sections.summary import kicker, summary
from ablation.analysis.sections.view import Builder, StudyView
from ablation.analysis.style import house_style
from ablation.errors import StoreError
from trainers.countdown import Countdown

if TYPE_CHECKING:
    from ablation.analysis.contact_sheet import Images
    from ablation.results import StudyResults

SECTIONS: tuple[Builder, ...] = (
    scores.plot,
    scores.table,
    own_metrics.section,
    claims.section,
    search.section,
    ranks.section,
    effects.section,
    label_free.section,
    selection.section,
    detection.section,
    curves.section,
    pictures.section,
    failures.section,
    settings.section,
)
"""In page order; numbers and contents follow from it."""


def write_report(
    results: StudyResults, out_dir: Path | None = None, metric: str = "probe/auroc", images: Images | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Write ``report.{html,md,tex}``, ``tables/*.{csv,parquet}`` and ``figures/*.{png,svg,pdf}``; returns the page.

    ``out_dir`` defaults to ``report/`` in the study's folder. ``images`` maps image ids to ``(H, W, 3)`` uint8 arrays;
    null opens the data set of the trials, and the report says so where that is gone. Any state of a study will do.
    ``say``: told how far it is, where that takes seconds.
    """
    out = Path(out_dir) if out_dir is not None else Path(results.study_dir) / "report"
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # before seconds of drawing
        raise StoreError(f"{out}: cannot be made a folder ({error.strerror}); give another with --out") from error
    bundle = Bundle()
    view = StudyView.of(results, metric, images)
    countdown = Countdown("report:", len(SECTIONS), "sections", say)
    built = []
    with house_style():
        for build in SECTIONS:
            built.append(build(view, bundle))
            countdown.step()
    sections = tuple(section for section in built if section is not None)
    document = Document(results.name, kicker(view), summary(view), sections)
    for suffix, text in render.ALL.items():
        bundle.files[f"report.{suffix}"] = text(document).encode(errors="replace")
    write(out, bundle.files)
    return out / "report.html"
