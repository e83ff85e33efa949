"""A step on CUDA never waits for the device: all of it but the backward pass is traced on pretended CUDA tensors.

Whatever reads a value back (``item``, ``cpu``, ``nonzero``) or copies host memory that is not pinned makes the host
wait until the device has done all that is queued, so that it starves while the next step is prepared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.trainers.methods.steps import BACKBONE_NAMES, MIDWAY, SIZE, options
from trainers.backbones import build_backbone
from trainers.config import OptimConfig
from trainers.data import views
from trainers.data.views import Normalization, augment, center_view
from trainers.meter import CUDA_CHECK_STEPS, Meter
from trainers.methods import METHODS, build_method, view_specs
from trainers.optim import build_optimizer, build_schedule, clip_gradients
from trainers.recipes import recipe, resolve_train
from trainers.records import Batch

BATCH = 8
READS_BACK = ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::unique", "aten::is_nonzero",
              "aten::equal")


class Waits(TorchDispatchMode):
    """Collects the operations at which the host would wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function._schema.name
        devices = {value.device.type for value in (*args, out) if isinstance(value, torch.Tensor)}
        crosses = name in ("aten::_to_copy", "aten::copy_") and devices == {"cpu", "cuda"}
        if name in READS_BACK or crosses:
            self.found.append(f"{name} {[tuple(v.shape) for v in args if isinstance(v, torch.Tensor)]}")
        return out


@contextmanager
def pretended() -> Iterator[None]:
    """Tensors that have a device and a shape, but no values; none stays behind in a cache."""
    views._on_device.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cuda"):
        yield
    views._on_device.cache_clear()


def pretend(module: nn.Module) -> None:
    """Put every parameter and buffer on the pretended device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                part._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


@pytest.mark.parametrize("backbone", BACKBONE_NAMES)
@pytest.mark.parametrize("name", METHODS)
def test_a_step_never_waits_for_the_device(name: str, backbone: str) -> None:
    method = build_method(name, build_backbone(backbone, SIZE), options(name)).train()
    rules, config = recipe(name, backbone), resolve_train(OptimConfig(), name, backbone, 1000)
    schedule = build_schedule(config, rules, BATCH, 10)
    with pretended():
        pretend(method)
        optimizer, meter = build_optimizer(method, rules), Meter(torch.device("cuda"))
        images = torch.zeros(BATCH, 3, SIZE + 4, SIZE + 4, dtype=torch.uint8)
        keys, labels = torch.zeros(BATCH, dtype=torch.int64), torch.zeros(BATCH, dtype=torch.int64)
        assert images.device.type == next(method.parameters()).device.type == "cuda"

        def step() -> None:
            crops = augment(images, keys, view_specs(name, options(name), SIZE), Normalization())
            schedule.apply(optimizer, MIDWAY.step)
            output = method(Batch(crops, labels, keys), MIDWAY)
            for parameter in method.parameters():  # torch cannot run a backward pass without a CUDA driver
                parameter.grad = torch.empty_like(parameter) if parameter.requires_grad else None
            meter.update(output, clip_gradients(method, max_norm=1.0), MIDWAY, BATCH)
            method.before_step(MIDWAY)
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(MIDWAY)

        step()  # constants are copied once, and the optimiser makes its state
        assert MIDWAY.step % CUDA_CHECK_STEPS != 0, "at every 20th step the meter looks, and waits"
        with Waits() as waits:
            step()
    assert waits.found == []


def test_what_waits_is_seen() -> None:
    with pretended():
        values = torch.zeros(3)
        with Waits() as waits:
            values.cpu()
            torch.zeros(3, device="cpu").cuda()
    assert len(waits.found) == 2


def test_views_of_the_evaluation_do_not_wait_either() -> None:
    constants = Normalization((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    with pretended():
        images = torch.zeros(4, 3, 40, 40, dtype=torch.uint8)
        center_view(images, 32, constants)
        with Waits() as waits:
            assert center_view(images, 32, constants).device.type == "cuda"
    assert waits.found == []
