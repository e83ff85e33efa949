"""What trials cost on this machine: by a few measured steps of each kind, and by the trials that finished here.

``STORE/.calibration/<machine>.json``, one file per kind of machine, so that plans know it without measuring again and
a store that several machines share mixes nothing. Neither Ray nor torch here: steps are measured in processes of their
own (``trainers.calibration``), as many side by side as trials will run, since they slow each other down.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import platform
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.files import read_dict, write_json
from ablation.placement import Machines, Node, Placement
from ablation.store import TrialState
from ablation.trial import canonical
from trainers.atomic import locked

if TYPE_CHECKING:
    from ablation.plan import Plan
    from ablation.store import Store
    from ablation.trial import Trial

FOLDER = ".calibration"
MOST_FINISHED = 20
"""Finished trials of a kind that are kept, the newest: more change no estimate."""
MOST_LAUNCHES = 5


@dataclass(frozen=True)
class Seat:
    """What each rank of a trial is given, and how many trials run side by side."""

    cpus: int
    gpus: float
    num_workers: int
    at_once: int


def local_machines() -> Machines:
    """This machine, as a local Ray would find it."""
    cards = visible_cards()
    return Machines((Node(float(len(os.sched_getaffinity(0))), float(len(cards))),), min(cards, default=None))


def visible_cards() -> list[float]:
    """Memory of each GPU that a process started here would see, MiB; empty where NVIDIA's library finds none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        sizes = [float(pynvml.nvmlDeviceGetMemoryInfo(handle).total) / 2**20 for handle in handles]
    except pynvml.NVMLError:
        return []
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    return sizes if shown is None else sizes[:len([word for word in shown.split(",") if word not in ("", "-1")])]


