"""A document as GitHub's Markdown; figures are links to ``figures/*.png`` beside it."""

from __future__ import annotations

import re

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
    printable,
    spans,
)

_SPECIAL = re.compile(r"[\\`*_{}\[\]#|~$!]")


def render(document: Document) -> str:
    numbered = list(enumerate(document.sections, 1))
    parts = [f"# {_inline(document.title)}", _inline(document.kicker), *_blocks(document.summary)]
    parts.append("\n".join(f"- [{i} {_inline(s.title)}](#{s.anchor})" for i, s in numbered))
    for i, section in numbered:
        parts += [f'<a id="{section.anchor}"></a>', f"## {i} {_inline(section.title)}", *_blocks(section.blocks)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _blocks(blocks: tuple[Block, ...]) -> list[str]:
    return [_block(block) for block in blocks]


def _block(block: Block) -> str:
    match block:
        case Text(text) | Note(text):
            return _paragraph(text)
        case Heading(text):
            return f"### {_inline(text)}"
        case Bullets(items):
            return "\n".join(f"- {_paragraph(item)}" for item in items)
        case Terms(items):
            return "\n".join(f"- {_strong(term)}: {_inline(text)}" for term, text in items)
        case Table():
            return _table(block)
        case Plot():
            return f"![{block.name.replace('_', ' ')}](figures/{block.name}.png)\n\n{_paragraph(block.caption)}"
        case Pictures():
            return _table(block.listing())
        case Code():
            return f"{_heading(block.title)}\n\n{_fenced(block.text)}"
        case Details():
            return "\n\n".join([_heading(block.title), *_blocks(block.blocks)])


def _heading(text: str) -> str:
    return f"### {_inline(text)}"


def _paragraph(text: str) -> str:
    """Text that begins like a list item is no list."""
    return re.sub(r"^(\d+)([.)])", r"\1\\\2", re.sub(r"^([-+=])", r"\\\1", _inline(text)))


def _inline(text: str) -> str:
    marks = {"": "{}", "bold": "**{}**"}
    return "".join(_code(part) if kind == "code" else marks[kind].format(_escape(part)) for kind, part in spans(text))


def _strong(text: str) -> str:
    """All of it bold, so that bold parts are nothing special."""
    return f"**{''.join(_code(part) if kind == 'code' else _escape(part) for kind, part in spans(text))}**"


def _code(text: str) -> str:
    """A pipe would end a table's cell, also inside code; outside a table the backslash would show, so a tag is used."""
    return f"`{text}`" if "|" not in text else f"<code>{_escape(text)}</code>"


def _escape(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(lambda match: "\\" + match[0], text)


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{printable(text).rstrip()}\n{fence}"


def _table(table: Table) -> str:
    lines = [
        "| " + " | ".join(map(_inline, table.columns)) + " |",
        "|" + " --- |" * len(table.columns),
        *("| " + " | ".join(_row(row)) + " |" for row in table.rows),
    ]
    parts = [_strong(table.caption), "\n".join(lines), _paragraph(table.note)]
    return "\n\n".join(part for part in parts if part)


def _row(row: Row) -> list[str]:
    cells = [_cell(Cell(cell) if isinstance(cell, str) else cell) for cell in row.cells]
    return [f"*{cells[0]}*", *cells[1:]] if row.kind and cells[0] else cells


def _cell(cell: Cell) -> str:
    value = _strong(cell.text) if cell.bold and cell.text else _inline(cell.text)
    first = " ".join(part for part in (value, _inline(cell.interval)) if part)
    rest = [*map(_inline, cell.notes), *(f"⚠ {_inline(problem)}" for problem in cell.problems)]
    return "<br>".join(part for part in (first, *rest) if part)
