"""A document as an article for pdflatex; figures are ``figures/*.pdf`` beside it. The text is pure ASCII."""

from __future__ import annotations

import textwrap

from ablation.analysis.document import (
    Block,
    Bullets,
    Cell,
    Code,
    Details,
    Document,
    Heading,
    Note,
    Pictures,
    Plot,
    Row,
    Table,
    Terms,
    Text,
    plain,
    printable,
    spans,
    unbroken,
)
from ablation.analysis.render.tex_characters import escape, escape_code

PREAMBLE = r"""\documentclass[11pt]{article}
\usepackage[T1]{fontenc}
\usepackage{textcomp,lmodern,amsmath,amssymb}
\usepackage[a4paper,margin=2.2cm]{geometry}
\usepackage{array,booktabs,float,graphicx,adjustbox,xcolor}
\usepackage[hidelinks]{hyperref}
\definecolor{alert}{HTML}{A84300}
\definecolor{muted}{HTML}{5D6670}
\newcolumntype{L}[1]{>{\raggedright\arraybackslash}p{#1}}
\setlength{\parindent}{0pt}
\setlength{\parskip}{0.6em}
\setcounter{tocdepth}{1}
\emergencystretch=3em
"""
LONG, WIDEST_CM = 34, 6.5
"""A column with a longer cell than ``LONG`` characters breaks its lines, at most ``WIDEST_CM`` wide."""
MAX_ROWS = 30
"""Most rows of one table; a longer one goes on in the next, since a float cannot break across pages."""


def render(document: Document) -> str:
    parts = [
        rf"\title{{{_inline(document.title)}}}",
        r"\author{}",
        r"\date{}",
        r"\begin{document}",
        r"\maketitle",
        _muted(document.kicker),
        r"\section*{Summary}",
        *map(_block, document.summary),
        r"\tableofcontents",
    ]
    for section in document.sections:
        parts += [rf"\section{{{_inline(section.title)}}}\label{{{section.anchor}}}", *map(_block, section.blocks)]
    return PREAMBLE + "\n\n".join([*(part for part in parts if part), r"\end{document}"]) + "\n"


def _block(block: Block) -> str:
    match block:
        case Text(text):
            return _inline(text)
        case Note(text):
            return _muted(text)
        case Heading(text):
            return rf"\subsection*{{{_inline(text)}}}"
        case Bullets(items):
            return _list("itemize", [rf"\item {_inline(item)}" for item in items])
        case Terms(items):
            return _list("description", [rf"\item[{{{_inline(term)}}}] {_inline(text)}" for term, text in items])
        case Table():
            return _table(block)
        case Plot():
            return _figure(block)
        case Pictures():
            return _table(block.listing())
        case Code():
            return rf"\subsection*{{{_inline(block.title)}}}" + "\n\n" + _listing(block.text)
        case Details():
            return "\n\n".join([rf"\subsection*{{{_inline(block.title)}}}", *map(_block, block.blocks)])


def _inline(text: str) -> str:
    marks = {"": ("", _words, ""), "code": (r"\texttt{", escape_code, "}"), "bold": (r"\textbf{", _words, "}")}
    return "".join(marks[kind][0] + marks[kind][1](part) + marks[kind][2] for kind, part in spans(text))


def _words(text: str) -> str:
    return escape(unbroken(text))


def _muted(text: str) -> str:
    return rf"{{\small\color{{muted}}{_inline(text)}\par}}" if text else ""


def _list(kind: str, items: list[str]) -> str:
    return "\n".join([rf"\begin{{{kind}}}", *items, rf"\end{{{kind}}}"]) if items else ""


def _listing(text: str) -> str:
    """Line by line, leading spaces kept; verbatim could be ended by the text itself."""
    lines = []
    for line in printable(text).rstrip().expandtabs(4).splitlines():
        body = line.lstrip(" ")
        lines.append(r"\mbox{}" + "~" * (len(line) - len(body)) + escape_code(body))
    joined = "\\\\\n".join(lines) or r"\mbox{}"
    return r"{\footnotesize\ttfamily\raggedright" + "\n" + joined + r"\par}"


def _figure(plot: Plot) -> str:
    return "\n".join(
        [
            r"\begin{figure}[H]",
            r"\centering",
            rf"\includegraphics[width=\linewidth,height=0.8\textheight,keepaspectratio]{{figures/{plot.name}.pdf}}",
            rf"\caption{{{_inline(plot.caption)}}}",
            r"\end{figure}",
        ]
    )


def _table(table: Table) -> str:
    parts = [table.rows[i : i + MAX_ROWS] for i in range(0, len(table.rows), MAX_ROWS)] or [()]
    return "\n\n".join(_float(table, rows, " (continued)" if i else "") for i, rows in enumerate(parts))


def _float(table: Table, rows: tuple[Row, ...], more: str) -> str:
    lines = [
        r"\begin{table}[H]",
        r"\centering\small",
        rf"\caption{{{_inline(table.caption)}{more}}}",
        r"\begin{adjustbox}{max width=\linewidth,max totalheight=0.85\textheight}",
        rf"\begin{{tabular}}{{{''.join(_columns(table))}}}",
        r"\toprule",
        " & ".join(map(_inline, table.columns)) + r" \\",
        r"\midrule",
    ]
    for i, row in enumerate(rows):
        if row.kind and i and not rows[i - 1].kind:
            lines.append(r"\midrule")
        cells = [_cell(Cell(cell) if isinstance(cell, str) else cell) for cell in row.cells]
        if row.kind:
            cells[0] = rf"\textit{{{cells[0]}}}"
        lines.append(" & ".join(cells) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{adjustbox}"]
    if table.note:
        lines.append(rf"\par\smallskip{{\footnotesize {_inline(table.note)}\par}}")
    return "\n".join([*lines, r"\end{table}"])


def _columns(table: Table) -> list[str]:
    """Left-aligned; one with long texts gets the width of its longest, up to ``WIDEST_CM``."""
    kinds = []
    for i in range(len(table.columns)):
        cells = [row.cells[i] for row in table.rows]
        longest = max((len(plain(cell if isinstance(cell, str) else cell.text)) for cell in cells), default=0)
        kinds.append("l" if longest <= LONG else f"L{{{min(0.17 * longest, WIDEST_CM):.1f}cm}}")
    return kinds


def _cell(cell: Cell) -> str:
    value = rf"\textbf{{{_inline(cell.text)}}}" if cell.bold and cell.text else _inline(cell.text)
    lines = [" ".join(part for part in (value, _inline(cell.interval)) if part)]
    lines += [rf"{{\footnotesize {_inline(note)}}}" for note in cell.notes]
    problems = (line for problem in cell.problems for line in textwrap.wrap(plain(problem), LONG))
    lines += [rf"{{\footnotesize\color{{alert}}{escape(line)}}}" for line in problems]
    lines = [line for line in lines if line]
    if len(lines) < 2:
        return "".join(lines)
    return r"\begin{tabular}[t]{@{}l@{}}" + r"\\".join(lines) + r"\end{tabular}"
