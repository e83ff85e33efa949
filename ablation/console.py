"""Printing: frames on stdout in the format asked for, notes and errors on stderr."""

from __future__ import annotations

import enum
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

TABLE_ROWS = 300
"""More are not read by people, and take rich a millisecond each; the other formats are never cut."""


COLUMN_GAP, PROSE_WIDTH = 3, 16


class Format(enum.StrEnum):
    """Of read commands."""

    table = "table"
    json = "json"
    csv = "csv"
    md = "md"


def note(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def redraws(console: Console) -> bool:
    """Whether lines may be drawn over: not in a file, a pipe, a CI log (which may ask for colours) or a dumb terminal.
    """
    return console.is_interactive and console.file.isatty() and not os.environ.get("CI")


def one_line(text: str, style: str = "") -> Text:
    """Ends in an ellipsis instead of wrapping."""
    from rich.text import Text

    return Text(text.replace("\n", " "), style, no_wrap=True, overflow="ellipsis")


def one_line_grid(*gives_way: bool) -> Table:
    """A column for each word: which of them lose their ends first where the screen is narrow."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for narrows in gives_way:
        table.add_column(no_wrap=not narrows)
    return table


def emit(frame: pd.DataFrame, format: Format, whole: str = "--format csv") -> None:
    """Print a frame. JSON is a list of records; a NaN becomes null. ``whole``: what shows all of a table."""
    if format is Format.json:
        print(frame.to_json(orient="records", indent=1, force_ascii=False, double_precision=15))
    elif format is Format.csv:
        print(frame.to_csv(index=False), end="")
    elif format is Format.md:
        print(markdown(frame))
    else:
        _table(frame, whole)


def cell(value: Any) -> str:
    """Numbers short, absent values empty."""
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4f}".rstrip("0").rstrip(".")
    if isinstance(value, (list, tuple, set)):
        return ", ".join(map(str, value))
    return str(value)


def markdown(frame: pd.DataFrame) -> str:
    """A Markdown table."""
    rows = [list(map(str, frame.columns)), ["---"] * len(frame.columns)]
    rows += [[cell(value).replace("|", "\\|") for value in row] for row in frame.itertuples(index=False)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def rendered(frame: pd.DataFrame, heads: Sequence[str] = ()) -> Table:
    """Aligned columns under ``heads``, by default their names. Prose may wrap; keys and numbers stay whole."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name, head in zip(frame.columns, heads or map(str, frame.columns), strict=False):
        table.add_column(head, justify="right" if frame[name].dtype.kind in "fiu" else "left", overflow="fold",
                         no_wrap=not any(" " in text for text in map(cell, frame[name])))
    for row in frame.itertuples(index=False):
        table.add_row(*map(cell, row))
    return table


def _num_fitting(frame: pd.DataFrame, heads: Sequence[str], width: int) -> int:
    """How many columns, from the left, have room for their longest word, of prose for PROSE_WIDTH; one at least."""
    left = width
    for number, (name, head) in enumerate(zip(frame.columns, heads, strict=True)):
        texts = list(map(cell, frame[name]))
        need = max((len(word) for text in texts for word in text.split()), default=0)
        if any(" " in text for text in texts):
            need = min(need, PROSE_WIDTH)
        left -= max(need, *map(len, head.split())) + (COLUMN_GAP if number else 0)
        if left < 0:
            return max(1, number)
    return len(heads)


def _table(frame: pd.DataFrame, whole: str) -> None:
    """Not cut to the terminal's width when piped, so that keys can be copied whole."""
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    rows = frame.head(TABLE_ROWS)
    heads = list(map(str, rows.columns))
    fitting = len(heads)
    if not console.file.isatty():
        console = Console(highlight=False, markup=False, emoji=False, width=10_000)
    elif _num_fitting(rows, heads, console.width) < fitting:
        heads = [head.replace("/", "/\n") for head in heads]
        fitting = _num_fitting(rows, heads, console.width)
    console.print(rendered(rows.iloc[:, :fitting], heads))
    if fitting < len(heads):
        note(f"no room for {', '.join(map(str, frame.columns[fitting:]))}: {whole} shows all")
    if len(frame) > TABLE_ROWS:
        note(f"… and {len(frame) - TABLE_ROWS} more rows: {whole} shows all")


def fail(error: BaseException) -> int:
    """Say an error on stderr, one line per problem, and return its exit code."""
    from typer import TyperException

    from ablation.errors import AblationError

    if isinstance(error, KeyboardInterrupt):
        note("interrupted; run the same command again to continue")
        return 130
    if isinstance(error, TyperException):
        return _usage(error)
    if isinstance(error, AblationError):
        for line in str(error).splitlines():
            note(f"error: {line}")
        return error.exit_code
    if type(error).__name__ in ("ConfigError", "DataError", "CorruptImage"):  # of trainers, without importing it
        note(f"error: {error}")
        return 2
    traceback.print_exception(error)
    note("error: internal error, please report the lines above")
    return 1


def _usage(error: Any) -> int:
    """Of typer's own errors: one line with the page that helps; the page itself where no command is named."""
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        text = re.sub(r"Input should be ([^,]*).*", r"must be \1", error.format_message().replace("Value error, ", ""))
        text = re.sub(r"\. Did you mean (.*)\?", r" (did you mean \1?)", text).rstrip(".")
        note(f"error: {text}; see: {context.command_path if context else 'ablation'} --help")
    return int(error.exit_code)
