"""One batch is read ahead, never more; errors and early ends leave no thread behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from trainers.data.prefetch import Uploader

CPU = torch.device("cpu")


def batches(count: int) -> list[np.ndarray]:
    return [np.array([number, number + 100]) for number in range(count)]


def readers() -> int:
    return sum(thread.name.startswith("gather") for thread in threading.enumerate())


def test_batches_come_in_order_and_one_is_read_ahead() -> None:
    read: list[int] = []

    def load(positions: np.ndarray) -> list[torch.Tensor]:
        read.append(int(positions[0]))
        return [torch.from_numpy(positions)]

    for number, [tensor] in enumerate(Uploader(CPU).ahead(load, batches(5))):
        assert tensor.tolist() == [number, number + 100]
        deadline = time.monotonic() + 5
        while len(read) < min(number + 2, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert read == list(range(min(number + 2, 5)))
    assert readers() == 0
    assert list(Uploader(CPU).ahead(load, [])) == []


def test_an_error_surfaces_at_its_own_batch() -> None:
    def load(positions: np.ndarray) -> list[torch.Tensor]:
        if positions[0] == 2:
            raise OSError("the disk is gone")
        return [torch.from_numpy(positions)]

    stream = Uploader(CPU).ahead(load, batches(4))
    assert [next(stream)[0].tolist() for _ in range(2)] == [[0, 100], [1, 101]]
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    assert readers() == 0


def test_a_loop_that_ends_early_leaves_no_thread() -> None:
    stream = Uploader(CPU).ahead(lambda positions: [torch.from_numpy(positions)], batches(4))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert readers() == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_what_arrives_on_a_gpu_is_what_was_read() -> None:
    pixels = torch.randint(0, 256, (8, 64, 3, 64, 64), dtype=torch.uint8)
    stream = Uploader(torch.device("cuda")).ahead(lambda positions: [pixels[positions[0]]], batches(8))
    for number, [images] in enumerate(stream):
        assert images.is_cuda
        assert torch.equal(images.cpu(), pixels[number])
