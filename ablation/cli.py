"""The command line: parses, calls, prints. Data on stdout, everything else on stderr.

Nothing heavy is imported before a command needs it: ``ablation --help`` answers at once. Exit codes: 0 ok,
1 internal error, 2 usage, configuration or data error, 3 finished with failed trials, 4 nothing matched, 5 gate
not met, 6 Ray or MLflow unreachable, 130 interrupted.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

from ablation import __version__, completion
from ablation.arguments import FormatOption, Metric, Name, StoreOption, Study
from ablation.console import Format, emit, fail, note

app = typer.Typer(
    name="ablation", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    help="Self-supervised learning under class imbalance: plan, run on Ray, track in MLflow, analyse.",
    epilog="First steps: ablation run quickstart")

Overrides = Annotated[list[str] | None, typer.Argument(help="fields of the study file, e.g. train.epochs=5")]
Keys = Annotated[list[str] | None, typer.Argument(help="trials by key; default: all",
                                                  autocompletion=completion.keys)]
Tracking = Annotated[str | None, typer.Option("--tracking-uri", help="MLflow [MLFLOW_TRACKING_URI, the store]")]
Tiny = Annotated[bool, typer.Option("--allow-tiny", help="let subsets with fewer than 20 defects through")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.command(epilog="Example: ablation init parts.yaml --data /data/parts")
def init(file: Annotated[Path, typer.Argument(help="study file to write")] = Path("study.yaml"),
         data: Annotated[str | None, typer.Option(help="folder of class folders, or a CSV or Parquet table; "
                                                       "default: drawn sewer pictures")] = None) -> None:
    """Write a commented study file; asks nothing and never overwrites."""
    from ablation.errors import SpecError
    from ablation.template_study import study_text

    if file.suffix not in (".yaml", ".yml"):
        raise SpecError(f"{file}: a study file ends in .yaml")
    try:
        with file.open("x") as handle:
            handle.write(study_text(str(file), file.stem, data))
    except FileExistsError:
        raise SpecError(f"{file}: exists already; give another name: ablation init other.yaml") from None
    except OSError as error:
        raise SpecError(f"{file}: cannot be written ({error.strerror}); name a file in a folder that exists") from None
    if data is not None and not Path(data).expanduser().exists():
        note(f"{data}: is not there yet; data.root in {file} says where the pictures are")
    note(f"{file}: written; next: ablation plan {file}, then ablation run {file}")


@app.command(epilog="Example: ablation doctor study.yaml --address HOST:6379")
def doctor(study: Annotated[str | None, typer.Argument(help="a study to plan as well",
                                                         autocompletion=completion.sources)] = None,
           overrides: Overrides = None, store: StoreOption = None, tracking_uri: Tracking = None,
           address: Annotated[str | None, typer.Option(help="Ray cluster [RAY_ADDRESS, a local one]")] = None,
           format: FormatOption = Format.table) -> None:
    """Will a study run here: each line ok, warn or fail, with the fix. Exit 2, or 6 when only Ray or MLflow fail."""
    import pandas as pd

    from ablation.doctor import examine

    found = pd.DataFrame([vars(finding) for finding in examine(store, tracking_uri, address, study, overrides)])
    emit(found, format)
    failed = set(found.loc[found["result"] == "fail", "check"])
    raise typer.Exit(0 if not failed else 6 if failed <= {"ray", "mlflow"} else 2)


@app.command(epilog="Example: ablation validate study.yaml train.epochs=5")
def validate(study: Annotated[str | None, typer.Argument(help="as for run",
                                                         autocompletion=completion.sources)] = None,
             overrides: Overrides = None,
             schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of a study file")] = False,
             ) -> None:
    """Check a study file without reading its data."""
    import json

    from ablation.spec import StudySpec

    if schema:
        print(json.dumps(StudySpec.json_schema(), indent=1))
        return
    if study is None:
        raise typer.BadParameter("name a study file, or use --schema")
    spec = StudySpec.load(study, overrides or ())
    note(f"{study}: ok, study '{spec.name}'")


@app.command(epilog="Example: ablation plan study.yaml 'grid.seed=[0,1,2]' --format csv")
def plan(study: Study, overrides: Overrides = None, store: StoreOption = None, allow_tiny: Tiny = False,
         format: FormatOption = Format.table,
         estimate: Annotated[bool, typer.Option("--estimate", help="measure a few steps of each kind of trial here")] =
         False) -> None:
    """Show which trials a study has, with the images of each level, and what they will cost; trains nothing."""
    from ablation.plan_command import show_plan

    show_plan(study, overrides or [], store, allow_tiny, format, estimate)


@app.command(epilog="Example: ablation run quickstart --store /tmp/studies")
def run(study: Study, overrides: Overrides = None, store: StoreOption = None, tracking_uri: Tracking = None,
        address: Annotated[str | None, typer.Option(help="Ray cluster [RAY_ADDRESS, a local one]")] = None,
        max_concurrent: Annotated[int | None, typer.Option(min=1, help="most trials at once")] = None,
        allow_tiny: Tiny = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="same as: ablation plan")] = False,
        detach: Annotated[bool, typer.Option("--detach", help="let the cluster run it (Ray Jobs) and return at once; "
                                                              "--address is then http://HOST:8265")] = False,
        fail_under: Annotated[list[str] | None, typer.Option(
            autocompletion=completion.gates,
            help="gate, e.g. probe/auroc=0.8: exit 5 unless the best trial reaches it")] = None) -> None:
    """Run what is not finished yet; safe to repeat, adding seeds or methods runs only what is new."""
    from ablation.commands import detach_study, run_study

    if dry_run:
        plan(study, overrides, store, allow_tiny)
        return
    if detach:
        print(detach_study(study, overrides or [], store=store, tracking_uri=tracking_uri, address=address,
                           max_concurrent=max_concurrent, allow_tiny=allow_tiny, gates=fail_under or []))
        return
    code = run_study(study, overrides or [], store=store, tracking_uri=tracking_uri, address=address,
                     max_concurrent=max_concurrent, allow_tiny=allow_tiny,
                     gates=fail_under or [])
    raise typer.Exit(code)


@app.command(epilog="Example: ablation status quickstart --watch")
def status(name: Annotated[str | None, typer.Argument(help="a study; default: all of the store",
                                                     autocompletion=completion.studies)] = None,
           store: StoreOption = None, format: FormatOption = Format.table,
           watch: Annotated[bool, typer.Option("--watch", help="refresh until no driver runs")] = False) -> None:
    """How far a study is; reads the store only, so it works while a driver runs and after it died."""
    from ablation.commands import launch_line, study_status, watch_status

    if watch:
        watch_status(name, store)
    emit(study_status(name, store), format)
    if name and (line := launch_line(name, store)):
        note(line)


@app.command(epilog="Example: ablation logs quickstart --follow")
def logs(name: Name, keys: Keys = None, store: StoreOption = None,
         follow: Annotated[bool, typer.Option("--follow", "-f", help="until no driver runs")] = False) -> None:
    """What the trials have said, and the traceback of failed ones."""
    from ablation.control import log_lines
    from ablation.results import load_study

    for line in log_lines(load_study(name, store=store).store, keys or [], follow):
        print(line, flush=follow)


@app.command(epilog="Example: ablation stop quickstart simclr-resnet18-p0.5-s0-3f9a1c2e")
def stop(name: Name, keys: Keys = None, store: StoreOption = None) -> None:
    """Stop the driver of a study in order, or some running trials; run the study again to continue them."""
    from ablation.control import stop_driver, stop_trials
    from ablation.results import load_study

    study = load_study(name, store=store).store
    if keys:
        note(f"{name}: {len(stop_trials(study, keys))} trial(s) will stop after their present epoch")
    else:
        note(f"{name}: process {stop_driver(study)} has ended; run the study again to continue")


@app.command(epilog="Example: ablation retry quickstart")
def retry(name: Name, keys: Keys = None, store: StoreOption = None) -> None:
    """Let failed, stopped and stale trials run again at the next 'ablation run'; default: all of them."""
    from ablation.control import retry_trials
    from ablation.results import load_study

    note(f"{name}: {len(retry_trials(load_study(name, store=store).store, keys or []))} trial(s) are PENDING again")


@app.command(epilog="Example: ablation results quickstart --where \"method == 'simclr'\" --format csv")
def results(name: Name, store: StoreOption = None, format: FormatOption = Format.table,
            where: Annotated[str | None, typer.Option(help="pandas expression over the columns")] = None,
            everything: Annotated[bool, typer.Option("--all", help="all columns in the table")] = False) -> None:
    """One row per planned trial, failed ones included."""
    from ablation.commands import trial_rows

    emit(trial_rows(name, store, where, everything or format is not Format.table), format)


@app.command(epilog="Example: ablation best quickstart --by imbalance,backbone -k 3")
def best(name: Name, store: StoreOption = None, metric: Metric = "probe/auroc", format: FormatOption = Format.table,
         by: Annotated[str, typer.Option(help="best of each; comma separated, empty = overall")] = "imbalance",
         k: Annotated[int, typer.Option("-k", min=1, help="how many of each")] = 1) -> None:
    """The best trials by a metric."""
    from ablation.results import load_study

    emit(load_study(name, store=store).best(metric, by=[word for word in by.split(",") if word], k=k), format)


@app.command(epilog="Example: ablation compare quickstart --by backbone --format md")
def compare(name: Name, metric: Metric = "probe/auroc", store: StoreOption = None, format: FormatOption = Format.table,
            by: Annotated[str, typer.Option(help="what is compared")] = "method") -> None:
    """Do methods (or backbones, levels) differ; pairs with effect, probability of being better, and Holm's p."""
    from ablation.results import load_study

    emit(load_study(name, store=store).compare(metric, by), format)


