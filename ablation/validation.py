"""From pydantic's errors to lines for people: place, dotted field, what was expected, the nearest right word."""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from ablation.errors import SpecError
from ablation.study_file import Document, Loc, dotted
from trainers.config import suggest

_MAPPING = "a mapping {name: value}"
_EXPECTED = {"bool": "true or false", "int": "a whole number", "float": "a number", "string": "text", "list": "a list",
             "tuple": "a list", "dict": _MAPPING, "model": _MAPPING, "dataclass": _MAPPING}


class FieldProblems(ValueError):
    """What a validator of a whole section found, as (path below that section, message)."""

    def __init__(self, problems: Iterable[tuple[str, str]]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(f"{path}: {message}" for path, message in self.problems))


def plain(value: Any) -> Any:
    """Models and dataclasses as dicts, tuples as lists."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def non_finite(value: Any, loc: Loc = ()) -> Iterator[tuple[Loc, str]]:
    """NaN and infinity slip through comparisons; no field means anything by them."""
    if isinstance(value, float) and not math.isfinite(value):
        yield loc, f"must be a finite number, got {value}"
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from non_finite(item, (*loc, key))


def spec_error(model: type[BaseModel], raw: Any, error: ValidationError | None, document: Document | None,
               more: Iterable[tuple[Loc, str]] = ()) -> SpecError:
    """One line per problem, in the order of the file."""
    infinite = dict(non_finite(raw))
    found = [item for item in (*(describe(model, raw, error) if error else ()), *more) if item[0] not in infinite]
    found += infinite.items()
    places = document.places if document else {}
    order = {loc: number for number, loc in enumerate(places)}
    found.sort(key=lambda item: max((order.get(item[0][:n], -1) for n in range(len(item[0]) + 1)), default=-1))
    lines = []
    for loc, message in found:
        line = f"{dotted(loc)}: {message}" if loc else message
        lines.append(f"{document.place(loc)}: {line}" if document else line)
    return SpecError(list(dict.fromkeys(lines)))


def describe(model: type[BaseModel], raw: Any, error: ValidationError) -> Iterator[tuple[Loc, str]]:
    """(field, message) pairs. The branches of a union are told as one problem."""
    groups: dict[Loc, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        loc = _written(raw, detail["loc"])
        loc = loc if detail["type"] == "missing" else _known(raw, loc)
        groups.setdefault(loc, []).append(detail)
    for loc, details in groups.items():
        first = details[0]
        if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            yield loc, f"unknown field{_nearest_field(model, loc)}"
        elif first["type"] == "missing":
            yield loc, "is required"
        elif isinstance(first.get("ctx", {}).get("error"), FieldProblems):
            for path, message in first["ctx"]["error"].problems:
                yield (*loc, *_parts(raw, loc, path)), message
        else:
            yield loc, _expected(details)


def _parts(raw: Any, loc: Loc, path: str) -> Loc:
    """``path`` below ``loc`` as keys; without the element number if the user wrote one value instead of a list."""
    for part in loc:
        raw = raw[part]
    parts: Loc = tuple(int(part) if part.isdigit() else part for part in path.split(".") if part)
    return parts if isinstance(raw, dict | list) else ()


def _written(raw: Any, loc: Loc) -> Loc:
    """``loc`` without the 0 where the user wrote one value instead of a list of them."""
    for depth, part in enumerate(loc):
        if part == 0 and isinstance(raw, dict):
            return loc[:depth] + _written(raw, loc[depth + 1:])
        try:
            raw = raw[part]
        except (KeyError, IndexError, TypeError):
            return loc
    return loc


def _known(raw: Any, loc: Loc) -> Loc:
    """The part of ``loc`` that the user wrote; pydantic appends the names of union branches."""
    for depth, part in enumerate(loc):
        in_list = isinstance(raw, list) and isinstance(part, int) and part < len(raw)
        if not in_list and not (isinstance(raw, dict) and part in raw):
            return loc[:depth]
        raw = raw[part]
    return loc


def _expected(details: list[ErrorDetails]) -> str:
    value, wanted, words = details[0]["input"], [], []
    for detail in details:
        kind, context = detail["type"], detail.get("ctx", {})
        if kind == "literal_error":
            words += re.findall(r"'([^']*)'", context["expected"])
            wanted.append(("one of " if "," in context["expected"] else "") + context["expected"].replace("'", ""))
        elif kind in ("greater_than_equal", "greater_than"):
            return f"must be {context['ge']:g} or more, got {value}" if "ge" in context else \
                f"must be greater than {context['gt']:g}, got {value}"
        elif kind.split("_")[0] in _EXPECTED:
            wanted.append(_EXPECTED[kind.split("_")[0]])
        else:
            return str(context.get("error") or detail["msg"])
    hint = suggest(value, words) if isinstance(value, str) else ""
    got = "is empty" if value is None else f"got {value!r}"
    return f"{got}, expected {' or '.join(dict.fromkeys(wanted))}{hint}"


def _nearest_field(model: type[BaseModel], loc: Loc) -> str:
    """Among the fields beside it; else a field of that name elsewhere in the file."""
    word = str(loc[-1])
    here: Any = model
    for part in loc[:-1]:
        here = typing.get_args(here)[0] if isinstance(part, int) else _fields(here).get(part)
    beside = suggest(word, _fields(here))
    if beside:
        return beside
    paths = {path.split(".")[-1]: path for path in _paths(model)}
    return f" (did you mean '{paths[word]}'?)" if word in paths else ""


def _paths(owner: Any, prefix: str = "") -> Iterator[str]:
    for name, annotation in _fields(owner).items():
        yield prefix + name
        yield from _paths(annotation, f"{prefix}{name}.")


def _fields(owner: Any) -> dict[str, Any]:
    """Field names -> annotations of a model or dataclass, also inside Optional and Annotated; else empty."""
    if isinstance(owner, type) and issubclass(owner, BaseModel):
        return {name: field.annotation for name, field in owner.model_fields.items()}
    if isinstance(owner, type) and dataclasses.is_dataclass(owner):
        return typing.get_type_hints(owner)
    if typing.get_origin(owner) in (tuple, list, dict):
        return {}
    return next((fields for argument in typing.get_args(owner) if (fields := _fields(argument))), {})
