"""``ablation doctor``: will a study run here? Each line is ok, warn or fail, with the fix."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

GIB = 2**30
FIXES = {"ray": "check --address, or leave it out for a local cluster", "study": "as the message says",
         "mlflow": "check --tracking-uri, or leave it out for SQLite in the store"}
LEAST_DISK, LEAST_MEMORY_PER_CORE, LEAST_SHM = 5 * GIB, 2 * GIB, 512 * 2**20


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    check: str
    result: Literal["ok", "warn", "fail"]
    detail: str
    fix: str = ""


def examine(store: str | None, tracking_uri: str | None, address: str | None, study: str | None = None,
            overrides: list[str] | None = None) -> Iterator[Finding]:
    """All checks in order; a check that raises is itself a failure, never the end."""
    yield _python()
    checks: list[tuple[str, Callable[[], Finding]]] = [
        ("torch", _torch), ("memory", _memory), ("store", lambda: _folder("store", _store_root(store))),
        ("cache", lambda: _folder("cache", _cache_root())), ("ray", lambda: _ray(address)),
        ("mlflow", lambda: _mlflow(store, tracking_uri))]
    if study is not None:
        checks.append(("study", lambda: _study(study, overrides or [], store)))
    for name, check in checks:
        try:
            yield check()
        except Exception as error:
            for line in (str(error) or type(error).__name__).splitlines():
                yield Finding(name, "fail", line, FIXES.get(name, "as the message says"))


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "fail", found, "" if good else "use Python 3.11 or newer")


def _torch() -> Finding:
    """Does the card that is there work with these wheels?"""
    import torch

    from trainers.machine import choose_precision

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            torch.ones(8, device=f"cuda:{number}").sum().item()  # a card without kernels in these wheels fails here
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("torch", "ok", f"{torch.__version__}, CUDA {torch.version.cuda}, {names}")
    precision = str(choose_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    detail = f"{torch.__version__}, CPU with {torch.backends.cpu.get_cpu_capability()}, trains in {precision}"
    if not _has_gpu():
        return Finding("torch", "ok", detail)
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Finding("torch", "ok", f"{detail}; the GPU is hidden by CUDA_VISIBLE_DEVICES")
    return Finding("torch", "fail", f"{detail}; a GPU is here but torch does not see it",
                   f"update the driver: these wheels need CUDA {torch.version.cuda} (driver 580 or newer)"
                   if torch.version.cuda else "install torch with CUDA: make install")


def _has_gpu() -> bool:
    if shutil.which("nvidia-smi") is None:
        return False
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0 and "GPU 0" in done.stdout


def _memory() -> Finding:
    """Of the machine, and of ``/dev/shm``, where Ray keeps its object store."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0))
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else LEAST_SHM
    detail = f"{total / GIB:.0f} GiB for {cores} cores, /dev/shm {shared / GIB:.1f} GiB"
    if shared < LEAST_SHM:
        return Finding("memory", "warn", detail, "start the container with --shm-size=1g")
    if total < cores * LEAST_MEMORY_PER_CORE:
        return Finding("memory", "warn", detail, "run fewer trials at once: --max-concurrent")
    return Finding("memory", "ok", detail)


def _store_root(store: str | None) -> Path:
    from ablation.store import Store

    return Store(store).root


def _cache_root() -> Path:
    from trainers.data.cache import default_cache_dir

    return default_cache_dir()


def _folder(name: str, path: Path) -> Finding:
    """Writable (or creatable), and how much is free."""
    place = path
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        return Finding(name, "fail", f"{path}: {error.strerror}", f"choose another: ABLATION_{name.upper()}")
    free = shutil.disk_usage(place).free
    detail = f"{path}, {free / GIB:.0f} GiB free"
    if free < LEAST_DISK:
        return Finding(name, "warn", detail, f"free some space, or choose another: ABLATION_{name.upper()}")
    return Finding(name, "ok", detail)


def _ray(address: str | None) -> Finding:
    address = address or os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        return Finding("ray", "ok", f"{version('ray')}, a local cluster for each run")
    from ablation.driver import connect

    with connect(address, lambda event: None) as machines:  # Ray itself refuses another version
        return Finding("ray", "ok", f"{version('ray')} at {address}: {machines.cpus:g} CPUs, {machines.gpus:g} GPUs")


def _mlflow(store: str | None, tracking_uri: str | None) -> Finding:
    from ablation.mlflow_server import default_uri, redact, server_version
    from ablation.store import Store

    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or default_uri(Store(store))
    ours = version("mlflow")
    if not uri.startswith("http"):
        return Finding("mlflow", "ok", f"{ours}, {redact(uri)}")
    theirs = server_version(uri)
    if theirs is None:
        return Finding("mlflow", "ok", f"{ours}; {redact(uri)} answers and asks for a password")
    if theirs != ours:
        return Finding("mlflow", "warn", f"{ours} here, {theirs} at {redact(uri)}", "install the same version on both")
    return Finding("mlflow", "ok", f"{ours} at {redact(uri)}")


def _study(source: str, overrides: list[str], store: str | None) -> Finding:
    from ablation.plan import plan
    from ablation.spec import StudySpec

    planned = plan(StudySpec.load(source, overrides), store=store)
    detail = f"'{planned.spec.name}': {len(planned.trials)} trials, {len(planned.pending())} to run"
    return Finding("study", "ok", detail)
