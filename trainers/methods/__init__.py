"""The methods, by name. A new one = one file, one line here and its recipe in ``trainers.recipes``.

One from outside (``trainers.plugins``) needs neither.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

from trainers import plugins
from trainers.backbones import Backbone
from trainers.config import ConfigError, decode, suggest
from trainers.data.views import ViewSpec
from trainers.methods.barlow_twins import BarlowTwins
from trainers.methods.base import AbstractMethod
from trainers.methods.byol import BYOL
from trainers.methods.dino import DINO
from trainers.methods.mae import MAE
from trainers.methods.mae_dense import MAEDense
from trainers.methods.simclr import SimCLR
from trainers.methods.supervised import Supervised

METHODS: dict[str, type[AbstractMethod]] = {
    "simclr": SimCLR,
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "dino": DINO,
    "mae": MAE,
    "mae_dense": MAEDense,
    "supervised": Supervised,
}


def find_method(name: str) -> type[AbstractMethod]:
    """The class of a built-in method or of a plug-in. Raises ``ConfigError`` at ``grid.method``."""
    if plugins.is_plugin("methods", name):
        return _checked(name, plugins.find("methods", name).value)
    if name not in METHODS:
        known = plugins.known("methods")
        raise ConfigError("grid.method", f"unknown method '{name}'{suggest(name, known)}; known: {', '.join(known)}")
    return METHODS[name]


def _checked(name: str, found: Any) -> type[AbstractMethod]:
    if not (isinstance(found, type) and issubclass(found, AbstractMethod)):
        raise plugins.refuse("methods", name, "a method is a subclass of trainers.methods.base.AbstractMethod")
    missing = sorted(found.__abstractmethods__) if inspect.isabstract(found) else []
    missing += [text for text in ("summary", "paper", "family") if not isinstance(getattr(found, text, None), str)]
    if missing:
        raise plugins.refuse("methods", name, f"lacks {', '.join(missing)}, which every method has")
    bare = not dataclasses.is_dataclass(found.Config) or any(
        field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        for field in dataclasses.fields(found.Config))
    if bare:
        raise plugins.refuse("methods", name, "Config must be a dataclass whose fields all have a default")
    return found


def method_config(name: str, options: Mapping[str, Any]) -> tuple[type[AbstractMethod], Any]:
    """Class and decoded ``Config``. Raises ``ConfigError`` at ``grid.method`` or ``train.options.<field>``."""
    method = find_method(name)
    return method, decode(method.Config, options, "train.options")


def build_method(name: str, backbone: Backbone, options: Mapping[str, Any]) -> AbstractMethod:
    """A method around ``backbone`` with ``options`` over the defaults of its ``Config``."""
    method, config = method_config(name, options)
    return method(backbone, config)  # type: ignore[call-arg]


def view_specs(name: str, options: Mapping[str, Any], image_size: int) -> list[ViewSpec]:
    """The augmentations a method wants, equal-sized ones first."""
    method, config = method_config(name, options)
    return method.views(config, image_size)
