"""Two ranks equal one process on the joint batch, for every method on both backbones.

Two real gloo processes train in float64; the loss, every gradient, and the state after the step (running statistics,
EMA targets, DINO's centre) must be those of one process. No mocks.
"""

from __future__ import annotations

import itertools
import json
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
    """Every case in this rank; rank 0 also runs the single process before the group exists, and compares."""
    torch.set_num_threads(1)
    share = slice(rank * BATCH // WORLD_SIZE, (rank + 1) * BATCH // WORLD_SIZE)
    for name, backbone in CASES:
        case = f"{name}-{backbone}"
        single = train_a_little(name, backbone, slice(None)) if rank == 0 else None
        _join(rank, folder, case)
        joint = train_a_little(name, backbone, share)
        flat = torch.cat([value.double().flatten() for value in joint["state"].values()])
        differ = bool((distributed.all_reduce_mean(flat) != flat).any())
        distributed.shutdown()
        if single is not None:
            Path(folder, f"{case}.json").write_text(json.dumps(compare(joint, single) | {"ranks_differ": differ}))
    _join(rank, folder, "batch_norm")
    torch.save(batch_norm_gradients(rank), f"{folder}/batch_norm-{rank}.pt")
    distributed.shutdown()


def _join(rank: int, folder: str, case: str) -> None:
    distributed.init_process_group(rank, WORLD_SIZE, device="cpu", init_method=f"file://{folder}/{case}.rendezvous")


def compare(joint: Result, single: Result) -> Result:
    """Relative errors by name. A ViT's last bias in front of a batch-normalised head has gradient 0 but for rounding,
    hence a floor of 1e-5 of the largest gradient, and 1e-3 for the norm of a tensor after the step."""
    floor = 1e-5 * max(float(g.norm()) for g in single["gradients"].values())
    return {
        "losses": [joint["losses"], single["losses"]],
        "names": [[list(run[part]) for part in ("gradients", "state")] for run in (joint, single)],
        "gradients": {k: relative_error(joint["gradients"][k], g, floor) for k, g in single["gradients"].items()},
        "state": {k: relative_error(joint["state"][k], value, 1e-3) for k, value in single["state"].items()},
    }


def relative_error(ours: Tensor, expected: Tensor, floor: float = 1e-12) -> float:
    return float((ours - expected).double().norm() / expected.double().norm().clamp(min=floor))


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
    """Results of every case; one pair of processes for all, since starting one costs seconds."""
    path = tmp_path_factory.mktemp("ranks")
    start_processes(  # type: ignore[no-untyped-call]
        _rank_main, args=(str(path),), nprocs=WORLD_SIZE, start_method="spawn"
    )
    return path


@pytest.mark.parametrize(("name", "backbone"), CASES, ids=["-".join(case) for case in CASES])
def test_two_ranks_equal_one_process(name: str, backbone: str, folder: Path) -> None:
    result = json.loads((folder / f"{name}-{backbone}.json").read_text())
    joint, single = result["names"]
    assert joint == single  # a checkpoint fits any number of ranks
    assert result["losses"][0] == pytest.approx(result["losses"][1], rel=TOLERANCE)
    worst = max(result["gradients"], key=result["gradients"].get)
    print(f"{name} {backbone}: largest relative gradient error {result['gradients'][worst]:.1e} ({worst})")
    assert result["gradients"][worst] <= TOLERANCE, worst
    wrong = [key for key, error in result["state"].items() if error > TOLERANCE]
    assert not wrong
    assert not result["ranks_differ"]


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
