"""How busy the machine of this process is: what a heartbeat says beside "alive"."""

from __future__ import annotations

import sys


def machine_load() -> dict[str, float]:
    """Percent since the last call (CPUs), now (memory) and of the last second (GPU); only what can be told here.

    Names are MLflow's own for system metrics.
    """
    import psutil

    load = {"cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_percentage": psutil.virtual_memory().percent}
    torch = sys.modules.get("torch")  # never loaded for this
    if torch is not None and torch.cuda.is_initialized():
        free, total = torch.cuda.mem_get_info()
        load["gpu_memory_usage_percentage"] = 100.0 * (1 - free / total)
        load["gpu_utilization_percentage"] = float(torch.cuda.utilization())
    return load
