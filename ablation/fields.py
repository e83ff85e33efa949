"""The kinds of fields that a study file has: frozen models, lists of methods, backbones, levels and seeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from ablation.validation import FieldProblems
from trainers.config import Imbalance, suggest
from trainers.names import BACKBONE_NAMES, METHOD_NAMES

Problems = Iterator[tuple[str, str]]


def checked(check: Callable[[Any], Problems]) -> AfterValidator:
    """A validator that may find several problems in one field."""

    def validate(value: Any) -> Any:
        found = list(check(value))
        if found:
            raise FieldProblems(found)
        return value

    return AfterValidator(validate)


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    return f"unknown {kind} '{word}'{suggest(word, known) or '; there are ' + ', '.join(known)}"


def _method(name: str) -> str | None:
    return None if name in METHOD_NAMES else unknown("method", name, METHOD_NAMES)


def _backbone(name: str) -> str | None:
    if name in BACKBONE_NAMES:
        return None
    if not re.fullmatch(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)?", name):
        return f"'{name}' is no timm name (such as {', '.join(BACKBONE_NAMES)}){suggest(name, BACKBONE_NAMES)}"
    import timm  # loads torch: only for names without a recipe

    if timm.is_model(name):
        return None
    return f"timm knows no '{name}'{suggest(name, [*BACKBONE_NAMES, *timm.list_models()])}"


def _level(level: Imbalance) -> str | None:
    if level == "natural" or 0 < float(level) < 1:
        return None
    return f"a prevalence lies between 0 and 1, got {level} (or use the word natural)"


def _seed(seed: int) -> str | None:
    return "must be 0 or more" if seed < 0 else None


def items(check: Callable[[Any], str | None]) -> AfterValidator:
    """At least one value, each right, none twice."""

    def every(values: tuple[Any, ...]) -> Problems:
        if not values:
            yield "", "must name at least one value"
        for number, value in enumerate(values):
            if value in values[:number]:
                yield str(number), f"{value} is there twice"
            elif problem := check(value):
                yield str(number), problem

    return checked(every)


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


_MethodName: Any = Literal[METHOD_NAMES]  # type: ignore[valid-type]  # for editors, by the JSON schema
Methods = Annotated[tuple[str, ...], BeforeValidator(as_tuple, _MethodName | list[_MethodName]), items(_method)]
Backbones = Annotated[tuple[str, ...], BeforeValidator(as_tuple, str | list[str]), items(_backbone)]
Levels = Annotated[tuple[Imbalance, ...], BeforeValidator(as_tuple, Imbalance | list[Imbalance]), items(_level)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(as_tuple, int | list[int]), items(_seed)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
