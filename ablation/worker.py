"""A trial on the cluster: a gang of processes, one per rank, kept warm from trial to trial.

Rank 0 is the Tune Trainable itself, the other ranks are actors in the trial's own placement group, so that Tune
reserves all of a trial's resources at once or none (docs/architecture.md, Execution). Only rank 0 writes.

A Python error ends the trial as FAILED and is not retried: it would come again. A lost process is raised to
Tune, which starts the trial anew; it continues from its checkpoint.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from ablation.errors import StoreError
from ablation.ledger import PRUNED, Ledger
from ablation.store import HEARTBEAT_SECONDS, StudyStore, TrialStatus
from trainers.config import ConfigError, TrainConfig
from trainers.data.index import DataError
from trainers.records import EpochReport, RunContext, TrainingError, TrainResult

RECYCLE_TRIALS = 50
"""A warm process is replaced after so many trials: a bound on whatever libraries leak."""


@dataclass(frozen=True)
class Job:
    """What Tune hands to a trial: plain data, equal on every rank."""

    key: str
    config: dict[str, Any]
    study_dir: str
    cache_dir: str
    num_workers: int
    cpus: int
    gpus: float

    def resources(self) -> tune.PlacementGroupFactory:
        bundle = {"CPU": float(self.cpus)} | ({"GPU": self.gpus} if self.gpus else {})
        return tune.PlacementGroupFactory([bundle] * self.num_workers, strategy="PACK")


class Rank:
    """One process of a gang. Holds the generator of its present trial, nothing of the one before."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.items: Iterator[EpochReport | TrainResult] | None = None

    def open(self, job: Job, rendezvous: str | None, log: Callable[[str], None] = lambda line: None) -> None:
        """Join the process group at ``rendezvous`` (``tcp://host:port``; None = alone) and get ready to train."""
        from trainers import distributed
        from trainers.train import train

        self.close()
        device = "cuda" if job.gpus else "cpu"
        if rendezvous is not None:
            distributed.init_process_group(self.number, job.num_workers, init_method=rendezvous, device=device)
        context = RunContext(
            trial_dir=StudyStore(job.study_dir).trial_dir(job.key), cache_dir=Path(job.cache_dir), rank=self.number,
            world_size=job.num_workers, device=device, threads=job.cpus, log=log)
        self.items = train(TrainConfig.from_dict(job.config), context)

    def advance(self) -> EpochReport | TrainResult | None:
        """Train one epoch; None at the end. An error closes this rank's connections, so that no peer waits for it."""
        assert self.items is not None
        try:
            return next(self.items, None)
        except BaseException:
            self.close()
            raise

    @ray.method(concurrency_group="pulse")  # type: ignore[untyped-decorator]
    def pulse(self) -> None:
        """Answers while the rank trains, unless its process hangs."""

    def drop(self) -> None:
        """End without saving: an epoch that could not be written down may not be in a checkpoint."""
        if self.items is not None:
            with contextlib.suppress(RuntimeError, StopIteration):
                self.items.throw(RuntimeError("dropped"))  # type: ignore[attr-defined]
        self.close()

    def close(self) -> None:
        """Leave nothing of the trial behind in this process."""
        if self.items is None:
            return
        import torch

        from trainers import distributed

        self.items.close()  # type: ignore[attr-defined]
        self.items = None
        distributed.shutdown()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class LostRank(RuntimeError):
    """A process of the gang is gone: a fault of the machine, which Tune retries."""


class Retired(RuntimeError):
    """Asks Tune for a new process; ``ablation.driver`` allows one such failure more than ``retries``."""


