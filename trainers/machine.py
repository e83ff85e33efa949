"""What the machine offers and what a process must set once: device, precision, threads, heap, memory."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import random
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from trainers.config import ConfigError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc malloc.h


def choose_device(name: str) -> torch.device:
    """``auto`` = CUDA when present. Raises ``ConfigError`` when CUDA is asked for and absent."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("resources.gpus_per_worker", "a GPU is asked for and torch sees none here "
                          "(set it to 0, or check the driver: these wheels need CUDA 13, driver 580 or newer)")
    return torch.device(name)


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the processor computes in it, else float32. By capability, not by timing, so that equal
    machines always choose alike."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if capable else torch.float32


def prepare_process(threads: int | None) -> None:
    """Once per process: thread count, and a heap that is kept between steps.

    glibc gives large blocks back to the kernel after every step and page-faults them in again; raising its
    thresholds saves that. Blocks over 32 MB still go back: kept, they cost more memory than they
    save time (docs/results/performance.md).
    """
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
            libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_heap() -> None:
    """Return the memory that ``prepare_process`` keeps, so that the next peak is not that of what ran before."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)


def reset_peak_memory(device: torch.device) -> None:
    """Start a new high-water mark, so that a warm process reports each run's own peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the mark is then an upper bound
        Path("/proc/self/clear_refs").write_text("5")


def fits(num_bytes: int, device: torch.device) -> bool:
    """Whether so much memory is free on a CUDA device; on others always."""
    return device.type != "cuda" or num_bytes < torch.cuda.mem_get_info(device)[0]


def peak_memory_mb(device: torch.device) -> float:
    """Peak since ``reset_peak_memory`` in MiB: of what torch has taken of the card (CUDA), or of resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
    except (OSError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Matrix products and convolutions in true float32, where training may use TF32 (CUDA)."""
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = convolutions


def seed_everything(seed: int, determinism: str) -> None:
    """Seed the global generators (parameter initialisation) and set the determinism level.

    ``fast``: seeded, cuDNN may benchmark. ``seeded``: fixed algorithms where free. ``strict``: torch refuses
    operations without a deterministic form, TF32 off.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = determinism == "fast"
    torch.backends.cudnn.deterministic = determinism == "strict"
    torch.use_deterministic_algorithms(determinism == "strict")
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("highest" if determinism == "strict" else "high")
