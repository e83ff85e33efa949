"""Names and numbers of a ``TrainConfig`` -> the live objects of one run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers import distributed, plugins
from trainers.backbones import build_backbone
from trainers.config import ConfigError, TrainConfig
from trainers.data.imbalance import Subset, select_evaluation_sets, select_subset
from trainers.data.index import DataError
from trainers.data.loader import OpenData, Sampler, open_data
from trainers.data.prefetch import Prefetcher
from trainers.data.views import Normalization, ViewSpec
from trainers.evaluation.collect import Judge
from trainers.machine import choose_device, choose_precision, prepare_process, seed_everything
from trainers.methods import build_method, view_specs
from trainers.methods.base import AbstractMethod
from trainers.optim import Schedule, build_optimizer, build_schedule, clip_gradients, merge
from trainers.recipes import Recipe, recipe, resolve_train
from trainers.records import RunContext
from trainers.seeding import derive


@dataclass(frozen=True)
class Run:
    """Everything one rank of a run holds."""

    config: TrainConfig
    context: RunContext
    device: torch.device
    precision: torch.dtype
    data: OpenData
    subset: Subset
    sampler: Sampler
    prefetcher: Prefetcher
    specs: list[ViewSpec]
    normalize: Normalization
    method: AbstractMethod
    ddp: nn.Module
    """``method``, wrapped in DDP where there is more than one rank."""
    recipe: Recipe
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    judge: Judge

    @property
    def steps_per_epoch(self) -> int:
        return self.sampler.steps_per_epoch

    def clip_gradients(self) -> Tensor:
        """Scale the gradient down to the recipe's largest norm, 0 = never; its norm before that."""
        return clip_gradients(self.method, self.recipe.clip_grad)

    def state(self) -> dict[str, Any]:
        """All that changes while training; schedules, order and views are functions of the step."""
        return {"method": self.method.state_dict(), "optimizer": self.optimizer.state_dict(),
                "rng": torch.get_rng_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.method.load_state_dict(state["method"], strict=True)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])


def build(config: TrainConfig, context: RunContext, data: OpenData | None = None) -> Run:
    """Raises ``ConfigError`` or ``DataError`` for what cannot work; nothing is written but the decoded cache.

    ``data``: other pictures than those that ``config.data`` names.
    """
    config = plugins.pinned(config)
    prepare_process(context.threads)
    device = choose_device(context.device)
    precision = choose_precision(config.train.precision, device)
    data = data or open_data(config.data, context.cache_dir)
    index = data.dataset.index
    subset = select_subset(index, config.imbalance, config.seed, config.subset, config.allow_tiny)
    sets = select_evaluation_sets(index, config.evaluation)
    data.cache.ensure(np.concatenate([subset.positions, *vars(sets).values()]), report=context.log)
    positions = data.cache.usable(subset.positions)
    usable = type(sets)(**{name: data.cache.usable(rows) for name, rows in vars(sets).items()})
    resolved = resolve_train(config.train, config.method, config.backbone, len(subset.positions))
    config = dataclasses.replace(config, train=resolved)
    sampler = _sampler(config, context, positions)

    seed_everything(derive(config.seed, "init"), config.train.determinism)
    backbone = build_backbone(config.backbone, config.data.image_size)
    method = build_method(config.method, backbone, config.train.options).to(device)
    ddp = distributed.wrap_ddp(method, device)
    rules = merge(config.train, recipe(config.method, config.backbone))
    dataset = data.dataset
    normalize = Normalization(dataset.mean, dataset.std) if config.data.normalize == "dataset" else Normalization()
    return Run(
        config=config, context=context, device=device, precision=precision, data=data, subset=subset,
        sampler=sampler, prefetcher=Prefetcher(data, config.seed, device), method=method, ddp=ddp, recipe=rules,
        specs=view_specs(config.method, config.train.options, config.data.image_size),
        normalize=normalize,
        optimizer=build_optimizer(method, rules), schedule=build_schedule(config.train, rules, sampler.batch_size,
                                                                          sampler.steps_per_epoch),
        judge=Judge(config, data, positions, usable, device, precision, normalize,
                    context.cache_dir / "random_init"))


def _sampler(config: TrainConfig, context: RunContext, positions: Any) -> Sampler:
    batch, ranks = config.train.batch_size, context.world_size
    assert batch is not None
    if batch % ranks:
        raise ConfigError("train.batch_size", f"{batch} does not divide by num_workers = {ranks}")
    if batch > len(positions):
        raise DataError(f"train.batch_size: {batch} is larger than the subset of {len(positions)} images "
                        "(an epoch would have no step): lower it or enlarge imbalance.total")
    return Sampler(positions, batch, config.seed, context.rank, ranks)
