"""Where a search space comes from: the built-in of a method, or a Python function."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ablation.distributions import KINDS, Space
from ablation.errors import SpecError
from ablation.sources import python_function, returned
from ablation.spec import nest
from trainers import plugins
from trainers.config import ConfigError, TrainConfig, suggest
from trainers.names import METHOD_NAMES, short_name

DEFAULT = "default"


def load_space(method: str, name: str = DEFAULT) -> Space:
    """The space of a method: ``default`` = the built-in, or ``path.py:function``.

    The function takes no argument, or the method's name, so that one can serve a whole study. Raises ``SpecError`` for
    an unknown method or name, and for a space whose settings the method does not take.
    """
    if method not in METHOD_NAMES and not plugins.is_plugin("methods", method):
        raise SpecError(f"unknown method '{method}'{suggest(method, METHOD_NAMES)}; "
                        f"there are {', '.join(METHOD_NAMES)}")
    make, origin = _source(method, name)
    takes_method = bool(inspect.signature(make).parameters)
    space = returned(lambda: make(method) if takes_method else make(), Space, origin)
    if short_name(space.method) != short_name(method):
        raise SpecError(f"{origin}: returned the space of {space.method}, expected that of {method}")
    space = dataclasses.replace(space, method=method)
    if found := list(dict.fromkeys(space_problems(space))):
        raise SpecError([f"{origin}: {problem}" for problem in found])
    return space


def _source(method: str, name: str) -> tuple[Callable[..., Any], str]:
    path, colon, function = name.rpartition(":")
    if colon and path.endswith(".py"):
        return python_function(Path(path), function), f"{Path(path).name}:{function}"
    if name.endswith(".py"):
        raise SpecError(f"{name}: name the function that returns the space: {name}:space")
    if name != DEFAULT:
        raise SpecError(f"'{name}' is neither path.py:function nor the name of a search space "
                        f"({DEFAULT}){suggest(name, [DEFAULT])}")
    if plugins.is_plugin("methods", method):
        raise SpecError(f"{short_name(method)} comes from outside and has no search space; name your own: "
                        "path.py:function")
    home = f"search_spaces.spaces.{method}"
    try:
        make = importlib.import_module(home).space
    except ModuleNotFoundError as error:
        if error.name != home:
            raise
        raise SpecError(f"{method} has no search space yet; write search_spaces/spaces/{method}.py, "
                        "or name your own: path.py:function") from None
    return make, f"{home}:space"


def space_problems(space: Space) -> Iterator[str]:
    """Fields that the method does not have, and ends of ranges that it does not take. Loads torch."""
    from trainers.methods import method_config

    for kind in KINDS:
        for parameter in space.for_backbone(kind):
            for value in parameter.distribution.extremes():
                raw = {"method": space.method, "backbone": kind, **nest(parameter.path, value)}
                try:
                    method_config(space.method, TrainConfig.from_dict(raw).train.options)
                except ConfigError as error:
                    yield str(error)
