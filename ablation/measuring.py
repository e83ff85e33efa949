"""Runs ``trainers.calibration`` in as many processes as trials will run side by side, and times single pictures."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablation.calibration import Seat
    from ablation.plan import Plan
    from ablation.trial import Trial

SECONDS = 2.0
"""Of steps for each kind of trial, and about as many of evaluation."""
SAMPLE_PICTURES, SAMPLE_SECONDS = 24, 2.0


@dataclass(frozen=True)
class Order:
    """One kind of trial to measure, and how to call it."""

    trial: Trial
    text: str


class _Gang:
    """The processes that measure together, one per rank; started anew after an error."""

    def __init__(self, number: int, seat: Seat) -> None:
        self.number, self.seat = number, seat
        self.start()

    def start(self) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
        ranks = self.seat.num_workers
        rendezvous = f"tcp://127.0.0.1:{_free_port()}" if ranks > 1 else None
        self.begun = time.perf_counter()
        self.ranks = [self._start(self.number * ranks + rank) for rank in range(ranks)]
        for rank, process in enumerate(self.ranks):
            self._send(process, {"rank": rank, "world_size": ranks, "rendezvous": rendezvous, "device": self.device})

    @property
    def device(self) -> str:
        return "cuda" if self.seat.gpus else "cpu"

    def _start(self, place: int) -> subprocess.Popen[str]:
        # As the driver starts its workers: thread count, and a heap in huge pages.
        environment = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | os.environ | {
            "OMP_NUM_THREADS": str(self.seat.cpus),
            "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
        if self.seat.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = _card(int(place * self.seat.gpus))
        return subprocess.Popen([sys.executable, "-m", "trainers.calibration"], env=environment, text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def _send(self, process: subprocess.Popen[str], message: dict[str, Any]) -> None:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died: the missing answer says so
            process.stdin.write(json.dumps(message) + "\n")
            process.stdin.flush()

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        for process in self.ranks:
            self._send(process, message)
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """What rank 0 says, or what was wrong with any of them."""
        answers = [self._answer(process) for process in self.ranks]
        return next((answer for answer in answers if "error" in answer), answers[0])

    def _answer(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line:
            return dict(json.loads(line))
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines()
        return {"error": said[-1] if said else f"its process died with code {process.wait()} (out of memory?)"}

    def end(self) -> None:
        for process in self.ranks:
            process.kill()
            process.communicate()
        self.errors.close()


def measure_orders(orders: list[Order], seat: Seat, at_once: int) -> Iterator[tuple[Order, dict[str, Any]]]:
    """Each order with the measurement or ``{"error": …}``, in the order in which they end. Adds ``start``: the seconds
    that such a process needs to import everything."""
    waiting: queue.Queue[Order] = queue.Queue()
    for order in orders:
        waiting.put(order)
    answers: queue.Queue[tuple[Order, dict[str, Any]]] = queue.Queue()
    gangs = [_Gang(number, seat) for number in range(at_once)]
    threads = [threading.Thread(target=_work, args=(gang, waiting, answers), daemon=True) for gang in gangs]
    try:
        for thread in threads:
            thread.start()
        for _ in orders:
            yield answers.get()
    finally:
        for gang in gangs:
            gang.end()


def _work(gang: _Gang, waiting: queue.Queue[Order], answers: queue.Queue[tuple[Order, dict[str, Any]]]) -> None:
    start = 0.0
    ready: dict[str, Any] = {}
    while True:
        try:
            order = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            if not ready:
                ready = gang.answer()
                start = time.perf_counter() - gang.begun
            message = {"config": order.trial.config.to_dict(), "device": gang.device, "threads": gang.seat.cpus,
                       "seconds": SECONDS}
            answer = ready if "error" in ready else gang.ask(message)
            if "error" in answer and not waiting.empty():
                gang.end()
                gang.start()
                ready = {}
        except Exception as error:  # whatever it is, the other side waits for an answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.put((order, answer | {"start": start}))


def picture_seconds(plan: Plan) -> float:
    """Per picture of the plan's data set: draw or read, decode, shrink. One that cannot be read counts as well."""
    from trainers.data.images import resize_square
    from trainers.data.index import DataError

    positions = plan.needed[:: max(1, len(plan.needed) // SAMPLE_PICTURES)][:SAMPLE_PICTURES]
    size = plan.trials[0].config.data.resolved_cache_size
    begun, done = time.perf_counter(), 0
    for position in positions.tolist():
        with contextlib.suppress(DataError):
            resize_square(plan.dataset.sample(position), size)
        done += 1
        if time.perf_counter() - begun > SAMPLE_SECONDS:
            break
    return (time.perf_counter() - begun) / max(1, done)


def _card(number: int) -> str:
    shown = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word]
    return shown[number % len(shown)] if shown else str(number)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
