"""What every method promises on both backbones. A new one is tested here without a new file.

N ranks = 1 rank is in tests/distributed, kill and resume in tests/distributed/test_resume.py; they run over the same
``TESTED``. The first steps in tests/golden are those of ``METHODS``. A method of your own, from a checkout:

    TEST_METHODS=/path/my_method.py:MyMethod pytest tests/conformance/test_methods.py tests/distributed
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.methods.steps import (
    BACKBONE_NAMES,
    BATCH,
    MIDWAY,
    SIZE,
    TESTED,
    options,
    tiny_batch,
    tiny_method,
)
from trainers.backbones import timm_model
from trainers.config import ConfigError
from trainers.methods import build_method, find_method, view_specs
from trainers.methods.base import AbstractMethod
from trainers.optim import build_optimizer, parameter_groups
from trainers.recipes import recipe
from trainers.records import StepOutput

WIDTHS = {"resnet18": 512, "vit_tiny": 192}


@dataclass
class Step:
    """A method after one forward and backward pass under bf16 autocast."""

    name: str
    backbone: str
    method: AbstractMethod
    output: StepOutput


@pytest.fixture(scope="module", params=itertools.product(TESTED, BACKBONE_NAMES), ids="-".join)
def step(request: pytest.FixtureRequest) -> Step:
    name, backbone = request.param
    method = tiny_method(name, backbone)
    with torch.autocast("cpu", torch.bfloat16):
        output = method(tiny_batch(name), MIDWAY)
    output.loss.backward()
    return Step(name, backbone, method, output)


def test_loss_is_a_finite_float32_scalar_under_bf16(step: Step) -> None:
    assert step.output.loss.shape == ()
    assert step.output.loss.dtype == torch.float32
    assert torch.isfinite(step.output.loss)
    assert all(not value.requires_grad and value.shape == () for value in step.output.metrics.values())


def test_the_loss_is_a_float32_island(step: Step, record_property: Callable[[str, object], None]) -> None:
    """Under bf16 autocast the gradient is float32's to 0.5 %, apart from what the network's own layers round.

    So the layers compute in float32 and only what the method does itself, its loss above all, is under autocast. As a
    whole a bf16 network is off by more; the figure is recorded, not judged.
    """
    reference = gradient(step, autocast=False)
    island = gradient(step, autocast=True, layers_in_float32=True)
    error = relative_error(island, reference)
    record_property("island", error)
    record_property("whole_network", relative_error(gradient(step, autocast=True), reference))
    assert error < 0.005


def gradient(step: Step, *, autocast: bool, layers_in_float32: bool = False) -> Tensor:
    method = tiny_method(step.name, step.backbone)
    if layers_in_float32:
        for module in method.modules():
            if module is not method:
                module.forward = in_float32(module.forward)  # type: ignore[method-assign]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = method(tiny_batch(step.name), MIDWAY).loss
    loss.backward()
    return torch.cat([p.grad.flatten() for p in method.parameters() if p.grad is not None])


def in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return forward(*[x.float() if isinstance(x, Tensor) and x.is_floating_point() else x for x in args],
                           **kwargs)

    return wrapped


def relative_error(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).norm() / expected.norm())


def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one(step: Step) -> None:
    for name, parameter in step.method.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.any(), name
        else:
            assert parameter.grad is None, name


def test_features_and_embedding_have_the_backbones_width(step: Step) -> None:
    width = WIDTHS[step.backbone]
    assert step.output.features.shape[1] == width
    assert not step.output.features.requires_grad
    step.method.eval()
    with torch.no_grad():
        features = step.method.encoder(torch.randn(3, 3, SIZE, SIZE))
        embedding = step.method.embed(features)
    step.method.train()
    assert features.shape == (3, width)
    assert embedding.shape[0] == 3
    assert embedding.dim() == 2
    assert torch.isfinite(embedding).all()


def test_encoder_loads_strictly_into_timm(step: Step) -> None:
    timm_model(step.backbone, SIZE).load_state_dict(step.method.encoder.net.state_dict(), strict=True)


def test_no_decay_on_norms_biases_tokens_and_positions(step: Step) -> None:
    """Inspected by name, for the optimiser that the recipe builds."""
    names = {id(p): name for name, p in step.method.named_parameters()}
    decaying, plain = (
        [names[id(p)] for p in group["params"]]  # type: ignore[attr-defined]
        for group in parameter_groups(step.method, 0.05)
    )
    trainable = {name for name, p in step.method.named_parameters() if p.requires_grad}
    assert sorted([*decaying, *plain]) == sorted(trainable)  # each once
    norms = {f"{path}.{leaf}" for path, module in step.method.named_modules() for leaf in ("weight", "bias")
             if isinstance(module, (nn.LayerNorm, nn.modules.batchnorm._BatchNorm))}
    for name in decaying:
        assert name.endswith("weight") or "prototypes" in name, name
        assert name not in norms, name
        assert not any(part in name for part in ("bias", "token", "pos_embed")), name
    for name in plain:
        assert name in norms or any(part in name for part in ("bias", "token", "pos_embed")), name
    optimizer = build_optimizer(step.method, recipe(TESTED[step.name], step.backbone))
    assert [group["weight_decay"] > 0 for group in optimizer.param_groups] == [True, False]
    assert set(step.method.no_decay()) <= set(names.values())


def test_the_step_does_not_touch_the_global_generator(step: Step) -> None:
    """All per-image randomness is keyed, so that ranks and resumed runs draw the same."""
    before = torch.get_rng_state()
    step.method(tiny_batch(step.name), MIDWAY)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", TESTED)
def test_it_says_what_it_is(name: str) -> None:
    method = find_method(TESTED[name])
    assert method.summary
    assert "\n" not in method.summary
    assert "arXiv" in method.paper or method.family == "supervised"
    assert method.family in ("joint-embedding", "reconstruction", "supervised")
    assert method.uses_labels == (method.family == "supervised")
    assert recipe(TESTED[name], "resnet18") == recipe(TESTED[name], "resnet")
    assert recipe(TESTED[name], "convnext_atto") == recipe(TESTED[name], "vit")
    assert all(field.default is not MISSING for field in fields(method.Config))


@pytest.mark.parametrize("name", TESTED)
def test_views_are_equal_sizes_first_and_labels_change_nothing_unless_used(name: str) -> None:
    specs = view_specs(TESTED[name], options(name), 64)
    sizes = [spec.size for spec in specs]
    assert sizes[0] == 64
    assert sizes == sorted(sizes, reverse=True)
    method, batch = tiny_method(name, "resnet18").eval(), tiny_batch(name)
    with torch.no_grad():
        loss = method(batch, MIDWAY).loss
        batch.labels.copy_(1 - batch.labels)
        other = method(batch, MIDWAY).loss
    assert torch.equal(loss, other) != find_method(TESTED[name]).uses_labels
    assert len(batch.labels) == BATCH


@pytest.mark.parametrize("name", TESTED)
def test_an_unknown_option_is_named(name: str) -> None:
    from trainers.backbones import build_backbone

    with pytest.raises(ConfigError, match=r"train\.options\.nonsense: unknown field"):
        build_method(TESTED[name], build_backbone("resnet18", SIZE), {"nonsense": 1})
