"""``ablation analyze``: the tables of ``StudyResults`` on the command line, each with n and interval."""

from __future__ import annotations

from typing import Annotated

import typer

from ablation import completion
from ablation.arguments import FormatOption, Metric, Name, StoreOption
from ablation.console import Format, emit

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Statistics over the trials of a study.")
Supervised = Annotated[bool, typer.Option(help="with the supervised references; the report leaves them out")]


def _words(text: str) -> list[str]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise typer.BadParameter("name at least one column or metric, comma separated")
    return words


@app.command(epilog="Example: ablation analyze correlate quickstart label_free/rankme --within method,backbone")
def correlate(name: Name, selector: Annotated[str, typer.Argument(
        help="a label-free metric", autocompletion=completion.label_free)] = "label_free/rankme",
              metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
              within: Annotated[str, typer.Option(help="what makes a group, comma separated")] = "method",
              supervised: Supervised = True) -> None:
    """Does a label-free metric rank trials as the probe does: within groups, between them, pooled."""
    from ablation.results import load_study

    emit(load_study(name, store=store).correlate(selector, metric, _words(within), supervised=supervised), format)


@app.command(epilog="Example: ablation analyze regret quickstart label_free/rankme,label_free/alpha_req")
def regret(name: Name, selectors: Annotated[str, typer.Argument(
        help="metrics, comma separated, or all", autocompletion=completion.label_free)] = "all",
           metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
           within: Annotated[str, typer.Option(help="what makes a choice, comma separated")] = "method,imbalance",
           supervised: Supervised = True) -> None:
    """What choosing by a selector costs, beside a blind choice, the training loss, and 20, 50, 100 labelled defects."""
    from ablation.results import load_study

    chosen = None if selectors == "all" else _words(selectors)
    emit(load_study(name, store=store).regret(chosen, metric, _words(within), supervised=supervised), format)


@app.command(epilog="Example: ablation analyze variance quickstart --factors method,backbone,imbalance")
def variance(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
             factors: Annotated[str, typer.Option(help="comma separated")] = "method,backbone,imbalance",
             supervised: Supervised = True) -> None:
    """Which factor moves the score: omega squared and the typical swing."""
    from ablation.results import load_study

    emit(load_study(name, store=store).variance(metric, _words(factors), supervised), format)


@app.command(epilog="Example: ablation analyze ranks quickstart --by method")
def ranks(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
          by: Annotated[str, typer.Option(help="what is compared")] = "method",
          blocks: Annotated[str | None, typer.Option(help="what makes a block; default: the other factors")] = None,
          supervised: Supervised = True) -> None:
    """Do they differ: Friedman over blocks, then each pair by Wilcoxon with Holm. Also: ablation compare."""
    from ablation.results import load_study

    blocks_ = None if blocks is None else _words(blocks)
    emit(load_study(name, store=store).compare(metric, by, blocks_, supervised), format)


@app.command(epilog="Example: ablation analyze drop quickstart --by method,backbone")
def drop(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
         by: Annotated[str, typer.Option(help="one row for each of these, comma separated")] = "method") -> None:
    """What rarity costs: the most balanced level less every other one, paired by seed."""
    from ablation.results import load_study

    emit(load_study(name, store=store).drop(metric, _words(by)), format)


@app.command(epilog="Example: ablation analyze curves quickstart --metric train/loss --by method --format csv")
def curves(name: Name, metric: Metric = "train/loss", store: StoreOption = None, format: FormatOption = Format.table,
           by: Annotated[str, typer.Option(help="one curve for each of these")] = "method,backbone,imbalance") -> None:
    """Learning curves: mean over trials by epoch, with n and interval."""
    from ablation.results import load_study

    emit(load_study(name, store=store).curves(metric, _words(by)), format)


@app.command(epilog="Example: ablation analyze claims quickstart --format md")
def claims(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None,
           format: FormatOption = Format.table) -> None:
    """The paper's claims C1 to C7, each with this study's effect, interval, n and a computed verdict."""
    from ablation.results import load_study

    emit(load_study(name, store=store).claims(metric), format)


@app.command(epilog="Example: ablation analyze next quickstart > more.yaml && ablation run more.yaml")
def next(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None,
         max_more: Annotated[int, typer.Option(min=1, help="most seeds to add")] = 10,
         format: Annotated[Format | None, typer.Option("--format", help="print the pairs and not a file")] = None,
         ) -> None:
    """The trials worth running next: a study file that extends this one, reasons on stderr. Exit 4 if none is."""
    from ablation.console import note
    from ablation.errors import NothingMatched
    from ablation.results import load_study

    found = load_study(name, store=store).extension(metric, max_more)
    if format is not None:
        emit(found.pairs, format)
        return
    for line in found.lines():
        note(line)
    if found.spec is None:
        raise NothingMatched("no further trial is worth running: nothing is unfinished and more seeds settle nothing")
    print(found.spec.to_yaml(), end="")


@app.command(epilog="Example: ablation analyze search fair; ablation analyze search fair --recipes > tuned.yaml")
def search(name: Name, store: StoreOption = None, format: FormatOption = Format.table,
           metric: Annotated[str | None, typer.Option("--metric", "-m", help="an objective of the search")] = None,
           candidates: Annotated[bool, typer.Option("--candidates", help="one row per candidate")] = False,
           recipes: Annotated[bool, typer.Option("--recipes", help="print the winners as a study file")] = False,
           ) -> None:
    """What each hyper-parameter search spent and found."""
    from ablation.analysis.search_tables import accounting
    from ablation.errors import NothingMatched
    from ablation.results import load_study

    results = load_study(name, store=store)
    if recipes:
        print(results.best_recipes(metric).to_yaml(), end="")
        return
    frame = results.search_dataframe()
    frame = frame if metric is None else frame[frame["metric"] == metric]
    if frame.empty:
        raise NothingMatched(f"study '{name}' has no search{f' by {metric}' if metric else ''}")
    emit(frame if candidates else accounting(frame), format)


def in_order(words: list[str]) -> list[str]:
    """``analyze STUDY ranks`` means ``analyze ranks STUDY``."""
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    if words[:1] == ["analyze"] and len(words) > 2 and words[1] not in known and words[2] in known:
        return ["analyze", words[2], words[1], *words[3:]]
    return words
