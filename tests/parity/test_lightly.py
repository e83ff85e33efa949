"""The losses and schedules equal lightly 1.6.0's, an independent implementation (MIT licence), on one process.

``PINNED`` holds lightly's values, so that the comparison stands where lightly is not installed; where it is, it is
asked again. lightly computes in float32, hence 2e-6. It is an oracle only: the product imports nothing of it, and its
distributed losses are no oracle at all (docs/correctness.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.methods.steps import EXAMPLE
from trainers.methods.barlow_twins import barlow_twins_loss
from trainers.methods.byol import byol_loss
from trainers.methods.dino import dino_loss
from trainers.methods.ema import ema_momentum
from trainers.methods.simclr import nt_xent
from trainers.names import file_reference
from trainers.optim import Schedule
from trainers.python_file import attribute
from trainers.records import Progress

vicreg_loss = attribute(file_reference(EXAMPLE)[0], "vicreg_loss", "function")  # type: ignore[index]
BATCH, WIDTH = 16, 24
PINNED = {  # loss, its gradient at the first argument as norm and on a fixed direction; lightly 1.6.0, torch 2.15.0
    "simclr": (0.8515473008155823, 0.13521413505077362, 0.038100093603134155),
    "barlow_twins": (2.383517026901245, 0.773388147354126, 1.2838038206100464),
    "byol": (0.49984288215637207, 0.07821118831634521, 0.0310407392680645),
    "dino": (18.487472534179688, 3.0828802585601807, 0.048584241420030594),
    "vicreg": (21.00100326538086, 1.9816499948501587, 1.5488048791885376),
}


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """(B, K) of two correlated views and a centre (K,)."""
    generator = torch.Generator().manual_seed(0)
    a, noise = (torch.randn(BATCH, WIDTH, generator=generator) for _ in range(2))
    return a, a + 0.7 * noise, 0.1 * torch.randn(WIDTH, generator=generator)


def views(x: Tensor) -> list[Tensor]:
    """Four DINO outputs of four images each."""
    return list(x.unflatten(0, (4, 4)))


OURS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "simclr": lambda a, b, c: nt_xent(a, b, 0.2),
    "barlow_twins": lambda a, b, c: barlow_twins_loss(a, b, 0.0051),
    "byol": lambda a, b, c: byol_loss(a, b),
    "dino": lambda a, b, c: dino_loss(torch.stack(views(a)), torch.stack(views(b)[:2]), c, 0.1, 0.04),
    "vicreg": lambda a, b, c: vicreg_loss(a, b, 25.0, 25.0, 1.0),
}


def lightly_dino(loss: Any, a: Tensor, b: Tensor, center: Tensor) -> Tensor:
    module = loss.DINOLoss(output_dim=WIDTH, teacher_temp=0.04, warmup_teacher_temp=0.04, student_temp=0.1)
    module.center.copy_(center)
    result: Tensor = module(views(b)[:2], views(a), epoch=0)
    return result


THEIRS: dict[str, Callable[[Any, Tensor, Tensor, Tensor], Tensor]] = {
    "simclr": lambda loss, a, b, c: loss.NTXentLoss(temperature=0.2)(a, b),
    "barlow_twins": lambda loss, a, b, c: loss.BarlowTwinsLoss(lambda_param=0.0051)(a, b),
    "byol": lambda loss, a, b, c: 2 + 2 * loss.NegativeCosineSimilarity()(a, b),
    "dino": lightly_dino,
    "vicreg": lambda loss, a, b, c: loss.VICRegLoss(lambda_param=25.0, mu_param=25.0, nu_param=1.0)(a, b),
}


def value_and_gradient(loss: Callable[[Tensor], Tensor], a: Tensor) -> tuple[float, float, float]:
    a = a.clone().requires_grad_()
    value = loss(a)
    (gradient,) = torch.autograd.grad(value, a)
    direction = torch.linspace(-1, 1, a.numel()).view_as(a)
    return value.item(), gradient.norm().item(), (gradient * direction).sum().item()


@pytest.mark.parametrize("name", list(PINNED))
def test_loss_and_gradient_are_lightlys(name: str, record_property: Callable[[str, object], None]) -> None:
    a, b, center = inputs()
    found = value_and_gradient(lambda x: OURS[name](x, b, center), a)
    error = max(abs(ours / theirs - 1) for ours, theirs in zip(found, PINNED[name], strict=True))
    record_property("lightly", error)
    assert error <= 2e-6


@pytest.mark.parametrize("name", list(PINNED))
def test_pinned_values_are_still_lightlys(name: str) -> None:
    loss = pytest.importorskip("lightly.loss")
    a, b, center = inputs()
    found = value_and_gradient(lambda x: THEIRS[name](loss, x, b, center), a)
    assert found == pytest.approx(PINNED[name], rel=2e-6), found


def test_ema_and_learning_rate_follow_lightlys_cosine() -> None:
    """lightly's last step reaches the end value; ours is the papers' 1 - k / K, so its K + 1 steps are our K."""
    scheduler = pytest.importorskip("lightly.utils.scheduler")
    schedule = Schedule(peak_lr=0.3, weight_decay=0.04, last_weight_decay=0.4, warmup_steps=10, total_steps=110)
    for step in range(100):
        expected = scheduler.cosine_schedule(step, 101, 0.996, 1.0)
        assert ema_momentum(0.996, Progress(step, 100, 0, 1)) == pytest.approx(expected, rel=1e-12)
        assert schedule.lr(10 + step) == pytest.approx(scheduler.cosine_schedule(step, 101, 0.3, 0.0), rel=1e-9)
    for step in range(110):
        assert schedule.decay(step) == pytest.approx(scheduler.cosine_schedule(step, 111, 0.04, 0.4), rel=1e-12)


def test_lars_steps_are_lightlys() -> None:
    """Without the clipping of solo-learn, which lightly has not; the groups are ours."""
    lars = pytest.importorskip("lightly.utils.lars")
    from timm.optim import Lars

    def run(build: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]) -> list[Tensor]:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 1))
        groups = [{"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": 1e-2},
                  {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0}]
        optimizer = build(groups)
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(8, 4)).square().mean().backward()
            optimizer.step()
        return [p.detach() for p in net.parameters()]

    ours = run(lambda groups: Lars(groups, lr=0.3, momentum=0.9, trust_coeff=0.02))
    theirs = run(lambda groups: lars.LARS(groups, lr=0.3, momentum=0.9, trust_coefficient=0.02))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
