"""Scores of image files, however many: decoded, scored and forgotten batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pandas as pd

from ablation.defect_models import Scorer
from ablation.errors import DataError
from ablation.files import writing
from ablation.image_lists import Listed
from ablation.progress import progress
from trainers.atomic import replace_file
from trainers.machine import full_float32

if TYPE_CHECKING:
    from trainers.export import Encoder

BATCH = 64
AHEAD = 2
"""Batches that are decoded while one is scored: all that is ever in memory."""
WRITERS: dict[str, Callable[[pd.DataFrame, BinaryIO], object]] = {
    ".parquet": lambda frame, handle: frame.to_parquet(handle, index=False),
    ".csv": lambda frame, handle: frame.to_csv(handle, index=False),
    ".json": lambda frame, handle: handle.write(frame.to_json(orient="records", indent=1, force_ascii=False,
                                                              double_precision=15).encode())}


def probe_scores(model: Scorer, images: Sequence[Listed], say: Callable[[str], None]) -> pd.DataFrame:
    """Columns path, score (probability of a defect), defect (score >= threshold), threshold.

    What cannot be decoded is named to ``say`` and has no row. Raises ``DataError`` where nothing is left.
    """
    names: list[str] = []
    found = []
    with full_float32(), progress("scoring", len(images)) as advance:
        for batch, pixels in _batches(images, model.input_size, say, advance):
            found.append(model.scores(pixels))
            names += batch
    scores = np.concatenate(found).astype(np.float32)
    return pd.DataFrame({"path": names, "score": scores, "defect": scores >= np.float32(model.threshold),
                         "threshold": np.float32(model.threshold)})


def distance_scores(encoder: Encoder, side: int, images: Sequence[Listed], reference: Sequence[Listed],
                    say: Callable[[str], None]) -> pd.DataFrame:
    """Columns path, score: distance to the nearest reference images without any labels, higher = more unusual.

    Without ``reference`` every image is measured against the others; an image is never its own reference. Only
    features are kept. ``side``: of the decoded images. Raises as ``probe_scores``, and for one image alone.
    """
    from ablation.scoring import distances

    scored = {image.file.resolve() for image in images}
    others = [image for image in reference if image.file.resolve() not in scored]
    if reference and not others:
        raise DataError("--reference holds only the images that are to be scored")
    known = _features(encoder, side, others, say, "reference")[1] if others else None
    names, features = _features(encoder, side, images, say, "scoring")
    try:
        return pd.DataFrame({"path": names, "score": distances(features, known)})
    except ValueError as error:
        raise DataError(f"{error}; give mostly normal images with --reference") from error


def write_scores(frame: pd.DataFrame, out: Path) -> None:
    """As Parquet, CSV or JSON by the ending of ``out``, whole or not at all. Raises ``StoreError``."""
    with writing(out):
        replace_file(out, lambda handle: WRITERS[out.suffix](frame, handle))


def _features(encoder: Encoder, side: int, images: Sequence[Listed], say: Callable[[str], None],
              what: str) -> tuple[list[str], np.ndarray]:
    from ablation.scoring import encode

    names: list[str] = []
    found = []
    with full_float32(), progress(what, len(images)) as advance:
        for batch, pixels in _batches(images, side, say, advance):
            found.append(encode(encoder, pixels))
            names += batch
    return names, np.concatenate(found)


def _batches(images: Sequence[Listed], side: int, say: Callable[[str], None],
             advance: Callable[[int], None]) -> Iterator[tuple[list[str], np.ndarray]]:
    """(names, uint8 (B, 3, side, side)) of what can be decoded; the next batches are decoded meanwhile."""
    from trainers.data.cache import num_cores

    bad, first = 0, ""
    chunks = [images[start:start + BATCH] for start in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(num_cores()) as pool:
        waiting: deque[list[Future[tuple[np.ndarray | None, str]]]] = deque()
        for number, chunk in enumerate(chunks):
            while len(waiting) <= AHEAD and number + len(waiting) < len(chunks):
                waiting.append([pool.submit(_decode, image.file, side) for image in chunks[number + len(waiting)]])
            names, pixels = [], []
            for image, future in zip(chunk, waiting.popleft(), strict=True):
                decoded, problem = future.result()
                if decoded is None:
                    say(f"skipped: {image.name}: {problem}")
                    bad, first = bad + 1, first or f"{image.name}: {problem}"
                else:
                    names.append(image.name)
                    pixels.append(decoded)
            if pixels:
                yield names, np.stack(pixels)
            advance(len(chunk))
    if bad == len(images):
        raise DataError(f"{first}; none of {bad} image(s) can be decoded")
    if bad:
        say(f"warning: {bad} of {len(images)} images cannot be decoded and are left out")


def _decode(path: Path, side: int) -> tuple[np.ndarray | None, str]:
    from trainers.data.images import decode_image, resize_square
    from trainers.data.index import CorruptImage

    try:
        return resize_square(decode_image(path, str(path)), side).transpose(2, 0, 1), ""
    except CorruptImage as error:
        return None, error.why