def seat(plan: Plan, pending: list[Trial], max_concurrent: int | None = None,
         machines: Machines | None = None) -> Seat:
    """How the first of ``pending`` would be placed here. Raises ``PlanError`` where this machine can never hold one."""
    machines = machines or local_machines()
    _, cpus, gpus = Placement(plan.spec.resources, machines, plan.store).wave(pending, plan.trials)[0]
    ranks = plan.spec.resources.num_workers
    at_once = max(1, min(machines.num_ranks(cpus, gpus) // ranks, len(pending), max_concurrent or len(pending)))
    return Seat(cpus, gpus, ranks, at_once)


def cost_kind(trial: Trial) -> dict[str, Any]:
    """What decides how long a step takes: not the learning rate, nor how many steps there are."""
    train = trial.config.train
    return {"method": trial.method, "backbone": trial.backbone, "image_size": trial.config.data.image_size,
            "batch_size": train.batch_size, "precision": train.precision, "determinism": train.determinism,
            "options": train.options}


def kind_text(kind: dict[str, Any]) -> str:
    return f"{kind['method']} {kind['backbone']} {kind['image_size']} px, batches of {kind['batch_size']}"


class Calibration:
    """The file of this machine in a store. Reading never raises; ``save`` raises ``StoreError`` or ``DataError``."""

    def __init__(self, store: Store) -> None:
        self.machine = machine_facts()
        name = hashlib.blake2b(canonical(self.machine).encode(), digest_size=6).hexdigest()
        self.path = store.root / FOLDER / f"{name}.json"
        self.content = self._read()

    def _read(self) -> dict[str, Any]:
        content = read_dict(self.path)[0]
        return {"machine": self.machine, "kinds": {}, "pictures": {}, "launches": []} | content

    def entries(self, trial: Trial, source: str) -> list[dict[str, Any]]:
        """``source``: ``measured`` or ``finished``, the newest last."""
        kind = self.content["kinds"].get(_name(cost_kind(trial)), {})
        return sorted(kind.get(source, {}).values(), key=lambda entry: float(entry["time"]))

    def save(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Apply ``change`` to what is on disk now, one process at a time."""
        with locked(self.path.with_suffix(".lock")):
            self.content = self._read()
            change(self.content)
            write_json(self.path, self.content)

    def add(self, source: str, found: Iterable[tuple[Trial, str, dict[str, Any]]]) -> None:
        """``(trial, name, entry)``: an entry of the same kind and name is replaced."""

        def change(content: dict[str, Any]) -> None:
            for trial, name, entry in found:
                kind = cost_kind(trial)
                known = content["kinds"].setdefault(_name(kind), {"kind": kind, "measured": {}, "finished": {}})
                known[source].pop(name, None)
                known[source][name] = entry
                for old in list(known[source])[:-MOST_FINISHED]:
                    del known[source][old]

        self.save(change)

    def add_launch(self, seconds: float) -> None:
        """From the start of a run with decoded pictures to its first trial."""
        self.save(lambda content: content.update(launches=[*content["launches"], seconds][-MOST_LAUNCHES:]))

    def add_pictures(self, name: str, seconds: float) -> None:
        """Per picture of a data set: to draw or read it, decode it and shrink it, by one process."""
        self.save(lambda content: content["pictures"].update({name: seconds}))


def _name(kind: dict[str, Any]) -> str:
    return hashlib.blake2b(canonical(kind).encode(), digest_size=6).hexdigest()


def machine_facts() -> dict[str, Any]:
    """What two machines must share for one to know the other's times."""
    cards = visible_cards()
    return {"processor": _processor(), "cpus": len(os.sched_getaffinity(0)), "gpus": len(cards),
            "gpu_mb": min(cards, default=None), "torch": version("torch")}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def finished_entries(plan: Plan, trials: list[Trial], seat: Seat) -> list[tuple[Trial, str, dict[str, Any]]]:
    """What finished trials of a plan took, those that ran on this host from start to end."""
    found = []
    for trial in trials:
        status, result = plan.store.read_outcome(trial.key)
        metrics, steps = result.get("metrics", {}), result.get("steps")
        here = result.get("provenance", {}).get("host") == socket.gethostname()
        times = [metrics.get(f"time/{phase}") for phase in ("setup", "train", "evaluate")]
        whole = status.state is TrialState.FINISHED and status.attempt == 1
        if not (whole and here and steps and status.started and status.finished and None not in times):
            continue
        _, train, evaluate = times
        every = trial.config.evaluation.every
        between = (trial.config.train.epochs - 1) // every if every else 0
        files = sum(path.stat().st_size for path in plan.store.trial_dir(trial.key).iterdir()) / 2**20
        found.append((trial, trial.key, {
            "time": status.finished, **dataclasses.asdict(seat),
            "steps": [max(0.0, train - between * evaluate) / steps],
            "fixed": max(0.0, status.finished - status.started - train - evaluate), "conclude": evaluate,
            "num_embedded": plan.num_embedded(trial), "peak_mb": metrics.get("memory/peak_mb"), "files_mb": files}))
    return found


def measure(plan: Plan, store: Store, say: Callable[[str], None]) -> list[str]:
    """Measure what the calibration does not know of the trials to run, and keep it. Returns what could not be measured.

    Raises ``PlanError`` where this machine can never hold a trial of the plan.
    """
    from ablation.measuring import Order, measure_orders, picture_seconds

    calibration, pending = Calibration(store), plan.pending()
    if not pending:
        return []
    given = seat(plan, pending)
    if plan.data_digest not in calibration.content["pictures"]:
        calibration.add_pictures(plan.data_digest, picture_seconds(plan))
    missing: dict[str, Trial] = {}
    for trial in pending:
        entries = calibration.entries(trial, "measured")
        if not any(_same_seat(entry, given) for entry in entries):
            missing.setdefault(_name(cost_kind(trial)), trial)
    if not missing:
        return []
    at_once = min(given.at_once, len(missing))
    say(f"measuring {len(missing)} kind(s) of trials, {at_once} at a time")
    problems = []
    orders = [Order(trial, kind_text(cost_kind(trial))) for trial in missing.values()]
    for order, answer in measure_orders(orders, given, at_once):
        if "error" in answer:
            problems.append(f"{order.text}: could not be measured: {answer['error']}")
            continue
        typical = sorted(answer["steps"])[len(answer["steps"]) // 2]
        say(f"{order.text}: {typical:.3g} s a step")
        entry = {"time": time.time(), **dataclasses.asdict(given), **answer}
        calibration.add("measured", [(order.trial, json.dumps(dataclasses.astuple(given)), entry)])
    return problems


def _same_seat(entry: dict[str, Any], given: Seat) -> bool:
    return all(entry[name] == value for name, value in dataclasses.asdict(given).items())
