"""The methods, by name. A new one = one file, one line here and its recipe in ``trainers.recipes``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def method_config(name: str, options: Mapping[str, Any]) -> tuple[type[AbstractMethod], Any]:
    """Class and decoded ``Config``. Raises ``ConfigError`` at ``grid.method`` or ``train.options.<field>``."""
    if name not in METHODS:
        raise ConfigError("grid.method", f"unknown method '{name}'{suggest(name, METHODS)}; "
                                         f"known: {', '.join(METHODS)}")
    return METHODS[name], decode(METHODS[name].Config, options, "train.options")


def build_method(name: str, backbone: Backbone, options: Mapping[str, Any]) -> AbstractMethod:
    """A method around ``backbone`` with ``options`` over the defaults of its ``Config``."""
    method, config = method_config(name, options)
    return method(backbone, config)  # type: ignore[call-arg]


def view_specs(name: str, options: Mapping[str, Any], image_size: int) -> list[ViewSpec]:
    """The augmentations a method wants, equal-sized ones first."""
    method, config = method_config(name, options)
    return method.views(config, image_size)
