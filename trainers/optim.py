"""Optimiser, parameter groups and schedules, as pure functions of (config, recipe, step)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from timm.optim import Lars
from torch import Tensor, nn

from trainers.config import OptimConfig
from trainers.methods.base import AbstractMethod
from trainers.recipes import FIELDS, Recipe

LARS_TRUST = 0.02  # solo-learn's eta; its issue 109 keeps 0.001 for ImageNet


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up then cosine to zero for the learning rate; cosine from first to last weight decay.

    Steps are optimiser steps. A warm-up longer than a tenth of the budget would leave short runs without
    training, so it is cut to that.
    """

    peak_lr: float
    weight_decay: float
    last_weight_decay: float
    warmup_steps: int
    total_steps: int

    def lr(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.peak_lr * (step + 1) / self.warmup_steps
        return self.peak_lr * cosine(step - self.warmup_steps, self.total_steps - self.warmup_steps)

    def decay(self, step: int) -> float:
        share = cosine(step, self.total_steps)
        return self.last_weight_decay + (self.weight_decay - self.last_weight_decay) * share

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set learning rate and weight decay of the coming step."""
        for group in optimizer.param_groups:
            group["lr"] = self.lr(step)
            if group["decays"]:
                group["weight_decay"] = self.decay(step)


def cosine(step: int, total_steps: int) -> float:
    """1 at step 0, 0 at ``total_steps``."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, total_steps))))


def merge(train: OptimConfig, recipe: Recipe) -> Recipe:
    """The recipe with the fields of a resolved ``train`` put over it; another weight decay than its own is constant."""
    changes: dict[str, Any] = {name: getattr(train, name) for name in FIELDS}
    if train.weight_decay != recipe.weight_decay:
        changes["weight_decay_end"] = None
    return dataclasses.replace(recipe, **changes)


def build_schedule(train: OptimConfig, recipe: Recipe, batch_size: int, steps_per_epoch: int) -> Schedule:
    warmup = min(recipe.warmup_epochs, train.epochs / 10) * steps_per_epoch
    end = recipe.weight_decay if recipe.weight_decay_end is None else recipe.weight_decay_end
    ratio = batch_size / 256
    # Linear for SGD (Goyal et al. 2017), square root for Adam (Malladi et al. 2022, arXiv:2205.10287).
    scale = math.sqrt(ratio) if recipe.optimizer == "adamw" else ratio
    return Schedule(peak_lr=recipe.lr * scale, weight_decay=recipe.weight_decay,
                    last_weight_decay=end, warmup_steps=max(1, round(warmup)),
                    total_steps=train.epochs * steps_per_epoch)


def parameter_groups(method: AbstractMethod, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices and kernels decay; biases, norms, tokens and positions do not."""
    spared = set(method.no_decay())
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            one_dimensional = parameter.squeeze().ndim <= 1 and parameter.ndim != 2
            token = name.rsplit(".", 1)[-1] in ("cls_token", "pos_embed", "mask_token", "reg_token")
            (plain if one_dimensional or token or name in spared else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay, "decays": True},
            {"params": plain, "weight_decay": 0.0, "decays": False}]


def build_optimizer(method: AbstractMethod, recipe: Recipe) -> torch.optim.Optimizer:
    groups = parameter_groups(method, recipe.weight_decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=True)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, fused=True)
    # timm's LARS adapts only groups that decay: biases and norms take the plain learning rate.
    lars: torch.optim.Optimizer = Lars(groups, lr=recipe.lr, momentum=recipe.momentum, trust_coeff=LARS_TRUST,
                                       trust_clip=True)
    return lars


def clip_gradients(module: nn.Module, max_norm: float) -> Tensor:
    """Scale all gradients down to a joint norm of ``max_norm``, 0 = never; returns the norm before that."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None], foreach=True)
    if max_norm > 0:
        nn.utils.clip_grads_with_norm_(parameters, max_norm, norm, foreach=True)
    return norm
