"""How busy the machine of this process is: what a heartbeat says beside "alive"."""

from __future__ import annotations

import contextlib
import sys

_last: tuple[float, float] | None = None
"""Busy and total CPU seconds at the last call."""


def machine_load() -> dict[str, float]:
    """Percent since the last call (CPUs), now (memory) and of the last second (GPU); only what can be told here.

    Names are MLflow's own for system metrics. Never raises: it decorates a sign of life.
    """
    load: dict[str, float] = {}
    with contextlib.suppress(Exception):
        load |= _node()
    torch = sys.modules.get("torch")  # never loaded for this
    if torch is not None and torch.cuda.is_initialized():
        with contextlib.suppress(Exception):
            free, total = torch.cuda.mem_get_info()
            load["gpu_memory_usage_percentage"] = 100.0 * (1 - free / total)
        with contextlib.suppress(Exception):  # a MIG slice cannot tell
            load["gpu_utilization_percentage"] = float(torch.cuda.utilization())
    return load


def _node() -> dict[str, float]:
    import psutil

    global _last
    times = psutil.cpu_times()
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    busy = total - times.idle - getattr(times, "iowait", 0.0)
    load = {"system_memory_usage_percentage": float(psutil.virtual_memory().percent)}
    if _last is not None and total > _last[1]:
        load["cpu_utilization_percentage"] = max(0.0, 100.0 * (busy - _last[0]) / (total - _last[1]))
    _last = (busy, total)
    return load
