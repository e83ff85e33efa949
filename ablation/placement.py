"""Where trials fit: how many CPUs and which share of a GPU each rank gets, which trials go to Tune together. No Ray.

Trials share a GPU only by measurement: the first trial of each kind has a card for itself, and what it took at its
peak decides how many of its kind share one from then on (``resources.gpus_per_worker: auto``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ablation.errors import PlanError
from ablation.store import TrialState
from ablation.trial import canonical

if TYPE_CHECKING:
    from ablation.spec import Resources
    from ablation.store import StudyStore
    from ablation.trial import Trial

WAVE_TRIALS = 500
"""Tune keeps every trial it was given in memory and looks through all of them again and again."""
CONTEXT_MB = 1000.0
"""What CUDA, cuDNN and cuBLAS take of a card beside torch's own memory; not measured here."""
FILL = 0.9
MAX_PER_CARD = 8


@dataclass(frozen=True)
class Node:
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True)
class Machines:
    """What a cluster has. ``card_mb`` is the memory of its smallest GPU in MiB, None where it cannot be told."""

    nodes: tuple[Node, ...]
    card_mb: float | None = None

    @property
    def cpus(self) -> float:
        return sum(node.cpus for node in self.nodes)

    @property
    def gpus(self) -> float:
        return sum(node.gpus for node in self.nodes)

    def num_ranks(self, cpus: float, gpus: float) -> int:
        """How many ranks of this size fit at once; a rank lives on one node, and its share on one card."""
        return sum(min(int(node.cpus / cpus), _on_cards(node.gpus, gpus) if gpus else 10**6) for node in self.nodes)


def _on_cards(cards: float, share: float) -> int:
    return int(cards / share) if share >= 1 else int(cards) * int(1 / share + 1e-6)


class Placement:
    """Sizes the trials of a study for a cluster. Raises ``PlanError`` for a gang that it can never hold."""

    def __init__(self, resources: Resources, machines: Machines, study: StudyStore) -> None:
        self.resources, self.machines, self.study = resources, machines, study

    @property
    def packs(self) -> bool:
        """NCCL refuses two ranks of one gang on a card, and a card of unknown size is not shared."""
        return (self.resources.gpus_per_worker == "auto" and self.resources.num_workers == 1
                and self.machines.gpus > 0 and self.machines.card_mb is not None)

    def wave(self, left: Sequence[Trial], trials: Sequence[Trial]) -> list[tuple[Trial, int, float]]:
        """The next trials for Tune, with CPUs and share of a GPU per rank. ``trials`` is the whole plan."""
        shares: dict[str, float] = {}
        chosen = list(left[:WAVE_TRIALS])
        if self.packs and len(left) > self.machines.gpus:
            shares = self._shares(trials)
            first: dict[str, Trial] = {}
            for trial in left:
                first.setdefault(kind(trial), trial)
            unmeasured = [trial for name, trial in first.items() if name not in shares]
            if unmeasured:  # the other cards need not wait for the measurement
                others = [trial for trial in left if trial not in unmeasured]
                chosen = (unmeasured + others[:max(0, int(self.machines.gpus) - len(unmeasured))])[:WAVE_TRIALS]
                shares = {}
        whole = 1.0 if self.machines.gpus else 0.0
        wanted = self.resources.gpus_per_worker
        gpus = [shares.get(kind(trial), whole) if wanted == "auto" else float(wanted) for trial in chosen]
        return [(trial, self._cpus(len(chosen), share), share) for trial, share in zip(chosen, gpus, strict=True)]

    def each(self, num_trials: int) -> tuple[int, float]:
        """CPUs and share of a GPU per rank for up to ``num_trials`` trials whose memory nobody has measured."""
        wanted = self.resources.gpus_per_worker
        gpus = (1.0 if self.machines.gpus else 0.0) if wanted == "auto" else float(wanted)
        return self._cpus(num_trials, gpus), gpus

    def _shares(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Share of a card by kind of trial, from the largest peak of those that have finished on a GPU."""
        peaks: dict[str, float] = {}
        for trial in trials:
            status, result = self.study.read_outcome(trial.key)
            if status.state is TrialState.FAILED:  # a kind that never ends must not be measured for ever
                peaks.setdefault(kind(trial), float("inf"))
            if str(result.get("provenance", {}).get("device", "")).startswith("cuda"):
                peak = result["metrics"].get("memory/peak_mb", float("inf"))
                known = peaks.get(kind(trial), 0.0)
                peaks[kind(trial)] = max(peak, 0.0 if known == float("inf") else known)
        return {name: share(peak, self.machines.card_mb or 0.0) for name, peak in peaks.items()}

    def _cpus(self, num_trials: int, gpus: float) -> int:
        ranks, machines = self.resources.num_workers, self.machines
        if gpus and not machines.num_ranks(1e-3, gpus) >= ranks:
            raise PlanError(f"resources.gpus_per_worker: {gpus:g} x {ranks} rank(s) asked for, the cluster has "
                            f"{machines.gpus:g} GPU(s): set it to 0 to train on CPUs")
        wanted = self.resources.cpus_per_worker
        cpus = self._spare_cpus(num_trials * ranks, gpus) if wanted == "auto" else wanted
        if machines.num_ranks(cpus, gpus) < ranks:
            sizes = ", ".join(f"{node.cpus:g}" for node in machines.nodes)
            raise PlanError(f"resources.num_workers: {ranks} rank(s) x {cpus} CPU(s) asked for, the cluster's nodes "
                            f"have {sizes} CPUs: lower num_workers or cpus_per_worker")
        return cpus

    def _spare_cpus(self, num_ranks: int, gpus: float) -> int:
        """As many as each may have while no rank waits that could run with one."""
        at_once = max(1, min(num_ranks, self.machines.num_ranks(1, gpus)))
        cpus = max(1, int(self.machines.cpus / at_once))
        while cpus > 1 and self.machines.num_ranks(cpus, gpus) < at_once:
            cpus -= 1
        return cpus


def kind(trial: Trial) -> str:
    """Trials of one kind need the same memory: everything that training and evaluation are told, but not how long."""
    config = trial.config
    train = dataclasses.replace(config.train, epochs=1)
    return canonical([config.method, config.backbone, config.data.image_size, train, config.evaluation])


def share(peak_mb: float, card_mb: float) -> float:
    """1 / (how many such trials fit on a card), cut to Ray's four digits. 1 for what fills more than half of it."""
    fitting = int(card_mb * FILL / (peak_mb + CONTEXT_MB))
    return int(10_000 / max(1, min(fitting, MAX_PER_CARD))) / 10_000
