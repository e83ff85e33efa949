"""Optimiser settings per (method, kind of backbone), each with its source. No torch here.

``lr`` is the base rate at batch 256; ``trainers.optim.build_schedule`` scales it. AdamW on the ResNet too: on budgets
of some hundred steps it learned where SGD 0.06 (lightly's small benchmarks) and LARS hardly began, for every method
tried (docs/results/recipes.md). On ViTs only AdamW trains reliably (MoCo v3, stable-pretraining's RESULTS.md). The
``paper`` study sets the published LARS recipes for its long runs.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Literal

from trainers import plugins
from trainers.config import ConfigError, OptimConfig, default_batch_size, suggest
from trainers.names import METHOD_NAMES, short_name


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Defaults of one (method, kind of backbone); a field set in ``train`` wins over it."""

    optimizer: Literal["lars", "sgd", "adamw"]
    lr: float
    """Base learning rate at batch 256."""
    weight_decay: float
    """Not on 1-d parameters and tokens."""
    warmup_epochs: float
    """Linear warm-up; the loop caps it to 10 % of short budgets."""
    clip_grad: float = 0.0
    """Largest gradient norm; 0 = off."""
    momentum: float = 0.9
    """SGD and LARS."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW."""
    weight_decay_end: float | None = None
    """Cosine from ``weight_decay`` to this over the run; null = constant."""
    source: str
    """Where the values come from."""


_OWN = "docs/results/recipes.md: AdamW 3e-3, 0.05 against SGD 0.06 and LARS on short budgets"
_SPT = "stable-pretraining benchmarks, ViT-S on Imagenette: AdamW 5e-4, 0.05, betas 0.9 0.95"
_SPT_MAE = "stable-pretraining benchmarks, MAE on Imagenette: AdamW 1e-3; wd 0.05 and betas of arXiv:2111.06377"
_SPARK = "SparK (arXiv:2301.03580): clip 5, wd 0.04; AdamW in place of LAMB, 2e-3 for short runs"


def _adamw(
    source: str, *, lr: float = 5e-4, weight_decay: float = 0.05, clip_grad: float = 0.0, end: float | None = None,
    betas: tuple[float, float] = (0.9, 0.95),
) -> Recipe:
    return Recipe(
        optimizer="adamw", lr=lr, weight_decay=weight_decay, warmup_epochs=10, clip_grad=clip_grad,
        weight_decay_end=end, betas=betas, source=source,
    )


RECIPES: dict[tuple[str, str], Recipe] = {
    ("simclr", "resnet"): _adamw(_OWN, lr=3e-3),
    ("barlow_twins", "resnet"): _adamw(_OWN, lr=3e-3),
    ("byol", "resnet"): _adamw(_OWN, lr=3e-3),
    ("dino", "resnet"): _adamw(_OWN + "; clip 3 of arXiv:2104.14294", lr=3e-3, clip_grad=3.0),
    ("mae", "resnet"): _adamw(_SPARK, lr=2e-3, weight_decay=0.04, clip_grad=5.0),
    ("mae_dense", "resnet"): _adamw("as mae on the ResNet, whose control arm it is", lr=2e-3, weight_decay=0.04,
                                    clip_grad=5.0),
    ("supervised", "resnet"): _adamw(_OWN, lr=3e-3),
    ("simclr", "vit"): _adamw(_SPT, lr=1e-3),
    ("barlow_twins", "vit"): _adamw(_SPT, lr=1e-3),
    ("byol", "vit"): _adamw(lr=1e-3, source=_SPT + "; its RESULTS.md: LARS collapses for BYOL on ViT, AdamW does not"),
    ("dino", "vit"): _adamw("DINO (arXiv:2104.14294), ViT-S/16: 5e-4, wd 0.04 to 0.4, clip 3", weight_decay=0.04,
                            end=0.4, clip_grad=3.0, betas=(0.9, 0.999)),
    ("mae", "vit"): _adamw(_SPT_MAE, lr=1e-3),
    ("mae_dense", "vit"): _adamw("as mae on the ViT, whose control arm it is", lr=1e-3),
    ("supervised", "vit"): _adamw("DeiT (arXiv:2012.12877): AdamW 5e-4 per 512, 0.05; twice that for short "
                                  "runs; clip 1", lr=1e-3, clip_grad=1.0, betas=(0.9, 0.999)),
}


GENERIC: dict[str, Recipe] = {
    "resnet": _adamw("generic: the AdamW setting that most methods here share", lr=3e-3),
    "vit": _adamw("generic: the AdamW setting that most methods here share", lr=1e-3),
}
"""Where a new method starts until it has a recipe."""

RESNETS = re.compile(r"(tv_|gluon_|wide_|se|eca|sk)*res(net|next)(?!v2)")
"""timm's names of its class ``ResNet``, known without building one."""

FIELDS = ("optimizer", "lr", "weight_decay", "warmup_epochs", "clip_grad")
"""What a study file may set instead of the recipe."""


def resolve_train(train: OptimConfig, method: str, backbone: str, num_images: int | None) -> OptimConfig:
    """``train`` with its null fields filled in: the recipe's, and the default batch for ``num_images`` if known."""
    rules = recipe(method, backbone)
    values = {name: getattr(rules, name) for name in FIELDS if getattr(train, name) is None}
    if train.batch_size is None and num_images is not None:
        values["batch_size"] = default_batch_size(num_images)
    return dataclasses.replace(train, **values)


def kind_of(backbone: str) -> str:
    """Whose recipes a backbone takes, ``resnet`` or ``vit``, for a ``Backbone.kind`` or a name; by the name alone."""
    return "resnet" if RESNETS.match(short_name(backbone)) else "vit"


def recipe(method: str, backbone: str) -> Recipe:
    """The defaults of a method on a backbone: a ``Backbone.kind`` (``resnet``, ``vit``, ``other``) or a timm name.

    Other kinds take the AdamW settings of the ViT; a method without a recipe of its own takes ``GENERIC``. Raises
    ``ConfigError`` for an unknown method.
    """
    if method not in METHOD_NAMES and not plugins.is_plugin("methods", method):
        raise ConfigError("grid.method", f"unknown method '{method}'{suggest(method, METHOD_NAMES)}")
    kind = kind_of(backbone)
    return RECIPES.get((method, kind), GENERIC[kind])
