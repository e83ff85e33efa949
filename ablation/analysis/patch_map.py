"""Where a trial sees something unusual in test images: maps of patch distances over their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ablation.analysis.contact_sheet import PROBE, THUMBNAIL, UNREADABLE, Images, Picture, thumbnail
from ablation.errors import AblationError

if TYPE_CHECKING:
    from ablation.results import StudyResults

REFERENCE_IMAGES = 200
COLORMAP = "inferno"
"""Rises evenly in lightness: readable in grey and by the colour-blind."""
OPACITY = 0.75
"""Of the largest distance of the strip; the lowest is see-through."""


@dataclass(frozen=True)
class PatchMap:
    """One test image and the map over it."""

    picture: Picture
    """With its plain thumbnail and the probe's score (NaN if it has none)."""
    overlay: str
    """JPEG data URI: the picture in grey under the map."""
    peak: float
    """Largest patch distance, >= 0, in units of the reference's spread."""


@dataclass(frozen=True)
class PatchMaps:
    """The maps of one trial on one scale; ``problem`` says in one line why there are none."""

    key: str
    maps: list[PatchMap] = field(default_factory=list)
    low: float = 0.0
    """Distance that is drawn see-through, in all pictures."""
    high: float = 0.0
    """Distance that is drawn in the last colour."""
    num_reference: int = 0
    num_reference_defects: int = 0
    problem: str = ""


def patch_maps(results: StudyResults, key: str, image_ids: Sequence[str], images: Images, *,
               reference: int = REFERENCE_IMAGES) -> PatchMaps:
    """Maps of the test images ``image_ids`` of a finished trial, in that order.

    Distances go to patches of up to ``reference`` images of the trial's own pre-training subset, defects included at
    its prevalence and chosen by a hash of their ids. ``images`` gives pixels by id (``StudyData().images(folder)``).
    Missing files and unreadable images end in ``problem``, never in an exception.
    """
    try:
        if not image_ids:
            raise LookupError("there are no images to show")
        known = results.scores(key)
        encoder = results.encoder(key)
        manifest = _reference(pd.read_parquet(results.store.trial_dir(key) / "manifest.parquet"), reference)
        data = results.store.read_trial(key).get("config", {}).get("data", {})
        side = data.get("cache_size") or encoder.backbone.image_size * 256 // 224
        pixels = images([*image_ids, *manifest["image_id"]])
        shown = list(pixels[:len(image_ids)])
        distances = _distances(encoder, shown, pixels[len(image_ids):], side)
        test = known[known["split"] == "test"].set_index("image_id").to_dict("index")
        pictures = [_picture(test[name], name, image) for name, image in zip(image_ids, shown, strict=True)]
    except (*UNREADABLE, AblationError) as error:  # a report after days of training must not be lost to a map
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return PatchMaps(key, problem=f"No maps: {reason}")
    low, high = float(np.median(distances)), float(distances.max())
    maps = [PatchMap(picture, overlay(image, found, low, high), float(found.max()))
            for picture, image, found in zip(pictures, shown, distances, strict=True)]
    return PatchMaps(key, maps, low, high, len(manifest), int((manifest["label"] == 1).sum()))


def overlay(image: np.ndarray, distances: np.ndarray, low: float, high: float) -> str:
    """The map (h, w) over its picture (H, W, 3) uint8 in grey, as a JPEG data URI of at most ``THUMBNAIL`` pixels.

    Distances from ``low`` (see-through) to ``high`` (last colour, ``OPACITY``), what lies outside is clipped; between
    patch centres bilinear. Grey, so that every colour belongs to the map.
    """
    import matplotlib
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8)).convert("L")
    scale = THUMBNAIL / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    grey = np.repeat(np.asarray(picture.resize(size, Image.Resampling.BICUBIC), np.float32)[..., None], 3, axis=2)
    smooth = Image.fromarray(distances.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    strength = ((np.asarray(smooth) - low) / max(high - low, 1e-12)).clip(0, 1)
    colors = 255 * matplotlib.colormaps[COLORMAP](strength)[..., :3]
    alpha = OPACITY * strength[..., None]
    buffer = io.BytesIO()
    mixed = ((1 - alpha) * grey + alpha * colors).round().astype(np.uint8)
    Image.fromarray(mixed).save(buffer, "JPEG", quality=82, optimize=True, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def scale_colors(count: int = 9) -> list[str]:
    """``count`` hex colours from ``low`` to ``high``, for a legend beside the pictures."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(color) for color in matplotlib.colormaps[COLORMAP](np.linspace(0, 1, count))]


def _reference(manifest: pd.DataFrame, count: int) -> pd.DataFrame:
    from trainers.seeding import hash_ids

    if manifest.empty:
        raise LookupError("the trial's manifest names no images")
    order = np.argsort(hash_ids(manifest["image_id"].tolist(), "patch_reference"), kind="stable")
    return manifest.iloc[order[:count]]


def _distances(encoder: object, shown: Sequence[np.ndarray], reference: Sequence[np.ndarray],
               side: int) -> np.ndarray:
    """(N, h, w); pixels go the way they went in the study: to the side of its cache first."""
    from trainers.data.images import resize_square
    from trainers.evaluation.patches import patch_distances
    from trainers.export import Encoder

    assert isinstance(encoder, Encoder)
    squares = (np.stack([resize_square(image, side).transpose(2, 0, 1) for image in part])
               for part in (reference, shown))
    return patch_distances(encoder, *squares)


def _picture(row: dict[Any, Any], image_id: str, image: np.ndarray) -> Picture:
    kind = row["defect_type"]
    score = float(row[PROBE]) if PROBE in row else float("nan")
    return Picture(image_id, row["label"] == 1, "" if pd.isna(kind) else str(kind), score, thumbnail(image))
