"""A document as one HTML page that needs nothing else; the page itself is ``templates/report.html.j2``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ablation.analysis.bundle import page_colors
from ablation.analysis.document import Block, Cell, Document, Table, plain, printable, spans, unbroken

if TYPE_CHECKING:
    from markupsafe import Markup

LONG = 26
"""Most characters of a cell that is kept on one line."""


def render(document: Document) -> str:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("ablation"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(inks=page_colors, inline=_inline, plain=plain, printable=printable, cell=_cell)
    environment.tests["long"] = lambda cell: len(plain(_cell(cell).text)) > LONG
    environment.globals.update(kind=_kind, table_class=_table_class)
    return environment.get_template("report.html.j2").render(document=document)


def _inline(text: str, joints: bool = False) -> Markup:
    """``joints`` lets a long name break after its ``_``, ``-`` and ``/``."""
    from markupsafe import Markup, escape

    tags = {"": "{}", "code": "<code>{}</code>", "bold": "<strong>{}</strong>"}
    parts = []
    for kind, part in spans(text):
        shown = str(escape(part if kind == "code" else unbroken(part)))
        parts.append(tags[kind].format(re.sub(r"([_/-])(?=\w)", r"\1<wbr>", shown) if joints else shown))
    return Markup("".join(parts))


def _cell(cell: Cell | str) -> Cell:
    return Cell(cell) if isinstance(cell, str) else cell


def _kind(block: Block) -> str:
    return type(block).__name__


def _table_class(table: Table) -> str:
    """``scores`` where cells hold more than one line, ``plain`` else."""
    cells = (_cell(cell) for row in table.rows for cell in row.cells)
    return "scores" if any(cell.notes or cell.problems for cell in cells) else "plain"
