"""Test images a trial ranks highest, its false alarms and its misses, as small embedded pictures."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
import pandas as pd

from trainers import plugins
from trainers.config import DataConfig, TrainConfig

if TYPE_CHECKING:
    from trainers.data.index import AbstractDataset

Images = Callable[[list[str]], Sequence[np.ndarray]]
THUMBNAIL = 112
"""Longest side of an embedded picture, pixels."""
UNREADABLE = (OSError, ValueError, LookupError, ImportError, RuntimeError)
"""What unreadable data raises; ``DataError`` is a ``ValueError``."""
PROBE, DETECTOR = "score_probe", "score_detector_knn"


@dataclass(frozen=True)
class Picture:
    """One test image with what is true about it and what the trial says."""

    image_id: str
    defect: bool
    defect_type: str
    score: float
    uri: str = ""

    @property
    def truth(self) -> str:
        if not self.defect:
            return "normal"
        return f"defect: {self.defect_type}" if self.defect_type else "defect"


@dataclass(frozen=True)
class Strip:
    """A row of pictures, best match first."""

    title: str
    pictures: list[Picture]
    empty: str = "none"


@dataclass(frozen=True)
class Sheet:
    """All strips of one trial; ``problem`` says why there are no pictures, if so."""

    key: str
    heading: str
    strips: list[Strip]
    problem: str = ""


def pick(
    scores: pd.DataFrame, column: str, *, count: int, defect: bool | None = None, lowest: bool = False
) -> list[Picture]:
    """The ``count`` test images with the highest (or lowest) finite ``column``; ties go by image id.

    ``defect`` keeps only true defects (True) or true normals (False).
    """
    if column not in scores:
        return []
    rows = scores[
        (scores["split"] == "test") & np.isfinite(scores[column].to_numpy(float)) & scores["label"].isin([0, 1])
    ]
    if defect is not None:
        rows = rows[rows["label"] == int(defect)]
    rows = rows.sort_values([column, "image_id"], ascending=[lowest, True], kind="stable").head(count)
    return [
        Picture(str(r.image_id), bool(r.label), str(r.defect_type or ""), float(getattr(r, column)))
        for r in rows.itertuples()
    ]


def contact_sheet(scores: pd.DataFrame, images: Images, *, key: str, heading: str, count: int = 8) -> Sheet:
    """The sheet of one trial from its ``scores.parquet``; pictures come from ``images`` by id, each asked for once."""
    strips = [
        Strip("Highest by the probe", pick(scores, PROBE, count=count)),
        Strip("Highest by the label-free detector (kNN distance)", pick(scores, DETECTOR, count=count)),
        Strip("False alarms: normals the probe scores highest", pick(scores, PROBE, count=count, defect=False)),
        Strip("Misses: defects the probe scores lowest", pick(scores, PROBE, count=count, defect=True, lowest=True)),
    ]
    wanted = sorted({picture.image_id for strip in strips for picture in strip.pictures})
    if not wanted:
        return Sheet(key, heading, [], "The trial stored no test scores.")
    try:
        uris = dict(zip(wanted, map(thumbnail, images(wanted)), strict=True))
    except UNREADABLE as error:  # a report after days of training must not be lost to missing pictures
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return Sheet(
            key, heading, strips, f"The images could not be opened ({reason}); ids and scores are listed instead."
        )
    return Sheet(
        key,
        heading,
        [
            Strip(
                strip.title,
                [Picture(p.image_id, p.defect, p.defect_type, p.score, uris[p.image_id]) for p in strip.pictures],
            )
            for strip in strips
        ],
    )


def thumbnail(image: np.ndarray) -> str:
    """``(H, W, 3)`` uint8 as a JPEG data URI, longest side at most ``THUMBNAIL`` pixels."""
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


@final
class StudyData:
    """Pictures straight from the data sets that trials were trained on; a data set is opened once for all of them."""

    def __init__(self) -> None:
        self._opened: dict[str, AbstractDataset] = {}

    def images(self, trial_dir: Path) -> Images:
        """Raises, when called, whatever the data raises (``DataError``, ``OSError`` …) when it is gone."""

        def load(image_ids: list[str]) -> list[np.ndarray]:
            record = json.loads((trial_dir / "trial.json").read_text())
            dataset = self._dataset(TrainConfig.from_dict(record["config"]).data)
            ids = dataset.index.ids
            position = {str(ids[p]): int(p) for p in np.flatnonzero(np.isin(ids, image_ids))}
            missing = [name for name in image_ids if name not in position]
            if missing:
                raise LookupError(f"the data set no longer holds {missing[0]}")
            return [dataset.load(position[name]) for name in image_ids]

        return load

    def _dataset(self, config: DataConfig) -> AbstractDataset:
        from trainers.data import open_dataset

        name = repr(config)
        if name not in self._opened:
            with plugins.foreign():
                self._opened[name] = open_dataset(config)
        return self._opened[name]
