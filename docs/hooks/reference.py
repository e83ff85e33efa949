"""MkDocs hook: the reference pages, written from the code whenever the site is built.

Commands come from Typer, fields of the study file from its JSON Schema, metrics from their catalogue, methods from
their recipes and search spaces, and the Python page from ``ablation.__all__`` (mkdocstrings reads the docstrings).
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

Row = Iterable[str]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, write in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def command_line() -> str:
    """Every command with its arguments, options, defaults and example."""
    parts = ["# Command line", "Data goes to stdout, everything else to stderr. "
             "`--help` of each command says the same as this page.", EXIT_CODES]
    for words, command in commands():
        context = command.make_context(words, [], resilient_parsing=True)
        usage = " ".join(command.collect_usage_pieces(context)).strip()
        parts += [f"## {words}", text(command.help), f"```text\nablation {words} {usage}\n```"]
        records = [parameter.get_help_record(context) for parameter in command.params if parameter.name != "help"]
        rows = [(f"`{name}`", " ".join(said.split())) for name, said in filter(None, records)]
        parts += [table(("argument or option", "meaning"), rows)] * bool(rows)
        if command.epilog:
            parts += [f"```sh\n{command.epilog.removeprefix('Example: ')}\n```"]
    return "\n\n".join(parts) + "\n"


def commands() -> Iterator[tuple[str, Any]]:
    """Each command of ``ablation`` by its words, a group's own first where it can be called alone."""
    import typer

    from ablation import cli

    root = typer.main.get_command(cli.complete())
    for name, command in sorted(root.commands.items()):  # type: ignore[attr-defined]
        if not hasattr(command, "commands"):
            yield name, command
            continue
        if command.invoke_without_command:
            yield name, command
        yield from ((f"{name} {inner}", command.commands[inner]) for inner in sorted(command.commands))


def study_file() -> str:
    """Every field of a study file, section by section, from the JSON Schema."""
    from ablation.spec import StudySpec

    schema = StudySpec.json_schema()
    parts = ["# All fields of a study file",
             "What they are for stands in [Study files](../studies.md). `ablation validate --schema` prints the JSON "
             "Schema that this page is made of; editors complete and check study files with it.",
             "## Top level", _fields(schema, schema["$defs"])]
    sections = {name: field for name, field in schema["properties"].items() if _section(field)}
    for name, field in sections.items():
        section = schema["$defs"][_section(field)]
        parts += [f"## {name}", text(section["description"])]
        if name == "overrides":
            parts += [_fields(section, schema["$defs"]), "`where` has the fields of `grid`; one that is left out "
                      "matches every trial."]
        else:
            parts += [_fields(section, schema["$defs"])]
    return "\n\n".join(parts) + "\n"


def _section(field: dict[str, Any]) -> str:
    """The definition that a field leads to, "" for a plain value."""
    for place in (field, field.get("items", {}), *field.get("anyOf", ())):
        if "$ref" in place:
            return str(place["$ref"]).rsplit("/", 1)[1]
    return ""


def _fields(section: dict[str, Any], definitions: dict[str, Any]) -> str:
    needed = section.get("required", ())
    rows = []
    for name, field in section["properties"].items():
        described = field.get("description") or definitions.get(_section(field), {}).get("description", "")
        default = "needed" if name in needed else _value(field["default"]) if "default" in field else ""
        if _section(field) and isinstance(field.get("default"), dict):
            default = ""  # a section; its own table has the defaults
        rows.append((f"`{name}`", _type(field), default, text(described)))
    return table(("field", "type", "default", "meaning"), rows)


