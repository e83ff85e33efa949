"""``ablation doctor``: will a study run here? Each line is ok, warn or fail, with the fix."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib
import os
import re
import shutil
import socket
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ablation.access import dashboard_version

if TYPE_CHECKING:
    from ablation.plan import Plan

GIB = 2**30
FIXES = {"ray": "check --address, or leave it out for a local cluster", "study": "as the message says",
         "mlflow": "check --tracking-uri, or leave it out for SQLite in the store"}
SAMPLE_PICTURES = 12
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
    """All checks in order; a check that raises is itself a failure, never the end. What needs a plan is left out where
    the study has none."""
    yield _python()
    checks: list[tuple[str, Callable[[], Finding | None]]] = [
        ("torch", _torch), ("memory", _memory), ("store", lambda: _folder("store", _store_root(store))),
        ("cache", lambda: _folder("cache", _cache_root())), ("ray", lambda: _ray(address)),
        ("mlflow", lambda: _mlflow(store, tracking_uri))]
    if study is not None:
        plans: list[Plan] = []  # of the check "study", for those after it
        checks += [("study", lambda: _study(study, overrides or [], store, plans)), ("data", lambda: _data(plans)),
                   ("room", lambda: _room(plans))]
    for name, check in checks:
        try:
            if found := check():
                yield found
        except Exception as error:
            for line in (str(error) or type(error).__name__).splitlines():
                yield Finding(name, "fail", line, FIXES.get(name, "as the message says"))


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    return Finding("python", "ok" if good else "fail", found, "" if good else "use Python 3.11 or newer")


def _torch() -> Finding:
    """Do the wheels fit each other, and does the card that is there work with them?"""
    import torch

    try:
        torchvision = importlib.import_module("torchvision")  # built against one torch, and fails here with another
    except Exception as error:
        return Finding("torch", "fail", f"{torch.__version__}, torchvision {version('torchvision')} does not load: "
                       f"{str(error).splitlines()[0]}", "install the versions of requirements.lock: make install")
    from trainers.machine import choose_precision

    wheels = f"{torch.__version__}, torchvision {torchvision.__version__}"
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            torch.ones(8, device=f"cuda:{number}").sum().item()  # a card without kernels in these wheels fails here
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Finding("torch", "ok", f"{wheels}, CUDA {torch.version.cuda}, driver {_driver()}, {names}")
    precision = str(choose_precision("auto", torch.device("cpu"))).removeprefix("torch.")
    detail = f"{wheels}, CPU with {torch.backends.cpu.get_cpu_capability()}, trains in {precision}"
    driver = _driver()
    if driver is None:
        return Finding("torch", "ok", detail)
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return Finding("torch", "ok", f"{detail}; the GPU is hidden by CUDA_VISIBLE_DEVICES")
    return Finding("torch", "fail", f"{detail}; a GPU with driver {driver} is here but torch does not see it",
                   f"update the driver: these wheels need CUDA {torch.version.cuda} (driver 580 or newer)"
                   if torch.version.cuda else "install torch with CUDA: make install")


def _driver() -> str | None:
    """Version of NVIDIA's driver; None where there is no card."""
    import pynvml

    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion()) if pynvml.nvmlDeviceGetCount() else None
    except pynvml.NVMLError:
        return None


def _memory() -> Finding:
    """Of the machine, and of ``/dev/shm``, where Ray keeps its object store."""
    total = _memory_bytes()
    cores = len(os.sched_getaffinity(0))
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else LEAST_SHM
    detail = f"{total / GIB:.0f} GiB for {cores} cores, /dev/shm {shared / GIB:.1f} GiB"
    if shared < LEAST_SHM:
        return Finding("memory", "warn", detail, "start the container with --shm-size=1g")
    if total < cores * LEAST_MEMORY_PER_CORE:
        return Finding("memory", "warn", detail, "run fewer trials at once: --max-concurrent")
    return Finding("memory", "ok", detail)


