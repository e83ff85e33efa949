"""What a plan asks of a study and of one resolved trial, beyond what the study file alone can say. Yields problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from trainers.config import ConfigError, EvaluationConfig, TrainConfig, problems
from trainers.names import short_name

if TYPE_CHECKING:
    from ablation.spec import StudySpec


def worker_problems(spec: StudySpec) -> Iterator[str]:
    gpus, workers = spec.resources.gpus_per_worker, spec.resources.num_workers
    if workers > 1 and gpus != "auto" and 0 < gpus < 1:
        yield (f"resources.gpus_per_worker: {gpus:g} with num_workers {workers}: ranks of one trial cannot share a "
               "GPU; use num_workers 1 to pack trials")


def value_problems(config: TrainConfig) -> Iterator[str]:
    for path, message in problems(config):
        yield f"{path.replace('subset.', 'imbalance.')}: {message}"


def option_problems(config: TrainConfig) -> Iterator[str]:
    if config.train.options:
        from trainers.methods import method_config  # loads torch: only for studies that set options of a method

        try:
            method_config(config.method, config.train.options)
        except ConfigError as error:
            yield f"{error} (method {short_name(config.method)}; options of one method belong into overrides)"


def plugin_problems(config: TrainConfig) -> Iterator[str]:
    """One step on noise with a method or backbone from outside."""
    from trainers.rehearsal import rehearse

    try:
        rehearse(config)
    except ConfigError as error:
        yield str(error)


def metric_problems(evaluation: EvaluationConfig) -> Iterator[str]:
    """The study's own metrics, asked for the value of noise."""
    if evaluation.metrics:
        from trainers.rehearsal import rehearse_metrics

        try:
            rehearse_metrics(evaluation.metrics)
        except ConfigError as error:
            yield str(error)
