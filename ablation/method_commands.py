"""``ablation methods``: the list, and the recipe and search space of one method."""

from __future__ import annotations

from typing import Annotated

import typer

from ablation import completion
from ablation.arguments import FormatOption
from ablation.console import Format, emit

app = typer.Typer(rich_markup_mode=None, invoke_without_command=True, epilog="Example: ablation methods")


@app.callback()
def methods(context: typer.Context, format: FormatOption = Format.table) -> None:
    """The methods, their papers and default hyper-parameters."""
    if context.invoked_subcommand is not None:
        context.obj = format
        return
    from ablation.listings import method_rows

    rows = method_rows()
    emit(rows.drop(columns=["paper", "options"]) if format is Format.table else rows, format)


@app.command(epilog="Example: ablation methods show simclr --format csv")
def show(context: typer.Context, name: Annotated[str, typer.Argument(
            help="a method, or path.py:Class", autocompletion=completion.methods)],
         space: Annotated[str, typer.Option(help="default, or path.py:function")] = "default",
         format: Annotated[Format | None, typer.Option("--format", help="how to print [table]")] = None) -> None:
    """The recipe of a method, setting by setting, and what a hyper-parameter search would draw for it."""
    from ablation.listings import setting_rows

    wanted, rows = format or context.obj, setting_rows(name, space)
    emit(rows if wanted is Format.json else rows.fillna({"recipe_value": "null"}), wanted)
