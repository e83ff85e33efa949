"""scikit-learn's bundled digits: 1,797 real images without a download, one digit as the anomaly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from trainers.config import ConfigError
from trainers.data.index import AbstractDataset, Index
from trainers.seeding import hash_ids

TRAIN_SHARE = 0.7


@final
class Digits(AbstractDataset):
    """8x8 grey digits (the cache enlarges them); 70 % train, 30 % val by hash of the id."""

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Which digit is the anomaly."""

        anomaly: int = 0
        """0 to 9."""

    summary: ClassVar[str] = "scikit-learn's 8x8 digits, one digit as the anomaly (real, tiny, no download)"
    needs_root: ClassVar[bool] = False
    mean = (0.305, 0.305, 0.305)
    std = (0.376, 0.376, 0.376)

    def __init__(self, root: str | None, options: Options) -> None:
        if not 0 <= options.anomaly <= 9:
            raise ConfigError("data.options.anomaly", f"must be a digit from 0 to 9, got {options.anomaly}")
        from sklearn.datasets import load_digits  # slow to import, needed by this reader only

        images, digits = load_digits(return_X_y=True)
        self._pixels = np.round(images.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        ids = np.array([f"digit-{number:04d}" for number in range(len(digits))])
        train = hash_ids(ids, "split") < np.uint64(TRAIN_SHARE * 2.0**64)
        labels = (digits == options.anomaly).astype(np.int8)
        self.index = Index(ids=ids, labels=labels, splits=np.where(train, "train", "val"), groups=ids,
                           defect_types=np.where(labels == 1, f"digit-{options.anomaly}", ""))

    def load(self, position: int) -> np.ndarray:
        return np.repeat(self._pixels[position][..., None], 3, axis=-1)