@app.command(epilog="Example: ablation report quickstart --out /tmp/report")
def report(name: Name, store: StoreOption = None,
           out: Annotated[Path | None, typer.Option(help="folder [STORE/<study>/report]")] = None) -> None:
    """Write the report (HTML, Markdown, LaTeX; tables and figures beside them) and print its path."""
    from ablation.results import load_study

    print(load_study(name, store=store).report(out, note))


@app.command(epilog="Example: ablation sync quickstart --tracking-uri http://127.0.0.1:5000")
def sync(name: Name, store: StoreOption = None, tracking_uri: Tracking = None) -> None:
    """Bring MLflow up to date from the store; can be repeated, never duplicates."""
    from ablation.results import load_study
    from ablation.store import Store
    from ablation.tracking import Mirror

    study = load_study(name, store=store).store
    Mirror(Store(store), study, tracking_uri).finish(study.path / "report", note)
    note(f"{name}: MLflow is up to date")


@app.command(epilog="Example: ablation ui --port 5000")
def ui(store: StoreOption = None, tracking_uri: Tracking = None,
       port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free port")] = 5000) -> None:
    """Start the MLflow web page over the store, on this machine only, until Ctrl-C."""
    from ablation.mlflow_server import serve
    from ablation.store import Store

    raise typer.Exit(serve(Store(store), tracking_uri, port, note))


@app.command(epilog="Example: ablation backbones --format json")
def backbones(format: FormatOption = Format.table) -> None:
    """The backbones that have recipes; any other timm name can be given too."""
    from ablation.listings import backbone_rows

    emit(backbone_rows(), format)


@app.command(epilog="Example: ablation datasets")
def datasets(format: FormatOption = Format.table) -> None:
    """The data set readers and what they expect."""
    from ablation.listings import dataset_rows

    emit(dataset_rows(), format)


@app.command(epilog="Example: ablation metrics --format md")
def metrics(format: FormatOption = Format.table) -> None:
    """Every metric: what it is, its range, which direction is better, its source."""
    from ablation.listings import metric_rows

    emit(metric_rows(), format)


@cache
def complete() -> typer.Typer:
    """The app with its groups of commands."""
    from ablation.analyze_commands import app as analyze_app
    from ablation.data_commands import app as data_app
    from ablation.method_commands import app as methods_app
    from ablation.model_commands import app as model_app

    app.registered_groups.clear()
    app.add_typer(data_app, name="data")
    app.add_typer(analyze_app, name="analyze")
    app.add_typer(methods_app, name="methods")
    app.add_typer(model_app)  # export and score
    return app


def main() -> None:
    """Entry point: every error becomes one line per problem and its exit code."""
    from ablation.analyze_commands import in_order

    try:
        code = complete()(in_order(sys.argv[1:]), prog_name="ablation", standalone_mode=False)
    except (KeyboardInterrupt, Exception) as error:
        code = fail(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
