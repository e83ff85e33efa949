"""``ablation analyze``: the tables of ``StudyResults`` on the command line, each with n and interval."""

from __future__ import annotations

from typing import Annotated

import typer

from ablation.console import Format, emit

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Statistics over the trials of a study.")
Name = Annotated[str, typer.Argument(help="name of a study in the store")]
StoreOption = Annotated[str | None, typer.Option("--store", help="folder of all studies [ABLATION_STORE, ./studies]")]
FormatOption = Annotated[Format, typer.Option("--format", help="how to print")]
Metric = Annotated[str, typer.Option("--metric", "-m", help="see: ablation metrics")]


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise typer.BadParameter("name at least one column or metric, comma separated")
    return words


@app.command(epilog="Example: ablation analyze correlate quickstart label_free/rankme --within method,backbone")
def correlate(name: Name, selector: Annotated[str, typer.Argument(help="a label-free metric")] = "label_free/rankme",
              metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
              within: Annotated[str, typer.Option(help="what makes a group, comma separated")] = "method") -> None:
    """Does a label-free metric rank trials as the probe does: within groups, between them, pooled."""
    from ablation.results import load_study

    emit(load_study(name, store=store).correlate(selector, metric, _words(within)), format)


@app.command(epilog="Example: ablation analyze regret quickstart label_free/rankme,label_free/alpha_req")
def regret(name: Name, selectors: Annotated[str, typer.Argument(help="metrics, comma separated")] = "label_free/rankme",
           metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
           within: Annotated[str, typer.Option(help="what makes a choice, comma separated")] = "method,imbalance",
           ) -> None:
    """What choosing by a selector costs, beside a blind choice and the training loss."""
    from ablation.results import load_study

    emit(load_study(name, store=store).regret(_words(selectors), metric, _words(within)), format)


@app.command(epilog="Example: ablation analyze variance quickstart --factors method,backbone,imbalance")
def variance(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
             factors: Annotated[str, typer.Option(help="comma separated")] = "method,backbone,imbalance") -> None:
    """Which factor moves the score: omega squared and the typical swing."""
    from ablation.results import load_study

    emit(load_study(name, store=store).variance(metric, _words(factors)), format)


@app.command(epilog="Example: ablation analyze ranks quickstart --by method")
def ranks(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
          by: Annotated[str, typer.Option(help="what is compared")] = "method",
          blocks: Annotated[str | None, typer.Option(help="what makes a block; default: the other factors")] = None,
          ) -> None:
    """Do they differ: Friedman over blocks, then each pair by Wilcoxon with Holm. Also: ablation compare."""
    from ablation.results import load_study

    emit(load_study(name, store=store).compare(metric, by, None if blocks is None else _words(blocks)), format)