class Gang(tune.Trainable):  # type: ignore[misc]
    """Rank 0 of every trial and the owner of its other ranks. One ``step`` is one epoch."""

    def setup(self, config: dict[str, Any]) -> None:
        self.job = Job(**config["job"])
        self.rank = Rank(0)
        self.ledger: Ledger | None = None
        self.num_trials = 0
        self.broken = self.retired = self.joined = False
        group = ray.util.get_current_placement_group()
        self.others = [
            ray.remote(concurrency_groups={"pulse": 1})(Rank).options(
                num_cpus=self.job.cpus, num_gpus=self.job.gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number),
            ).remote(number) for number in range(1, self.job.num_workers)]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process. Never False: Tune would give the trial up."""
        self.job, self.ledger, self.joined = Job(**new_config["job"]), None, False
        self.retired = self.broken or self.num_trials >= RECYCLE_TRIALS
        return True

    def step(self) -> dict[str, Any]:
        """One epoch, or the final evaluation. Raises for a lost process, an unwritable store, and to be replaced."""
        if self.retired:
            raise Retired("this process has seen an error or enough trials; Tune starts the trial in a new one")
        try:
            if StudyStore(self.job.study_dir).stop_requested(self.job.key):
                return self._stop()
            return self._record(self._advance())
        except (LostRank, StoreError) as error:
            self.broken = True
            if isinstance(error, StoreError):
                self.rank.drop()
            if self.ledger is not None:
                self.ledger.abandon()
            raise
        except Exception as error:
            self.broken = True
            assert self.ledger is not None
            self.ledger.fail(*describe(error, self.job))
            return self._outcome()

    def _record(self, item: EpochReport | TrainResult | None) -> dict[str, Any]:
        assert self.ledger is not None
        if isinstance(item, EpochReport):
            self.ledger.report(item)
            return {"epoch": item.epoch, "loss": item.metrics.get("train/loss"), "done": False}
        assert isinstance(item, TrainResult)
        self.ledger.finish(item)
        self.rank.advance()  # past its last yield the trainer removes the checkpoints
        return self._outcome() | {"metrics": item.metrics}

    def cleanup(self) -> None:
        """Also called when the study is interrupted: what is unfinished is saved and marked STOPPED."""
        try:
            self.rank.close()
            if self.ledger is not None:
                self.ledger.stop()
        finally:
            for other in self.others:
                ray.kill(other)

    def _stop(self) -> dict[str, Any]:
        """A person has asked for it: save the epoch, and be ready for the next trial. Or its search: save nothing."""
        store = StudyStore(self.job.study_dir)
        pruned = store.stop_reason(self.job.key) == PRUNED["reason"]
        if self.ledger is None:  # asked before this process had begun
            self.ledger = Ledger(store, self.job.key, self.job.config["train"]["epochs"])
        pending = [other.close.remote() for other in self.others]
        if pruned:
            from trainers import checkpoint

            self.rank.drop()
            checkpoint.clear(store.trial_dir(self.job.key))
        self.rank.close()  # rank 0 saves; what becomes of the others changes nothing now
        _wait(pending)
        self.ledger.prune() if pruned else self.ledger.stop_as_asked()
        return self._outcome()

    def _advance(self) -> EpochReport | TrainResult | None:
        if self.ledger is None:
            self._open()
        pending = [other.advance.remote() for other in self.others]
        try:
            item = self.rank.advance()
        except TrainingError:  # every rank says the same, and this one also knows its checkpoint
            _wait(pending)
            raise
        except Exception:
            self._raise_what_happened_elsewhere(pending)
            raise
        try:
            self._raise_what_happened_elsewhere(pending)
        except LostRank:
            if isinstance(item, EpochReport) and self.ledger is not None:
                self.ledger.report(item)  # this rank's checkpoint will hold the epoch: it must not go unsaid
            raise
        return item

    def _open(self) -> None:
        self.num_trials += 1
        self.ledger = Ledger(StudyStore(self.job.study_dir), self.job.key, self.job.config["train"]["epochs"],
                             self._others_answer)
        rendezvous = free_address() if self.others else None
        pending = [other.open.remote(self.job, rendezvous) for other in self.others]
        try:
            self.rank.open(self.job, rendezvous, self.ledger.log)
        finally:
            self._raise_what_happened_elsewhere(pending)
        self.joined = True

    def _others_answer(self) -> bool:
        """Whether every other rank is alive; asked by the heartbeat, so that one that hangs silences the trial."""
        if not self.joined:  # they may still be importing
            return True
        try:
            ray.get([other.pulse.remote() for other in self.others], timeout=HEARTBEAT_SECONDS)
        except (RayError, TimeoutError):
            return False
        return True

    def _raise_what_happened_elsewhere(self, pending: list[Any]) -> None:
        """The first fault of another rank: it tells more than the broken connection that this rank saw."""
        for reference in pending:
            try:
                ray.get(reference)
            except RayActorError as error:
                raise LostRank(f"a rank of {self.job.key} died: {error}".splitlines()[0]) from None
            except RayTaskError as error:
                raise error.as_instanceof_cause() from None

    def _outcome(self) -> dict[str, Any]:
        assert self.ledger is not None
        status = self.ledger.status
        return {"done": True, "epoch": status.epoch, "state": str(status.state), "reason": status.reason,
                "message": status.message, "flags": list(status.flags)}


def _wait(pending: list[Any]) -> None:
    """Until each has ended, however it ended."""
    if pending:
        ray.wait(pending, num_returns=len(pending))


def end_process(pid: int) -> None:
    """SIGKILL for a worker process of this node; numbers are used again, so only if it still is one of Ray's."""
    with contextlib.suppress(OSError):
        if b"ray::" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def end_elsewhere(status: TrialStatus) -> None:
    """``end_process`` on the node of a trial."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerHostname"] == status.host]
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        ray.remote(end_process).options(num_cpus=0, scheduling_strategy=there).remote(status.pid)


def card_mb() -> float | None:
    """Memory of this node's smallest GPU in MiB, without a CUDA context; None where NVIDIA's library finds none."""
    import pynvml

    try:
        pynvml.nvmlInit()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        if any(_is_sliced(card) for card in cards):
            return None
        return min(float(pynvml.nvmlDeviceGetMemoryInfo(card).total) / 2**20 for card in cards)
    except (pynvml.NVMLError, ValueError):
        return None


def _is_sliced(card: Any) -> bool:
    """MIG: what Ray counts as a GPU is then a slice, of a size that the card does not tell."""
    import pynvml

    try:
        return bool(pynvml.nvmlDeviceGetMigMode(card)[0])
    except pynvml.NVMLError:
        return False


def smallest_card_mb(patience: float = 60.0) -> float | None:
    """``card_mb`` over all nodes with GPUs; None when one of them cannot tell within ``patience`` seconds."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("GPU")]
    asked = [ray.remote(card_mb).options(
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote() for node in nodes]
    try:
        sizes = ray.get(asked, timeout=patience)
    except (RayError, TimeoutError):
        return None
    return None if None in sizes else min(sizes)


def free_address() -> str:
    """An address of this node with a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return f"tcp://{ray.util.get_node_ip_address()}:{probe.getsockname()[1]}"


def describe(error: Exception, job: Job) -> tuple[str, str, str]:
    """(reason word, one line with the fix, traceback) of what ended a trial."""
    details = "".join(traceback.format_exception(error))
    if isinstance(error, TrainingError):
        return error.reason, error.message, details
    if isinstance(error, (ConfigError, DataError)):
        return "data" if isinstance(error, DataError) else "config", str(error), details
    text = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        size = job.config["train"]["batch_size"]
        return "out_of_memory", f"out of memory at batch_size {size}: lower train.batch_size ({text})", details
    if "No space left on device" in text:
        return "disk_full", f"no space left in {job.study_dir} or {job.cache_dir}: free some, then run again", details
    return "error", f"{type(error).__name__}: {text}", details
