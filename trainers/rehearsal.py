"""One step of a run on noise, before anything is planned on it: what is wrong with a plug-in is told at once."""

from __future__ import annotations

import torch

from trainers import plugins
from trainers.backbones import build_backbone
from trainers.config import ConfigError, TrainConfig
from trainers.data.views import ViewSpec
from trainers.evaluation.custom import INPUTS, compute, find_metric
from trainers.methods import build_method, view_specs
from trainers.python_file import told
from trainers.records import Batch, Progress, StepOutput

BATCH, WIDTH = 4, 16


def rehearse(config: TrainConfig) -> None:
    """Build the network and the method of a run on the CPU and take one step, all in memory.

    Leaves the global generators as they were. Raises ``ConfigError`` that names the plug-in.
    """
    kind, name = ("methods", config.method) if plugins.is_plugin("methods", config.method) else (
        "backbones", config.backbone)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            problem = _step(config)
        except ConfigError:
            raise
        except Exception as error:
            raise plugins.refuse(kind, name, f"one step on noise raised {told(error)}") from error
    if problem:
        raise plugins.refuse(kind, name, problem)


def _step(config: TrainConfig) -> str:
    """What is wrong with the results of one step; empty for nothing."""
    method = build_method(config.method, build_backbone(config.backbone, config.data.image_size), config.train.options)
    specs = view_specs(config.method, config.train.options, config.data.image_size)
    if not specs or not all(isinstance(spec, ViewSpec) for spec in specs):
        return f"views must be a list of ViewSpec, got {specs!r}"
    batch = Batch([torch.randn(BATCH, 3, spec.size, spec.size) for spec in specs], torch.tensor([0, 1] * (BATCH // 2)),
                  torch.arange(BATCH))
    progress = Progress(0, 100, 0, 10)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.train.precision != "fp32"):
        output = method.train()(batch, progress)
    if not isinstance(output, StepOutput):
        return f"forward must return a StepOutput, got {type(output).__name__}"
    loss, width = output.loss, method.encoder.feature_dim
    if loss.shape != () or loss.dtype != torch.float32 or not loss.requires_grad:
        return (f"the loss must be a float32 scalar with a gradient, got {loss.dtype} of shape {tuple(loss.shape)} "
                "(trainers.methods.precision.in_float32 keeps it in float32 under bf16)")
    if output.features.dim() != 2 or output.features.shape[1] != width or output.features.requires_grad:
        return f"features must be detached (B, {width}), got {tuple(output.features.shape)}"
    loss.backward()  # type: ignore[no-untyped-call]
    method.before_step(progress)
    method.after_step(progress)
    embedding = method.embed(output.features.float())
    return "" if embedding.dim() == 2 else f"embed must give (B, K), got {tuple(embedding.shape)}"


def rehearse_metrics(names: tuple[str, ...]) -> None:
    """Ask every metric of a study for the value of noise. Raises ``ConfigError`` that names the plug-in."""
    generator = torch.Generator().manual_seed(0)
    rows = 8 * BATCH
    inputs = {name: torch.randn(rows, WIDTH, generator=generator).numpy() if name.endswith("features") else
              torch.rand(rows, generator=generator).numpy() if name == "scores" else
              torch.tensor([0, 1] * (rows // 2), dtype=torch.int8).numpy() for name in INPUTS}
    for name in names:
        find_metric(name)
        for problem in compute([name], inputs)[1]:
            raise plugins.refuse("metrics", name, f"asked on noise: {problem.split('left out, ')[1]}")