def _memory_bytes() -> int:
    """Of the machine, or what a container may take of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" where there is no limit
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return total


def _store_root(store: str | None) -> Path:
    from ablation.store import Store

    return Store(store).root


def _cache_root() -> Path:
    from trainers.data.cache import default_cache_dir

    return default_cache_dir()


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())


def _folder(name: str, path: Path) -> Finding:
    """Writable (or creatable), and how much is free."""
    place = _existing(path)
    try:
        with tempfile.TemporaryFile(dir=place) as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # some network disks have none: two drivers would meet
    except OSError as error:
        return Finding(name, "fail", f"{path}: {error.strerror}", f"choose another: ABLATION_{name.upper()}")
    free = shutil.disk_usage(place).free
    detail = f"{path}, {free / GIB:.0f} GiB free"
    if free < LEAST_DISK:
        return Finding(name, "warn", detail, f"free some space, or choose another: ABLATION_{name.upper()}")
    return Finding(name, "ok", detail)


def _ray(address: str | None) -> Finding:
    ours, address = version("ray"), address or os.environ.get("RAY_ADDRESS")
    if not address or address == "local":
        return Finding("ray", "ok", f"{ours}, a local cluster for each run")
    if address.startswith("http"):
        theirs = dashboard_version(address)
        if theirs is None:
            return Finding("ray", "ok", f"{ours}; {address} answers and asks for a token")
        if theirs != ours:
            return Finding("ray", "fail", f"{ours} here, {theirs} at {address}", "install the same version on both")
        return Finding("ray", "ok", f"{ours} at {address}, for --detach")
    from ablation.driver import connect

    with connect(address, lambda event: None) as machines:  # Ray itself refuses another version
        return Finding("ray", "ok", f"{ours} at {address}: {machines.cpus:g} CPUs, {machines.gpus:g} GPUs")


def _mlflow(store: str | None, tracking_uri: str | None) -> Finding:
    from ablation.mlflow_server import redact, server_version, tracking_address
    from ablation.store import Store

    uri = tracking_address(Store(store), tracking_uri)
    ours, shown = version("mlflow"), redact(uri)
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        folder = _folder("mlflow", path.absolute().parent)
        if folder.result == "fail":
            return dataclasses.replace(folder, fix=FIXES["mlflow"])
        if path.exists() and path.stat().st_size and not path.read_bytes()[:16].startswith(b"SQLite format 3"):
            return Finding("mlflow", "fail", f"{path} is no SQLite database", "move it away, or check --tracking-uri")
        return Finding("mlflow", "ok", f"{ours}, {shown}")
    if not uri.startswith("http"):
        return _database(uri, f"{ours}, {shown}")
    theirs = server_version(uri)
    if theirs is None:
        return Finding("mlflow", "ok", f"{ours}; {shown} answers and asks for a password")
    if not re.fullmatch(r"\d+\.\d+[\w.+-]*", theirs):
        return Finding("mlflow", "fail", f"{shown} answers, but is no MLflow server", FIXES["mlflow"])
    if theirs != ours:
        return Finding("mlflow", "warn", f"{ours} here, {theirs} at {shown}", "install the same version on both")
    return Finding("mlflow", "ok", f"{ours} at {shown}")


def _database(uri: str, detail: str) -> Finding:
    """Does anybody listen at a database's address? Its driver and password are for MLflow to try."""
    from ablation.errors import ServiceUnavailable

    parts = urllib.parse.urlsplit(uri)
    port = parts.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(parts.scheme.split("+")[0])
    if parts.hostname and port:
        try:
            socket.create_connection((parts.hostname, port), timeout=5).close()
        except OSError as error:
            raise ServiceUnavailable(f"{parts.hostname}:{port} does not answer ({error.strerror or error})") from error
    return Finding("mlflow", "ok", detail)


def _study(source: str, overrides: list[str], store: str | None, plans: list[Plan]) -> Finding:
    from ablation.plan_command import load_plan

    planned = load_plan(source, overrides, store, allow_tiny=False)
    plans.append(planned)
    detail = f"'{planned.spec.name}': {len(planned.trials)} trials, {len(planned.pending())} to run"
    return Finding("study", "ok", detail)


def _data(plans: list[Plan]) -> Finding | None:
    """Can the pictures be read? A few of them, from all over the data set."""
    from trainers.data.index import DataError

    if not plans:
        return None
    dataset, needed = plans[0].dataset, plans[0].needed
    sample = needed[:: max(1, len(needed) // SAMPLE_PICTURES)][:SAMPLE_PICTURES].tolist()
    faults = []
    for position in sample:
        try:
            dataset.sample(position)
        except DataError as error:
            faults.append(str(error))
    detail = (f"{len(dataset.index)} images, {len(needed)} of them needed; "
              f"{len(sample) - len(faults)} of {len(sample)} read")
    if faults:
        every = len(faults) == len(sample)
        return Finding("data", "fail" if every else "warn", f"{detail}: {faults[0]}",
                       "check data.root" if every else "repair or remove them: more than 1 % stops the run")
    return Finding("data", "ok", detail)


def _room(plans: list[Plan]) -> Finding | None:
    """Memory and disk for what is to run, as far as a calibration of this machine tells."""
    from ablation.estimate import estimate, size
    from trainers.data.cache import default_cache_dir

    if not plans or not plans[0].pending():
        return None
    found = estimate(plans[0])
    needs = [(found.pictures_mb, shutil.disk_usage(_existing(default_cache_dir())).free, "pictures", "ABLATION_CACHE")]
    if not found.known:
        detail = f"{size(found.pictures_mb)} of pictures; what trials need is not measured yet"
        fix = "ablation plan STUDY --estimate measures it"
    else:
        detail = f"{found.seconds}; memory {size(found.memory_mb)}, disk {size(found.disk_mb)}, pictures " + \
            size(found.pictures_mb)
        fix = ""
        needs += [(found.disk_mb, shutil.disk_usage(_existing(plans[0].study_dir)).free, "trials", "ABLATION_STORE")]
    for mb, free, what, setting in needs:
        if mb * 2**20 > free:
            return Finding("room", "fail", f"{detail}: {size(free / 2**20)} free for {what}",
                           f"free some space, or choose another disk: {setting}")
    on_gpu = found.seat.gpus > 0
    memory = _memory_bytes() / 2**20
    if found.memory_mb > memory and not on_gpu:
        fits = max(1, int(memory * found.seat.at_once / found.memory_mb))
        return Finding("room", "warn", f"{detail} of {size(memory)}", f"--max-concurrent {fits}")
    return Finding("room", "ok", detail, fix)