def _type(field: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(one) for one in field["anyOf"]))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        return "section"
    if field.get("type") == "array":
        return f"list of {_type(field['items'])}" if field.get("items") else "list"
    if field.get("type") == "object":
        return "mapping"
    bounds = (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<"))
    limits = "".join(f" {sign} {field[name]:g}" for name, sign in bounds if name in field)
    return str(field.get("type", "any")) + limits


def metrics() -> str:
    """The catalogue: meaning, range, better direction and source of every key."""
    from trainers.evaluation.catalogue import IN_STORE_ONLY, METRICS

    parts = ["# All metrics",
             "Formulas and their reading: [Metrics](../metrics.md). `ablation metrics` prints this list.",
             "`better: context` says that no direction is better by itself. `label_free/` is computed on one set of "
             "train images that is the same for all trials, `label_free_own/` on the trial's own subset. In the store "
             f"but not in MLflow, which takes 40 keys a run: {', '.join(f'`{key}`' for key in sorted(IN_STORE_ONLY))}."]
    for group in dict.fromkeys(key.split("/")[0] for key in METRICS):
        rows = [(f"`{key}`", info.summary, info.range, info.better, info.source) for key, info in METRICS.items()
                if key.split("/")[0] == group]
        parts += [f"## {group}", table(("key", "what", "range", "better", "source"), rows)]
    return "\n\n".join(parts) + "\n"


def methods() -> str:
    """Every method with its recipe and search space; backbones and data sets."""
    from ablation.listings import backbone_rows, dataset_rows, setting_rows
    from trainers.methods import METHODS

    parts = ["# Methods, backbones, data sets",
             "The recipe of each method, and what a hyper-parameter search draws (`fixed` = not searched, `null` = the "
             "method or the subset decides). `ablation methods show NAME` prints it."]
    for name, method in METHODS.items():
        rows = [(f"`{row.parameter}`", row.backbone, _value(row.recipe_value), row.distribution, row.source)
                for row in setting_rows(name).itertuples()]
        head = ("setting", "backbone", "recipe", "search", "source")
        parts += [f"## {name}", f"{method.summary}. {method.paper}.", table(head, rows)]
    parts += ["## Backbones", table(("name", "what"), ((f"`{row.backbone}`", row.summary)
                                                       for row in backbone_rows().itertuples())),
              "Any other timm name can be given too.",
              "## Data sets", table(("name", "root", "what", "options"), (
                  (f"`{row.dataset}`", row.root, row.summary, f"`{row.options}`" if row.options else "")
                  for row in dataset_rows().itertuples()))]
    return "\n\n".join(parts) + "\n"


def python() -> str:
    """``ablation.__all__``, and what a search space or a method of one's own is made of."""
    import ablation

    parts = ["# Python", "Everything here but the last two sections is in the package `ablation`, which loads torch, "
             "Ray and MLflow only when they are needed."]
    names = [name for name in ablation.__all__ if name != "__version__"]
    errors = [name for name in names if inspect.isclass(value := getattr(ablation, name))
              and issubclass(value, ablation.AblationError)]
    others = sorted((name for name in names if name not in errors), key=lambda name: name[0].isupper())
    for name in others:
        value = getattr(ablation, name)
        home = value.__name__ if inspect.ismodule(value) else value.__module__
        parts += [_directive(f"{home}.{name}", level=2, heading=f"ablation.{name}")]
    parts += ["## Errors", *(_directive(f"ablation.errors.{name}") for name in errors)]
    space = importlib.import_module("ablation.distributions")
    parts += ["## Search spaces", *(_directive(f"ablation.distributions.{name}") for name in (
        "Space", "Parameter", "Uniform", "LogUniform", "Integer", "Categorical") if hasattr(space, name))]
    parts += ["## Methods and data sets", *(_directive(name) for name in (
        "trainers.methods.base.AbstractMethod", "trainers.methods.base.StepOutput",
        "trainers.data.index.AbstractDataset", "trainers.data.index.Index"))]
    return "\n\n".join(parts) + "\n"


def _directive(path: str, level: int = 3, heading: str | None = None) -> str:
    options = {"show_root_heading": True, "heading_level": level}
    options |= {"heading": heading, "toc_label": heading} if heading else {}
    return f"::: {path}\n    options: {json.dumps(options)}"


def table(head: Row, rows: Iterable[Row]) -> str:
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: str) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _value(value: Any) -> str:
    if value is None or value != value:
        return "`null`"
    shown = getattr(value, "value", value)
    return f"`{shown}`" if isinstance(shown, str) else f"`{json.dumps(shown)}`"


def text(docstring: str | None) -> str:
    """A docstring as Markdown: literals have one backtick there, paragraphs stay."""
    return inspect.cleandoc(docstring or "").replace("``", "`")


EXIT_CODES = table(("exit code", "meaning"), (
    ("0", "ok"), ("1", "internal error"), ("2", "mistake in the command, the study file or the data"),
    ("3", "finished, some trials failed"), ("4", "nothing matched"), ("5", "gate not met (`--fail-under`)"),
    ("6", "Ray or MLflow unreachable"), ("130", "interrupted")))
PAGES: dict[str, Callable[[], str]] = {"command-line": command_line, "study-file": study_file, "metrics": metrics,
                                       "methods": methods, "python": python}
