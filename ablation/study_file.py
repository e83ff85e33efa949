"""Reading a study file: YAML 1.2 scalars, the line of every field, ``key.path=value`` overrides, all errors at once."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ablation.errors import SpecError

Loc = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars: ``1e-3`` is a number, ``no`` and ``2026-11-24`` are text, ``010`` is ten."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - pyyaml's own class attribute


_SCALARS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan",
     list("-+.0123456789")),
    ("tag:yaml.org,2002:merge", r"<<", ["<"]),
)
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


@dataclass(frozen=True)
class Document:
    """Plain data plus where each field was written."""

    data: dict[str, Any]
    origin: str
    """File or function name, for messages."""
    places: dict[Loc, str] = field(default_factory=dict)
    """Field -> ``study.yaml:6`` or ``argument 'train.epochs=5'``."""

    def place(self, loc: Loc) -> str:
        """Where ``loc``, or the nearest field that encloses it, was written."""
        for length in range(len(loc), -1, -1):
            if loc[:length] in self.places:
                return self.places[loc[:length]]
        return self.origin


def read_yaml(path: Path) -> Document:
    """Raises ``SpecError`` for a missing file, bad syntax, duplicate keys, or a file that is no mapping."""
    loader = None
    try:
        loader = _Loader(_text(path))
        node = loader.get_single_node()
        if node is None:
            raise SpecError(f"{path.name}: is empty; 'ablation init other.yaml' writes a study file to start from")
        if not isinstance(node, yaml.MappingNode):
            raise SpecError(f"{path.name}:1: a study file is a mapping, with lines such as 'name: parts', 'grid:'")
        places: dict[Loc, str] = {(): f"{path.name}:1"}
        problems = list(_walk(node, (), path.name, places))
        if problems:
            raise SpecError(problems)
        return Document(loader.construct_document(node), path.name, places)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path.name}:{line}: not valid YAML: {_complaint(error)}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path.name}: not a text file: {str(error).splitlines()[0]}") from None
    finally:
        if loader is not None:
            loader.dispose()


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; 'ablation init {path}' writes one to start from") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}); expected a study file") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{path.name}:{line}: not UTF-8 text (byte {data[error.start]:#x}); save it as UTF-8") from None


def _complaint(error: yaml.MarkedYAMLError) -> str:
    """What the parser says, and what it mostly means."""
    said = str(error.problem or error.context)
    hints = {"'\\t'": "indent with spaces, not with tabs", "<stream end>": "a bracket or quote is not closed",
             "another document": "a study file holds one document, take out the line ---",
             "mapping values are not allowed": "quote a text that has a colon in it, or check the indent",
             "could not find expected ':'": "each line is 'name: value'"}
    found = [hint for sign, hint in hints.items() if sign in said]
    return said.removeprefix("but ") + "".join(f"; {hint}" for hint in found)


def _walk(node: yaml.Node, loc: Loc, name: str, places: dict[Loc, str]) -> Iterable[str]:
    """Fill ``places``; yield one line per duplicate key."""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            word, line = str(key.value), key.start_mark.line + 1
            here = (*loc, word)
            if word in seen and word != "<<":
                yield f"{name}:{line}: {dotted(here)}: written twice (first on line {seen[word]})"
            seen.setdefault(word, line)
            places[here] = f"{name}:{line}"
            yield from _walk(value, here, name, places)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            places[*loc, number] = f"{name}:{item.start_mark.line + 1}"
            yield from _walk(item, (*loc, number), name, places)


def apply_overrides(document: Document, arguments: Iterable[str]) -> Document:
    """Set ``key.path=value`` arguments, values read as YAML. Whether the field exists is checked with all others."""
    data, places = copy.deepcopy(document.data), dict(document.places)
    problems = []
    for argument in arguments:
        path, equals, text = argument.partition("=")
        parts = path.strip().split(".")
        if not equals or not all(parts):
            problems.append(f"argument '{argument}': expected key.path=value, for example train.epochs=5")
            continue
        try:
            value = yaml.load(text, Loader=_Loader)
        except yaml.YAMLError as error:
            reason = _complaint(error) if isinstance(error, yaml.MarkedYAMLError) else str(error).splitlines()[0]
            problems.append(f"argument '{argument}': not valid YAML: {reason}")
            continue
        loc, complaint = _set(data, parts, value)
        if complaint:
            problems.append(f"argument '{argument}': {complaint}")
            continue
        for old in [known for known in places if known[: len(loc)] == loc]:
            del places[old]
        places[loc] = f"argument '{argument}'"
        for length in range(1, len(loc)):
            places.setdefault(loc[:length], f"argument '{argument}'")
    if problems:
        raise SpecError(problems)
    return Document(data, document.origin, places)


def _set(data: Any, parts: list[str], value: Any) -> tuple[Loc, str | None]:
    """Set ``value`` at a dotted path; returns where, and what is wrong with the path."""
    loc: Loc = ()
    for depth, part in enumerate(parts):
        step: str | int = part
        if isinstance(data, list):
            if not part.isdigit() or int(part) >= len(data):
                return loc, f"{dotted(loc)} is a list of {len(data)}; there is no element '{part}'"
            step = int(part)
        elif not isinstance(data, dict):
            return loc, f"{dotted(loc)} is the value {data!r}, it has no field '{part}'"
        loc = (*loc, step)
        if depth == len(parts) - 1:
            data[step] = value
        else:
            if isinstance(data, dict) and data.get(step) is None:
                if parts[depth + 1].isdigit():
                    return loc, f"{dotted(loc)} is not in the file; there is no element '{parts[depth + 1]}' to change"
                data[step] = {}
            data = data[step]
    return loc, None


def dotted(loc: Loc) -> str:
    return ".".join(map(str, loc))
