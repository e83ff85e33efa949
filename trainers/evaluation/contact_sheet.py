"""One picture per run: the test images with the highest scores, framed by what they really are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from trainers.atomic import replace_file
from trainers.data.loader import OpenData

COLUMNS, ROWS, SIDE, FRAME = 8, 4, 64, 4
DEFECT, NORMAL = (213, 94, 0), (0, 114, 178)  # vermilion, blue of the Okabe-Ito palette


def write_contact_sheet(path: Path, data: OpenData, positions: np.ndarray, scores: np.ndarray) -> None:
    """PNG of the images with the highest ``scores`` (N,), highest first; orange frame = defect, blue = normal.

    Pictures come from the decoded cache. Images without a score (NaN) are left out.
    """
    order = np.argsort(-scores[~np.isnan(scores)], kind="stable")[: COLUMNS * ROWS]
    chosen = positions[~np.isnan(scores)][order]
    cell = SIDE + 2 * FRAME
    sheet = Image.new("RGB", (COLUMNS * cell, max(1, -(-len(chosen) // COLUMNS)) * cell), "white")
    for place, position in enumerate(chosen):
        pixels = data.cache.gather(np.array([position]))[0].transpose(1, 2, 0)
        picture = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        color = DEFECT if data.dataset.index.labels[position] == 1 else NORMAL
        row, column = divmod(place, COLUMNS)
        sheet.paste(ImageOps.expand(picture, FRAME, color), (column * cell, row * cell))
    replace_file(path, partial(sheet.save, format="PNG"), sync=False)
