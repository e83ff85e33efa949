"""The kinds of fields that a study file has: frozen models, lists of methods, backbones, levels and seeds."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from ablation.validation import FieldProblems
from trainers import plugins
from trainers.config import ConfigError, DataConfig, EvaluationConfig, Imbalance, suggest
from trainers.names import BACKBONE_NAMES, DATASET_NAMES, METHOD_NAMES, absolute_name, short_name

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


def _found(find: Callable[[str], Any], name: str) -> str | None:
    """What is wrong with a plug-in."""
    try:
        find(name)
    except ConfigError as error:
        return error.message
    return None


def _method(name: str) -> str | None:
    if plugins.is_plugin("methods", name):
        from trainers.methods import find_method  # loads torch, as the plug-in does

        return _found(find_method, name)
    return None if name in METHOD_NAMES else unknown("method", name, plugins.known("methods"))


def dataset_problem(name: str) -> str | None:
    """What is wrong with ``data.dataset``."""
    if plugins.is_plugin("datasets", name):
        from trainers.data import find_dataset

        return _found(find_dataset, name)
    return None if name in DATASET_NAMES else unknown("dataset", name, plugins.known("datasets"))


def metric_problems(names: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """(place, what is wrong) of ``evaluation.metrics``."""
    from trainers.evaluation.custom import find_metric

    yield from _each(names, lambda name: _found(find_metric, name))


def _backbone(name: str) -> str | None:
    if plugins.is_plugin("backbones", name):
        from trainers.backbones import find_builder

        return _found(find_builder, name)
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
        yield from ((str(number), problem) for number, problem in _each(values, check))

    return checked(every)


def _each(values: tuple[Any, ...], check: Callable[[Any], str | None]) -> Iterator[tuple[int, str]]:
    """(place, problem) of each value that is not right, or that tables could not tell from one before it."""
    shown = [short_name(value) if isinstance(value, str) else value for value in values]
    for number, value in enumerate(values):
        if shown[number] in shown[:number]:
            yield number, f"{shown[number]} is there twice"
        elif problem := check(value):
            yield number, problem


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def with_tuple(evaluation: Any) -> Any:
    """``metrics`` as the dataclass has it; strict validation takes no list for a tuple."""
    found = isinstance(evaluation, dict) and "metrics" in evaluation
    return evaluation | {"metrics": as_tuple(evaluation["metrics"])} if found else evaluation


def _absolute(value: Any) -> Any:
    """Files of plug-ins from the root: their names travel to other processes."""
    if isinstance(value, DataConfig):
        return dataclasses.replace(value, dataset=absolute_name(value.dataset))
    if isinstance(value, EvaluationConfig):
        return dataclasses.replace(value, metrics=tuple(map(absolute_name, value.metrics)))
    return tuple(map(absolute_name, value))


FROM_ROOT = AfterValidator(_absolute)
_MethodName: Any = Literal[METHOD_NAMES] | str  # type: ignore[valid-type]  # for editors, by the JSON schema
Methods = Annotated[tuple[str, ...], BeforeValidator(as_tuple, _MethodName | list[_MethodName]), FROM_ROOT,
                    items(_method)]
Backbones = Annotated[tuple[str, ...], BeforeValidator(as_tuple, str | list[str]), FROM_ROOT, items(_backbone)]
Levels = Annotated[tuple[Imbalance, ...], BeforeValidator(as_tuple, Imbalance | list[Imbalance]), items(_level)]
Seeds = Annotated[tuple[int, ...], BeforeValidator(as_tuple, int | list[int]), items(_seed)]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
