"""Two ranks equal one process on the joint batch, for every method on both backbones.

Two real gloo processes train in float64; the loss, every gradient, and the state after the step (running statistics,
EMA targets, DINO's centre) must be those of one process. No mocks.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import start_processes

from tests.trainers.methods.steps import BACKBONE_NAMES, BATCH, tiny_batch, tiny_method
from trainers import distributed
from trainers.methods import METHODS
from trainers.records import Batch, Progress

WORLD_SIZE, TOLERANCE = 2, 1e-9
STATEFUL = ("byol", "dino")  # their second step depends on the EMA and the centre of the first
CASES = list(itertools.product(METHODS, BACKBONE_NAMES))
Result = dict[str, Any]


def train_a_little(name: str, backbone: str, share: slice) -> Result:
    """As the loop of ``trainers.train`` does it, on this rank's ``share`` of the joint batch."""
    method, whole = tiny_method(name, backbone, torch.float64), tiny_batch(name, torch.float64)
    batch = Batch([view[share] for view in whole.views], whole.labels[share], whole.keys[share])
    ddp = distributed.wrap_ddp(method)
    parameters = {key: p for key, p in method.named_parameters() if p.requires_grad}
    optimizer = torch.optim.SGD(parameters.values(), lr=0.01)
    losses: list[float] = []
    gradients: dict[str, Tensor] = {}
    for number in range(2 if name in STATEFUL else 1):
        progress = Progress(50 + number, 100, 10, 20)
        optimizer.zero_grad()
        loss = ddp(batch, progress).loss
        loss.backward()
        losses.append(distributed.all_reduce_mean(loss.detach()).item())
        gradients = gradients or {key: p.grad.clone() for key, p in parameters.items() if p.grad is not None}
        method.before_step(progress)
        optimizer.step()
        method.after_step(progress)
    return {"losses": losses, "gradients": gradients, "state": method.state_dict()}


def _rank_main(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(rank, WORLD_SIZE, device="cpu", init_method=f"file://{folder}/rendezvous")
    share = slice(rank * BATCH // WORLD_SIZE, (rank + 1) * BATCH // WORLD_SIZE)
    try:
        for name, backbone in CASES:
            torch.save(train_a_little(name, backbone, share), f"{folder}/{name}-{backbone}-{rank}.pt")
        torch.save(batch_norm_gradients(rank), f"{folder}/batch_norm-{rank}.pt")
    finally:
        distributed.shutdown()


def batch_norm_gradients(rank: int | None) -> Result:
    """Training-mode normalisation of (8, 3) and (8, 3, 2, 2), whole or this rank's half."""
    out: Result = {}
    for kind, shape, module in (("1d", (8, 3), nn.BatchNorm1d(3)), ("2d", (8, 3, 2, 2), nn.BatchNorm2d(3))):
        generator = torch.Generator().manual_seed(5)
        x, target = (torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2))
        if rank is not None:
            x, target = x[4 * rank : 4 * rank + 4], target[4 * rank : 4 * rank + 4]
        x = (3 + 2 * x).requires_grad_()
        converted = distributed.convert_sync_batchnorm(nn.Sequential(module)).double()
        (converted(x) * target).sum().backward()
        grads = torch.stack([p.grad for p in converted.parameters() if p.grad is not None])
        assert x.grad is not None
        out[kind] = {"x": x.grad, "parameters": distributed.all_reduce_sum(grads), "state": converted.state_dict()}
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both ranks' results of every case; one pair of processes for all, since starting one costs seconds."""
    path = tmp_path_factory.mktemp("ranks")
    start_processes(_rank_main, args=(str(path),), nprocs=WORLD_SIZE, start_method="spawn")
    return path


def relative_error(ours: Tensor, expected: Tensor) -> float:
    return float((ours - expected).double().norm() / expected.double().norm().clamp(min=1e-12))


@pytest.mark.parametrize(("name", "backbone"), CASES, ids=["-".join(case) for case in CASES])
def test_two_ranks_equal_one_process(
    name: str, backbone: str, folder: Path
) -> None:
    single = train_a_little(name, backbone, slice(None))
    ranks = [torch.load(folder / f"{name}-{backbone}-{rank}.pt") for rank in range(WORLD_SIZE)]
    assert ranks[0]["losses"] == pytest.approx(single["losses"], rel=TOLERANCE)
    assert ranks[0]["gradients"].keys() == single["gradients"].keys()
    assert list(ranks[0]["state"]) == list(single["state"])  # a checkpoint fits any number of ranks
    errors = {key: relative_error(ranks[0]["gradients"][key], g) for key, g in single["gradients"].items()}
    worst = max(errors, key=lambda key: errors[key])
    print(f"{name} {backbone}: largest relative gradient error {errors[worst]:.1e} ({worst})")
    assert errors[worst] <= TOLERANCE, worst
    for key, value in single["state"].items():
        assert relative_error(ranks[0]["state"][key], value) <= TOLERANCE, key
        assert torch.equal(ranks[0]["state"][key], ranks[1]["state"][key]), key


@pytest.mark.parametrize("kind", ["1d", "2d"])
def test_sync_batch_norm_is_batch_norm_of_the_joint_batch(kind: str, folder: Path) -> None:
    single = batch_norm_gradients(None)[kind]
    ranks = [torch.load(folder / f"batch_norm-{rank}.pt")[kind] for rank in range(WORLD_SIZE)]
    torch.testing.assert_close(torch.cat([rank["x"] for rank in ranks]), single["x"], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(ranks[0]["parameters"], single["parameters"], rtol=1e-10, atol=1e-12)
    assert ranks[0]["state"].keys() == single["state"].keys()
    for key, value in single["state"].items():
        torch.testing.assert_close(ranks[1]["state"][key], value, rtol=1e-12, atol=1e-12)


def test_one_rank_converts_and_wraps_nothing() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert distributed.wrap_ddp(module) is module
    assert type(module[1]) is nn.BatchNorm1d
    x = torch.randn(3, 2)
    assert distributed.all_gather_rows(x) is x
    assert distributed.all_reduce_sum(x) is x
