"""Batches on the training device, read and copied one ahead of the step that uses them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
import torch
from torch import Tensor

from trainers.data.loader import OpenData
from trainers.seeding import image_keys


@dataclass(frozen=True)
class Loaded:
    """This rank's share of a batch, on the device, not augmented yet."""

    images: Tensor
    """(B, 3, S, S) uint8."""
    labels: Tensor
    """(B,) int64."""
    view_keys: Tensor
    """(B,) int64: what the views of an image are drawn from in this epoch."""
    mask_keys: Tensor
    """(B,) int64: the same for masks."""


@lru_cache
def _copies(device: torch.device) -> torch.cuda.Stream:
    """One stream per device and process: the allocator keeps the blocks of each stream apart."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


@final
class Uploader:
    """Host tensors to a device; on CUDA from pinned memory and on a stream of their own, behind the compute."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = _copies(device) if device.type == "cuda" else None

    def ahead(self, load: Callable[[np.ndarray], Sequence[Tensor]],
              batches: Sequence[np.ndarray]) -> Iterator[list[Tensor]]:
        """``load`` of each batch of positions, in order, on the device. The next one is read and copied while the
        caller works on the present."""
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="gather") as reader:
            coming = [reader.submit(self._send, load, batch) for batch in batches[:1]]
            for batch in batches[1:]:
                coming.append(reader.submit(self._send, load, batch))
                yield self._receive(*coming.pop(0).result())
            for last in coming:
                yield self._receive(*last.result())

    def _send(self, load: Callable[[np.ndarray], Sequence[Tensor]],
              batch: np.ndarray) -> tuple[list[Tensor], torch.cuda.Event | None]:
        host = load(batch)
        if self._stream is None:
            return [tensor.to(self.device) for tensor in host], None
        with torch.cuda.stream(self._stream):
            sent = [tensor.pin_memory().to(self.device, non_blocking=True) for tensor in host]
            return sent, self._stream.record_event()

    def _receive(self, tensors: list[Tensor], copied: torch.cuda.Event | None) -> list[Tensor]:
        if copied is not None:
            compute = torch.cuda.current_stream(self.device)
            compute.wait_event(copied)
            for tensor in tensors:
                tensor.record_stream(compute)
        return tensors


@final
class Prefetcher:
    """One batch after the other, and how long the loop stood still for them."""

    def __init__(self, data: OpenData, seed: int, device: torch.device) -> None:
        self._data, self._seed = data, seed
        self._uploader = Uploader(device)
        self._waited = 0.0

    def take_waited(self) -> float:
        """Seconds waited since the last call."""
        waited, self._waited = self._waited, 0.0
        return waited

    def stream(self, batches: list[np.ndarray], epoch: int) -> Iterator[Loaded]:
        """The batches of positions of an epoch, in order."""
        coming = self._uploader.ahead(lambda positions: self._load(positions, epoch), batches)
        for _ in batches:
            begun = time.perf_counter()
            images, labels, view_keys, mask_keys = next(coming)
            self._waited += time.perf_counter() - begun
            yield Loaded(images, labels, view_keys, mask_keys)

    def _load(self, positions: np.ndarray, epoch: int) -> list[Tensor]:
        labels = self._data.dataset.index.labels[positions].astype(np.int64)
        keys = [image_keys(self._data.hashes[positions], self._seed, purpose, epoch).view(np.int64)
                for purpose in ("views", "masks")]
        return [torch.from_numpy(array) for array in (self._data.cache.gather(positions), labels, *keys)]
