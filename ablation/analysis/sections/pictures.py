"""What the best trials look at: test images in the order of their scores."""

from __future__ import annotations

from pathlib import Path

from ablation.analysis.bundle import Bundle
from ablation.analysis.contact_sheet import Sheet, StudyData, contact_sheet
from ablation.analysis.document import Block, Heading, Note, Pictures, Section, Text
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import backbone_label, level_label, level_order, method_style
from ablation.analysis.tables import self_supervised
from ablation.errors import AblationError

MAX_SHEETS = 6
"""Most imbalance levels with a contact sheet, so that the page stays small enough to mail."""
TITLE = "What the best trials look at"


def section(view: StudyView, bundle: Bundle) -> Section:
    """One contact sheet per level."""
    sheets = _sheets(view)
    if not sheets:
        missing = f"No trial has finished with `{view.metric}`, so there is nothing to show."
        return Section("images", TITLE, (Text(missing),))
    blocks: list[Block] = [
        Note(
            "Test images of the best self-supervised trial per level. Solid blue border and ●: truly normal. Dashed "
            "red border and ◆: truly a defect. The probe's score is a probability; the detector's is a distance, "
            "without labels. Being the best of several trials, the one shown flatters its method."
        )
    ]
    for sheet in sheets:
        blocks.append(Heading(sheet.heading))
        if sheet.problem:
            blocks.append(Text(sheet.problem))
        blocks += [Pictures(strip.title, tuple(strip.pictures)) for strip in sheet.strips]
    return Section("images", TITLE, tuple(blocks))


def _sheets(view: StudyView) -> list[Sheet]:
    """One per level, of the trial that scores best among the self-supervised (else all) finished ones."""
    done = self_supervised(view.done)
    sheets, data = [], StudyData()
    for level in level_order(done["imbalance"].tolist())[:MAX_SHEETS]:
        here = done[done["imbalance"] == level]
        row = here.sort_values([view.column, "key"], ascending=[not view.higher, True], kind="stable").iloc[0]
        heading = (
            f"{level_label(level)}: {method_style(row['method']).label} on {backbone_label(row['backbone'])}, "
            f"seed {row['seed']}, {view.metric} {row[view.column]:.3f}"
        )
        folder = Path(view.results.study_dir) / "trials" / row["key"]
        try:
            scores = view.results.scores(row["key"])
        except (AblationError, OSError, ValueError):
            sheets.append(Sheet(row["key"], heading, [], "The trial stored no scores.parquet."))
            continue
        sheets.append(contact_sheet(scores, view.images or data.images(folder), key=row["key"], heading=heading))
    return sheets
