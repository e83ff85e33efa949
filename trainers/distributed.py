"""Everything that talks between ranks; the only file that imports ``torch.distributed``.

Conventions, which together make N ranks equal one process on the joint batch:
a method returns its rank's mean loss; ``wrap_ddp`` averages gradients over ranks; the mean of the ranks' losses
is the loss of the joint batch; the collectives with a gradient sum it over ranks in backward (``dist.all_reduce``
alone has none, which is the silent 1/N error of lightly#1977, solo-learn#253 and vissl#230).
All ranks hold equally many images. Without a process group every function is the identity of one rank.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar, cast, final

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm as convert_on_cuda
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

M = TypeVar("M", bound=nn.Module)


def init_process_group(
    rank: int,
    world_size: int,
    *,
    device: torch.device | str | None = None,
    init_method: str | None = None,
    store: Any = None,
    timeout_seconds: float = 600.0,
) -> None:
    """Join the group: gloo for CPU tensors, NCCL for CUDA ones. Give ``init_method`` (``tcp://…``) or a ``store``.

    With neither, the variables of torchrun (``MASTER_ADDR`` …) are read. ``device`` with an index becomes current.
    """
    device = torch.device(device) if device is not None else None
    if device is not None and device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    use_nccl = torch.cuda.is_available() and (device is None or device.type == "cuda")
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if use_nccl else "gloo",
        rank=rank,
        world_size=world_size,
        init_method=init_method if store is not None or init_method is not None else "env://",
        store=store,
        timeout=timedelta(seconds=timeout_seconds),
    )


def shutdown() -> None:
    """Leave the group; no error when there is none."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def is_distributed() -> bool:
    """Whether more than one rank trains together."""
    return world_size() > 1


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def barrier() -> None:
    """Wait until every rank is here."""
    if is_distributed():
        dist.barrier()


class _AllReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


class _AllGatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.num_rows = len(x)
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(world_size())]
        dist.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        total = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = rank() * ctx.num_rows
        return total[start : start + ctx.num_rows]


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over ranks; in backward the gradient is summed over ranks too."""
    return cast(Tensor, _AllReduceSum.apply(x)) if is_distributed() else x


def all_gather_rows(x: Tensor) -> Tensor:
    """(b, …) of each rank -> (N·b, …), rank after rank; in backward the gradient is summed over ranks."""
    return cast(Tensor, _AllGatherRows.apply(x)) if is_distributed() else x


@torch.no_grad()
def all_reduce_mean(x: Tensor) -> Tensor:
    """Mean over ranks, without gradient: for metrics and the DINO centre."""
    return all_reduce_sum(x) / world_size()


def joint_batch_norm(x: Tensor, norm: _BatchNorm, visible: Tensor | None = None) -> Tensor:
    """Batch normalisation with the statistics of the joint batch of all ranks; gradients flow through them.

    ``x`` (B, C) or (B, C, h, w). ``visible`` (B, 1, h, w) of 0 and 1: positions that count; the others leave as
    exact zeros (SparK, arXiv:2301.03580). Population variance normalises, the unbiased one enters the running
    buffers, as in ``nn.BatchNorm2d``. Statistics in float32 or better; the result has the type of ``x``.
    """
    shape = [1, -1, *[1] * (x.dim() - 2)]
    if not norm.training:
        out = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)
        return out if visible is None else out * visible.to(out.dtype)
    with torch.autocast(x.device.type, enabled=False):
        values = x if x.dtype.itemsize >= 4 else x.float()
        axes = [0, *range(2, x.dim())]
        weight = None if visible is None else visible.to(values.dtype)
        rows = values.new_tensor([values.numel() / values.shape[1]]) if weight is None else weight.sum().view(1)
        own_mean = (values if weight is None else values * weight).sum(axes) / rows
        centered = values - own_mean.view(shape)
        if weight is not None:
            centered = centered * weight
        # Mean, squared deviations and count of every rank in one collective, merged without E[x²] - E[x]², which
        # loses digits when the mean is large (Chan, Golub & LeVeque 1983).
        ranks = all_gather_rows(torch.cat([own_mean, centered.square().sum(axes), rows])[None])
        means, deviations = ranks[:, :-1].chunk(2, dim=1)
        counts = ranks[:, -1:]
        count = counts.sum().detach()
        mean = (means * counts).sum(0) / count
        variance = (deviations + counts * (means - mean).square()).sum(0) / count
        _update_running(norm, mean.detach(), variance.detach(), count)
        if len(ranks) > 1:
            shift = (own_mean - mean).view(shape)
            centered = centered + (shift if weight is None else shift * weight)
        gain = torch.rsqrt(variance + norm.eps)
        out = centered * (gain if norm.weight is None else gain * norm.weight).view(shape)
        if norm.bias is not None:
            bias = norm.bias.view(shape)
            out = out + (bias if weight is None else bias * weight)
        return out.to(x.dtype)


@torch.no_grad()
def _update_running(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    if norm.running_mean is None or norm.running_var is None or norm.num_batches_tracked is None:
        return
    norm.num_batches_tracked.add_(1)
    momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_((variance * count / (count - 1).clamp(min=1)).to(norm.running_var.dtype), momentum)


@final
class SyncBatchNorm(_BatchNorm):
    """``nn.SyncBatchNorm`` for CPU tensors, which torch's own refuses in a gloo group. Same names of parameters."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected (B, C, …), got a tensor of {input.dim()} dimensions")

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        out = joint_batch_norm(input, self)
        for module in self.children():  # timm's BatchNormAct2d carries drop-out and activation
            out = module(out)
        return out


def convert_sync_batchnorm(module: M, device: torch.device | str = "cpu") -> M:
    """Give every batch normalisation in ``module`` the statistics of the joint batch; in place where possible.

    Names of parameters and buffers stay, so that a state dict fits any number of ranks. One rank: nothing changes.
    """
    if not is_distributed():
        return module
    if torch.device(device).type == "cuda":
        return cast(M, convert_on_cuda(module))  # as torch's, and keeps the activation in timm's BatchNormAct2d
    return cast(M, _convert(module))


def _convert(module: nn.Module) -> nn.Module:
    if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
        new = SyncBatchNorm(
            module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats
        )
        # The very same tensors, so that optimisers and EMA pairs made before keep working.
        new._parameters.update(module._parameters)
        new._buffers.update(module._buffers)
        new._modules.update(module._modules)
        return new.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, _convert(child))
    return module


def wrap_ddp(module: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """``module`` whose backward averages gradients over ranks; with one rank the module itself.

    Its batch normalisations are converted (in place) first. Buffers are not synchronised: ranks compute equal ones.
    """
    if not is_distributed():
        return module
    device = torch.device(device)
    module = convert_sync_batchnorm(module, device)
    ids = [device.index if device.index is not None else torch.cuda.current_device()] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=ids, forward_sync_buffers=False)
