"""The N-ranks-equal-one test on lightly's losses: what a user of the peer gets when a second GPU is added.

    python -m benchmarks.peer_losses        needs lightly (make install-dev)

Two and three gloo processes hold parts of one batch of projections; the mean of their losses and gradients is compared
with one process on the whole batch, as DDP does it. Ours stand beside them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import start_processes

from benchmarks.record import table, write
from trainers import distributed
from trainers.methods.barlow_twins import barlow_twins_loss
from trainers.methods.dino import dino_loss
from trainers.methods.simclr import nt_xent

BATCH, WIDTH = 48, 16
Loss = Callable[[Tensor, Tensor], Tensor]


def losses() -> dict[str, Loss]:
    from lightly.loss import BarlowTwinsLoss, DINOLoss, NTXentLoss

    center = torch.zeros(WIDTH)
    return {
        "NT-Xent, lightly default": lambda a, b: NTXentLoss(temperature=0.2)(a, b),
        "NT-Xent, lightly gather_distributed": lambda a, b: NTXentLoss(temperature=0.2, gather_distributed=True)(a, b),
        "NT-Xent, ours": lambda a, b: nt_xent(a, b, 0.2),
        "Barlow Twins, lightly default": lambda a, b: BarlowTwinsLoss()(a, b),
        "Barlow Twins, lightly gather_distributed": lambda a, b: BarlowTwinsLoss(gather_distributed=True)(a, b),
        "Barlow Twins, ours": lambda a, b: barlow_twins_loss(a, b, 0.005),
        "DINO, lightly": lambda a, b: DINOLoss(output_dim=WIDTH)([b, b], [a, a], epoch=0),
        "DINO, ours": lambda a, b: dino_loss(torch.stack([a, a]), torch.stack([b, b]), center, 0.1, 0.04),
    }


def loss_and_gradient(loss: Loss, share: slice) -> tuple[Tensor, Tensor]:
    """Mean over ranks of the loss, and the gradient of a shared linear layer averaged over ranks, as DDP does."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(BATCH, WIDTH, generator=generator) for _ in range(2))
    weight = torch.randn(WIDTH, WIDTH, generator=generator).requires_grad_()
    value = loss(x[share] @ weight, (x + 0.5 * noise)[share] @ weight)
    (gradient,) = torch.autograd.grad(value, weight)
    return distributed.all_reduce_mean(value.detach()), distributed.all_reduce_mean(gradient)


def _rank(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    share = slice(rank * BATCH // ranks, (rank + 1) * BATCH // ranks)
    whole = {name: loss_and_gradient(loss, slice(None)) for name, loss in losses().items()}
    distributed.init_process_group(rank, ranks, device="cpu", init_method=f"file://{folder}/rendezvous")
    rows: list[dict[str, Any]] = []
    for name, loss in losses().items():
        value, gradient = loss_and_gradient(loss, share)
        one_value, one_gradient = whole[name]
        rows.append({
            "loss": name, "ranks": ranks, "value, one process": one_value.item(), "value": value.item(),
            "gradient norm ratio": (gradient.norm() / one_gradient.norm()).item(),
            "relative error": f"{((gradient - one_gradient).norm() / one_gradient.norm()).item():.1e}"})
    if rank == 0:
        torch.save(rows, f"{folder}/rows.pt")
    dist.barrier()
    distributed.shutdown()


def measure(ranks: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_rank, args=(ranks, folder), nprocs=ranks)  # type: ignore[no-untyped-call]
        rows: list[dict[str, Any]] = torch.load(f"{folder}/rows.pt")
        return rows


if __name__ == "__main__":
    found = [row for ranks in (2, 3) for row in measure(ranks)]
    print(table(found))
    print(write("peer_losses", found))
