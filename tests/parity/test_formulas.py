"""Every loss equals the formula of its paper, written as a naive loop in float64; and stays float32 under bf16."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.trainers.methods.steps import EXAMPLE
from trainers.collapse import entropy_share
from trainers.methods.barlow_twins import EPS, barlow_twins_loss
from trainers.methods.byol import byol_loss
from trainers.methods.dino import dino_loss
from trainers.methods.masking import masked_pixel_loss, patchify
from trainers.methods.simclr import nt_xent
from trainers.methods.supervised import weighted_bce
from trainers.names import file_reference
from trainers.python_file import attribute

vicreg_loss = attribute(file_reference(EXAMPLE)[0], "vicreg_loss", "function")  # type: ignore[index]
B, K = 5, 7
ZERO = torch.zeros(32)
HIDDEN = torch.arange(64).view(8, 8) % 3 > 0


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


def test_nt_xent_is_the_papers_double_sum() -> None:
    z_a, z_b, temperature = draw(B, K), draw(B, K, seed=1), 0.2
    z = [*z_a, *z_b]
    total = 0.0
    for i in range(2 * B):
        others = [math.exp(cosine(z[i], z[j]) / temperature) for j in range(2 * B) if j != i]
        total -= math.log(math.exp(cosine(z[i], z[(i + B) % (2 * B)]) / temperature) / sum(others))
    assert nt_xent(z_a, z_b, temperature).item() == pytest.approx(total / (2 * B), rel=1e-12)


def test_barlow_twins_standardises_with_population_variance_and_sums_the_matrix() -> None:
    z_a, z_b, weight = draw(B, K), draw(B, K, seed=1) + 0.5 * draw(B, K), 0.0051
    total = 0.0
    for d in range(K):
        for e in range(K):
            a, b = z_a[:, d] - z_a[:, d].mean(), z_b[:, e] - z_b[:, e].mean()
            a, b = a / ((a**2).mean() + EPS).sqrt(), b / ((b**2).mean() + EPS).sqrt()
            c = float((a * b).sum() / B)
            total += (1 - c) ** 2 if d == e else weight * c**2
    assert barlow_twins_loss(z_a, z_b, weight).item() == pytest.approx(total, rel=1e-12)


def test_vicreg_is_the_papers_three_terms_with_the_author_codes_means() -> None:
    z_a, z_b = draw(B, K), 0.3 * draw(B, K, seed=1) + 0.5 * draw(B, K)
    invariance = sum(float((z_a[i, d] - z_b[i, d]) ** 2) for i in range(B) for d in range(K)) / (B * K)
    spread, redundancy = 0.0, 0.0
    for z in (z_a, z_b):
        for d in range(K):
            for e in range(K):
                c = float(((z[:, d] - z[:, d].mean()) * (z[:, e] - z[:, e].mean())).sum() / (B - 1))
                redundancy += c**2 / K if d != e else 0.0
                spread += max(0.0, 1 - math.sqrt(c + 1e-4)) / (2 * K) if d == e else 0.0
    expected = 25 * invariance + 20 * spread + 2 * redundancy
    assert vicreg_loss(z_a, z_b, 25.0, 20.0, 2.0).item() == pytest.approx(expected, rel=1e-12)


def test_byol_is_two_minus_two_cosines() -> None:
    p, z = draw(B, K), draw(B, K, seed=1)
    expected = sum(2 - 2 * cosine(p[i], z[i]) for i in range(B)) / B
    assert byol_loss(p, z).item() == pytest.approx(expected, rel=1e-12)


def test_dino_averages_all_pairs_but_the_same_view() -> None:
    student, teacher, center = draw(5, B, K), draw(2, B, K, seed=1), draw(K, seed=2)
    total, pairs = 0.0, 0
    for t in range(2):
        for s in range(5):
            if s == t:
                continue
            for i in range(B):
                target = ((teacher[t, i] - center) / 0.04).exp()
                target = target / target.sum()
                student_exp = (student[s, i] / 0.1).exp()
                total -= float((target * (student_exp / student_exp.sum()).log()).sum()) / B
            pairs += 1
    assert dino_loss(student, teacher, center, 0.1, 0.04).item() == pytest.approx(total / pairs, rel=1e-12)


def test_entropy_share_by_hand() -> None:
    assert entropy_share(torch.zeros(2, 3, K)).item() == pytest.approx(1)
    assert entropy_share(torch.tensor([[0.0, 0.0, -1e9, -1e9]])).item() == pytest.approx(0.5)  # ln 2 of ln 4
    assert entropy_share(torch.tensor([[1e4, 0.0, 0.0]])).item() == pytest.approx(0, abs=1e-6)


def test_masked_pixel_loss_standardises_each_hidden_cell_with_sample_variance() -> None:
    images, prediction = draw(2, 3, 8, 8), draw(2, 4, 48, seed=1)
    hidden = torch.tensor([[True, False, True, False], [False, True, True, False]])
    total, cells = 0.0, 0
    for i in range(2):
        for n in range(4):
            if not hidden[i, n]:
                continue
            row, column = divmod(n, 2)
            cell = images[i, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4].permute(1, 2, 0).flatten()
            variance = float(((cell - cell.mean()) ** 2).sum() / (48 - 1))
            target = (cell - cell.mean()) / math.sqrt(variance + 1e-6)
            total += float(((prediction[i, n] - target) ** 2).mean())
            cells += 1
    assert masked_pixel_loss(prediction, patchify(images, 4), hidden).item() == pytest.approx(total / cells, rel=1e-12)


def test_balanced_bce_gives_each_class_half_of_the_loss() -> None:
    logits, labels = draw(B), torch.tensor([1, 0, 0, 0, 0])
    defect = math.log1p(math.exp(-float(logits[0])))
    normals = [math.log1p(math.exp(float(x))) for x in logits[1:]]
    assert weighted_bce(logits, labels, True).item() == pytest.approx(defect / 2 + sum(normals) / 8, rel=1e-12)
    assert weighted_bce(logits, labels, False).item() == pytest.approx((defect + sum(normals)) / 5, rel=1e-12)
    only_normals = weighted_bce(logits[1:], labels[1:], True).item()
    assert only_normals == pytest.approx(sum(normals) / 8, rel=1e-12)


def unit(x: Tensor) -> Tensor:
    """Cosines leave the head in float32, see ``PrototypeHead``."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


ISLANDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.1),
    "barlow_twins_loss": lambda a, b: barlow_twins_loss(a, b, 0.0051),
    "byol_loss": byol_loss,
    "vicreg_loss": lambda a, b: vicreg_loss(a, b, 25.0, 25.0, 1.0),
    "masked_pixel_loss": lambda a, b: masked_pixel_loss(a.view(8, 8, 32), b.view(8, 8, 32), HIDDEN),
    "weighted_bce": lambda a, b: weighted_bce(a.flatten(), (b.flatten() > 0).long(), True),
    "dino_loss": lambda a, b: dino_loss(unit(a).view(4, 16, -1), unit(b[:32]).view(2, 16, -1), ZERO, 0.1, 0.04),
}


@pytest.mark.parametrize("name", list(ISLANDS))
def test_loss_under_bf16_autocast_is_computed_in_float32(name: str) -> None:
    """The gradient is that of float64 at the same bf16 inputs, but for its own rounding to bf16 on the way out."""
    a, b = draw(64, 32), draw(64, 32, seed=1)
    a, b = a.bfloat16().double(), (a + b).bfloat16().double()

    def gradient(x: Tensor, y: Tensor, enabled: bool) -> tuple[Tensor, Tensor]:
        x = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = ISLANDS[name](x, y)
        (grad,) = torch.autograd.grad(loss, x)
        return loss.detach(), grad.double()

    _, exact = gradient(a, b, False)
    loss, rounded = gradient(a.bfloat16(), b.bfloat16(), True)
    assert loss.dtype == torch.float32
    assert (rounded - exact).norm() / exact.norm() < 2.5e-3
