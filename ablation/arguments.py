"""Arguments and options that several groups of commands take. Imports nothing heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from ablation import completion
from ablation.console import Format

Study = Annotated[str, typer.Argument(autocompletion=completion.sources,
                                      help="study.yaml, path.py:function, or the name of a built-in study")]
Name = Annotated[str, typer.Argument(help="name of a study in the store", autocompletion=completion.studies)]
StoreOption = Annotated[str | None, typer.Option("--store", help="folder of all studies [ABLATION_STORE, ./studies]")]
FormatOption = Annotated[Format, typer.Option("--format", help="how to print")]
Metric = Annotated[str, typer.Option("--metric", "-m", help="see: ablation metrics",
                                     autocompletion=completion.metrics)]
