"""The special promises of some methods; what all promise is in tests/conformance."""


from __future__ import annotations

from typing import cast

import pytest
import torch
from timm.models.resnet import ResNet
from torch import Tensor

from tests.trainers.methods.steps import BATCH, MIDWAY, tiny_batch, tiny_method
from trainers.backbones import build_backbone
from trainers.config import ConfigError
from trainers.methods import build_method, view_specs
from trainers.methods.byol import BYOL
from trainers.methods.dino import DINO
from trainers.methods.ema import ema_momentum
from trainers.recipes import recipe
from trainers.records import Progress


@pytest.mark.parametrize("size", [32, 64, 112, 128, 160, 224])
def test_local_crops_are_multiples_of_the_patch(size: int) -> None:
    patch = size // 8 if size < 112 else 16
    sizes = [spec.size for spec in view_specs("dino", {"num_local_crops": 3}, size)]
    assert sizes[:2] == [size, size]
    assert len(sizes) == 5
    assert all(local % patch == 0 and 0 < local < size for local in sizes[2:])


def test_user_mistakes_name_the_field_and_the_fix() -> None:
    backbone = build_backbone("resnet18", 32)
    with pytest.raises(ConfigError, match=r"grid\.method: unknown method 'simclrr' \(did you mean 'simclr'\?\)"):
        build_method("simclrr", backbone, {})
    with pytest.raises(ConfigError, match=r"train\.options\.temprature: unknown field .*'temperature'"):
        build_method("simclr", backbone, {"temprature": 0.1})
    with pytest.raises(ConfigError, match=r"train\.options\.temperature: must be greater than 0"):
        build_method("simclr", backbone, {"temperature": 0})
    with pytest.raises(ConfigError, match=r"train\.options\.mask_ratio"):
        build_method("mae", backbone, {"mask_ratio": 1.5})
    with pytest.raises(ConfigError, match=r"data\.image_size: mae .* multiple of 16"):
        build_method("mae", build_backbone("resnet18", 40), {})
    with pytest.raises(ConfigError, match="plain ResNet or ViT"):
        build_method("mae", build_backbone("convnext_atto", 32), {})
    with pytest.raises(ConfigError, match=r"unknown method 'dinoo' \(did you mean 'dino'"):
        recipe("dinoo", "resnet")


def test_ema_runs_on_a_cosine_to_one_and_starts_lower_on_short_budgets() -> None:
    assert ema_momentum(0.99, Progress(0, 1000, 0, 10)) == pytest.approx(0.99)
    assert ema_momentum(0.99, Progress(500, 1000, 5, 10)) == pytest.approx(0.995)
    assert ema_momentum(0.99, Progress(999, 1000, 9, 10)) == pytest.approx(1, abs=1e-6)
    assert ema_momentum(None, Progress(0, 10_000, 0, 10)) == pytest.approx(0.99)
    assert ema_momentum(None, Progress(0, 400, 0, 10)) == pytest.approx(0.96)
    assert ema_momentum(None, Progress(0, 40, 0, 10)) == pytest.approx(0.9)


def test_ema_moves_parameters_only_and_after_the_step() -> None:
    method = tiny_method("byol", "resnet18")
    assert isinstance(method, BYOL)
    method(tiny_batch("byol"), MIDWAY)
    weights = cast(ResNet, method.target_backbone.net).conv1.weight
    before, buffers = weights.clone(), [b.clone() for b in method.target_backbone.buffers()]
    with torch.no_grad():
        cast(ResNet, method.backbone.net).conv1.weight.add_(1.0)
    method.after_step(MIDWAY)
    momentum = ema_momentum(None, MIDWAY)
    torch.testing.assert_close(weights, momentum * before + (1 - momentum) * (before + 1.0))
    assert all(torch.equal(b, kept) for b, kept in zip(method.target_backbone.buffers(), buffers, strict=True))


def test_target_keeps_running_statistics_of_its_own_forwards() -> None:
    """So that DINO's teacher can be exported: its buffers belong to its weights."""
    method = tiny_method("dino", "resnet18")
    assert isinstance(method, DINO)
    method(tiny_batch("dino"), MIDWAY)
    assert method.encoder is method.teacher_backbone
    teacher, student = (cast(ResNet, backbone.net).bn1 for backbone in (method.teacher_backbone, method.backbone))
    assert int(teacher.num_batches_tracked) == 1  # globals only
    assert int(student.num_batches_tracked) == 2  # globals, locals
    assert teacher.running_mean.any()


def test_dino_center_follows_the_teacher_after_the_loss() -> None:
    method, batch = tiny_method("dino", "vit_tiny"), tiny_batch("dino")
    assert isinstance(method, DINO)
    with torch.no_grad():
        outputs: Tensor = method.teacher_head(method.teacher_backbone(torch.cat(batch.views[:2])))
    loss = method(batch, MIDWAY).loss
    torch.testing.assert_close(method.center, 0.1 * outputs.mean(0))
    method.center.zero_()
    assert torch.equal(method(batch, MIDWAY).loss, loss)  # the first loss was taken with the old centre, 0


@pytest.mark.parametrize(("progress", "frozen"), [
    (Progress(3, 200, 0, 20), True), (Progress(10, 200, 1, 20), False),
    (Progress(3, 100, 0, 2), True), (Progress(5, 100, 0, 2), False),
])
def test_dino_prototypes_stand_still_at_first(progress: Progress, frozen: bool) -> None:
    method = tiny_method("dino", "vit_tiny")
    assert isinstance(method, DINO)
    method.head.prototypes.grad = torch.ones_like(method.head.prototypes)
    method.before_step(progress)
    assert (method.head.prototypes.grad is None) == frozen


@pytest.mark.parametrize(("name", "parts"), [
    ("byol", ("target_backbone.net.", "target_projector.")),
    ("dino", ("teacher_backbone.net.", "teacher_head.", "center")),
])
def test_targets_and_center_are_in_the_state_dict(name: str, parts: tuple[str, ...]) -> None:
    """What spt and others lose on resume."""
    method, other = tiny_method(name, "resnet18"), tiny_method(name, "resnet18")
    method(tiny_batch(name), MIDWAY)
    method.after_step(MIDWAY)
    state = method.state_dict()
    for part in parts:
        assert any(key.startswith(part) for key in state), part
    other.load_state_dict(state, strict=True)
    first, second = method(tiny_batch(name), MIDWAY).loss, other(tiny_batch(name), MIDWAY).loss
    assert torch.equal(first, second)


def test_masks_and_loss_depend_on_keys_not_on_the_generator() -> None:
    method, batch = tiny_method("mae", "vit_tiny"), tiny_batch("mae")

    def loss(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return cast(Tensor, method(batch, MIDWAY).loss.detach())

    assert torch.equal(loss(0), loss(1))


def test_the_dense_arm_looks_at_no_hidden_pixel_either() -> None:
    method, batch = tiny_method("mae_dense", "vit_tiny"), tiny_batch("mae_dense")
    features = method(batch, MIDWAY).features
    assert features.shape == (BATCH, 192)
    batch.views[0][:, :, :4, :4] += 1.0  # the first cell, hidden in some images and seen in others
    changed = (method(batch, MIDWAY).features != features).any(1)
    assert changed.any()
    assert not changed.all()
