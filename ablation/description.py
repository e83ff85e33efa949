"""What ``ablation data describe`` says of a data set, as frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from trainers.data.index import AbstractDataset, Index
from trainers.data.survey import LABELS, Problem, Survey

MEANING = {
    "leak": "same pixels in two splits",
    "contradiction": "same pixels, other label",
    "duplicate": "same pixels in one split",
    "flat": "hardly any grey levels",
    "corrupt": "cannot be decoded; a study leaves them out, more than 1 % stop it",
}
NAMED = 3


def count_rows(index: Index) -> pd.DataFrame:
    """Columns split, label, type, images, groups."""
    label = pd.Series(index.labels).map(LABELS)
    frame = pd.DataFrame({"split": index.splits, "label": label, "type": index.defect_types, "group": index.groups})
    counts = frame.groupby(["split", "label", "type"]).agg(images=("group", "size"), groups=("group", "nunique"))
    return counts.reset_index()


def check_rows(dataset: AbstractDataset, found: Survey, wrong: Sequence[Problem], image_size: int) -> pd.DataFrame:
    """Columns check, result (ok or warn), images, detail. A row per kind of problem, and one on the sizes."""
    looked, total = len(found.positions), len(dataset.index)
    rows = [("looked at", "ok" if looked == total else "warn", looked,
             "all" if looked == total else f"a sample of {total}: copies of the others stay unseen; --images 0 = all")]
    rows.append(("sizes", *_sizes(found.sizes[found.contents >= 0], image_size)))
    counts = Counter(item.problem for item in wrong)
    for kind, meaning in MEANING.items():
        names = [item.image for item in wrong if item.problem == kind]
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        rows.append((kind, "warn" if names else "ok", counts[kind],
                     meaning + (f": {', '.join(names[:NAMED])}{more}" if names else "")))
    rows += [("left out", "warn", count, what) for what, count in dataset.left_out.items()]
    return pd.DataFrame(rows, columns=["check", "result", "images", "detail"])


def _sizes(sizes: np.ndarray, image_size: int) -> tuple[str, int, str]:
    """(result, number of different sizes, detail)."""
    if not len(sizes):
        return "warn", 0, "no picture can be decoded"
    small = int((sizes.min(axis=1) < image_size).sum())
    order = sizes[np.argsort(sizes.prod(axis=1), kind="stable")]
    least, median, most = (f"{width}x{height}" for width, height in order[[0, len(order) // 2, -1]].tolist())
    detail = f"{least} to {most} pixels, median {median}" if least != most else f"{least} pixels"
    if small:
        detail += f"; {small} have a side under data.image_size {image_size} and are enlarged"
    return "warn" if small else "ok", len(np.unique(sizes, axis=0)), detail
