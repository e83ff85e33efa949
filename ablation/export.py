"""A finished trial as files that are used without this project: model, preprocessing, threshold, model card."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ablation.defect_models import DECISION, FILES, describe, trial_model
from ablation.errors import DataError, StoreError
from ablation.model_card import model_card

if TYPE_CHECKING:
    from ablation.results import StudyResults

DESCRIPTION, CARD = "model.json", "README.md"


def export_model(results: StudyResults, key: str, out: Path, format: str = "timm", threshold: str = DECISION) -> Path:
    """Write the model of a trial, ``model.json`` and the card ``README.md`` into the folder ``out``; other formats of
    the same trial in it stay. Returns ``out``.

    Raises ``NothingMatched`` for a trial without an encoder, or, except for ``timm``, without a probe; ``DataError``
    for ``timm`` where the backbone comes from outside; ``StoreError`` where ``out`` cannot be written or holds files of
    these names that are not of this trial.
    """
    from ablation.model_formats import write_onnx, write_timm, write_torchscript
    from trainers.export import OWN

    _refuse_to_overwrite(out, key, [DESCRIPTION, CARD, *FILES.values()])
    card = describe(results, key, threshold)
    if format == "timm" and card["network"]["features"] == OWN:
        raise DataError(f"{key}: its backbone '{card['backbone']}' is not one of timm; export its graph with --format "
                        "torchscript or onnx")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".tmp-") as beside:
            folder = Path(beside)
            if format == "timm":
                write_timm(results, key, card, folder)
            else:
                write = write_onnx if format == "onnx" else write_torchscript
                write(trial_model(results, key, threshold), folder / FILES[format])
            present = [name for name, file in FILES.items() if name == format or (out / file).exists()]
            (folder / DESCRIPTION).write_text(json.dumps(card, indent=1) + "\n")
            (folder / CARD).write_text(model_card(card, present))
            _move(folder, out)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror})") from error
    return out


def _refuse_to_overwrite(out: Path, key: str, names: list[str]) -> None:
    present = [name for name in names if (out / name).exists()]
    try:
        same = json.loads((out / DESCRIPTION).read_text())["key"] == key
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if present and not same:
        raise StoreError(f"{out / present[0]}: exists already and is not of this trial; give another folder with --out")


def _move(folder: Path, out: Path) -> None:
    """Whole files, the card last: where there is a card, all that it speaks of is there."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == CARD):
        if path.is_dir():
            shutil.copytree(path, out / path.name, dirs_exist_ok=True)
        else:
            os.replace(path, out / path.name)
