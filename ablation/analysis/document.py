"""A report as blocks: what is said, in which order, without a word of HTML, Markdown or LaTeX.

Texts are plain; `` `code` `` and ``**bold**`` are the only markup, everything else is shown as it stands.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

    from ablation.analysis.contact_sheet import Picture
    from ablation.analysis.style import Entry

Span: TypeAlias = tuple[Literal["", "code", "bold"], str]
_MARKUP = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


@dataclass(frozen=True)
class Cell:
    """One table cell: the value, its interval (``± 0.012``), notes (``n = 5``), and problems, which stand out."""

    text: str
    interval: str = ""
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    bold: bool = False


@dataclass(frozen=True)
class Row:
    """The first cell is the row's header. ``kind``: ``supervised`` and ``baseline`` are the reference rows."""

    cells: tuple[Cell | str, ...]
    kind: str = ""


Format: TypeAlias = Callable[..., Cell | str]
Columns: TypeAlias = Mapping[str | tuple[str, ...], tuple[str, Format]]


@dataclass(frozen=True)
class Table:
    """``name`` is unique in a document; each row has as many cells as there are ``columns``."""

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` on a row of another length than ``columns``."""
        if any(len(row.cells) != len(self.columns) for row in self.rows):
            raise ValueError(f"table {self.name}: each row needs {len(self.columns)} cells")

    @classmethod
    def from_frame(
        cls, name: str, caption: str, frame: pd.DataFrame, columns: Columns, note: str = "", kind: str = ""
    ) -> Table:
        """One row per row of ``frame``. ``columns``: frame column (or several) -> (title, format of its value(s)).

        ``kind`` names the frame's column with the kinds of rows, if there is one.
        """
        rows = [
            Row(
                tuple(
                    form(*(record[key] for key in ((keys,) if isinstance(keys, str) else keys)))
                    for keys, (_, form) in columns.items()
                ),
                str(record[kind]) if kind else "",
            )
            for record in frame.to_dict("records")
        ]
        return cls(name, caption, tuple(title for title, _ in columns.values()), tuple(rows), note)


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """A muted paragraph: how to read what follows."""

    text: str


@dataclass(frozen=True)
class Heading:
    """A heading below the section's."""

    text: str


@dataclass(frozen=True)
class Bullets:
    items: tuple[str, ...]


@dataclass(frozen=True)
class Terms:
    """(term, what is said of it) pairs."""

    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Plot:
    """Panels as SVG texts for the page; the whole figure is ``figures/NAME.{png,svg,pdf}``. See ``Bundle.plot``."""

    name: str
    caption: str
    panels: tuple[str, ...]
    legend: tuple[Entry, ...] = ()
    kind: Literal["wide", "small", "tall"] = "small"


@dataclass(frozen=True)
class Pictures:
    """A strip of test images, best match first; an empty one is shown as "None."."""

    title: str
    pictures: tuple[Picture, ...]

    def listing(self) -> Table:
        """Names, truths and scores, for formats that hold no pictures."""
        rows = tuple(Row((code(p.image_id), p.truth, f"{p.score:.3f}")) for p in self.pictures)
        note = "The pictures are in report.html." if rows else ""
        return Table("", self.title, ("Image", "Truth", "Score"), rows or (Row(("None.", "", "")),), note)


@dataclass(frozen=True)
class Code:
    """A file's text, every space and line kept."""

    title: str
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that the page keeps closed until asked for."""

    title: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Text | Note | Heading | Bullets | Terms | Table | Plot | Pictures | Code | Details


@dataclass(frozen=True)
class Section:
    """``anchor``: letters, digits and ``-``, unique in a document. Numbers are given by the renderers."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    title: str
    kicker: str
    summary: tuple[Block, ...]
    sections: tuple[Section, ...]


def spans(text: str) -> list[Span]:
    """The text cut at its markup; white space and line ends become single spaces."""
    text = " ".join(printable(text).split())
    found: list[Span] = []
    end = 0
    for match in _MARKUP.finditer(text):
        found.append(("", text[end : match.start()]))
        found.append(("code", match[1]) if match[1] else ("bold", match[2]))
        end = match.end()
    found.append(("", text[end:]))
    return [(kind, part) for kind, part in found if part]


def unbroken(text: str) -> str:
    """With no-break spaces where no line may end: before ``%``, after ``±`` and ``<``."""
    return re.sub(r"(?<=\d) (?=%)|(?<=[±<]) ", "\u00a0", text)


def plain(text: str) -> str:
    """The text without its markup."""
    return "".join(part for _, part in spans(text))


def code(text: object) -> str:
    """A name as code; a backtick inside it, which would end the code, becomes an apostrophe."""
    return "`" + (str(text).replace("`", "'") or " ") + "`"


def printable(text: str) -> str:
    """The text without control characters and lone surrogates, which no format can hold."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs") else "?" for c in text)
