"""What a finished trial is good for: its encoder as a timm checkpoint with a model card, and scores of image files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.errors import DataError, StoreError
from ablation.trial import shown
from trainers.names import file_reference, short_name

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from ablation.results import StudyResults

CARD_METRICS = ("probe/auroc", "probe/ap", "probe_fixed/auroc", "knn/auroc", "detector/knn_auroc", "random_init/auroc")
CARD = """\
# {key}

{backbone} pre-trained by {method}; trial of study `{study}`.

| | |
| --- | --- |
| input | {image_size} x {image_size} RGB, whole image resized with antialias, {normalisation} |
| output | {feature_dim} features: {pooling} |
| pre-trained on | {num_train} images, defects {imbalance}; data digest `{digest}` |
| code | `{code}`, torch {torch}, timm {timm} |

| metric (validation of thresholds and test as in the study) | value |
| --- | --- |
{scores}

```python
import timm
from safetensors.torch import load_file
{build}
model.load_state_dict(load_file("model.safetensors"), strict=True)
```

The licence of the images that it was trained on applies; this file does not know it.
"""


def export_encoder(results: StudyResults, key: str, out: Path) -> Path:
    """Write ``model.safetensors`` (timm's own names), ``model.json`` and a model card ``README.md`` into ``out``.

    Raises ``NothingMatched`` for a trial without an encoder, ``StoreError`` where ``out`` cannot be written or holds
    other files of these names.
    """
    _refuse_to_overwrite(out, key)
    encoder = results.encoder(key)
    result = results.store.read_result(key) or {}
    config, facts = shown(results.store.read_trial(key).get("config", {})), result.get("provenance", {})
    backbone = encoder.backbone
    normalize = vars(encoder.normalize)
    card = {"study": results.name, "key": key, "backbone": short_name(backbone.name), "image_size": backbone.image_size,
            "feature_dim": encoder.feature_dim, "normalize": normalize, "metrics": result.get("metrics", {}),
            "provenance": facts, "config": config}
    try:
        out.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results.store.trial_dir(key) / "encoder.safetensors", out / "model.safetensors")
        (out / "model.json").write_text(json.dumps(card, indent=1) + "\n")
        (out / "README.md").write_text(_card(card, backbone.kind, _keep_code(backbone.name, out)))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror})") from error
    return out


def _refuse_to_overwrite(out: Path, key: str) -> None:
    names = [name for name in ("model.safetensors", "model.json", "README.md") if (out / name).exists()]
    try:
        same = json.loads((out / "model.json").read_text())["key"] == key
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if names and not same:
        raise StoreError(f"{out / names[0]}: exists already and is not of this trial; give another folder with --out")


def _keep_code(reference: str, out: Path) -> str:
    """What builds a backbone from outside, its file now in ``out``; empty for one of timm."""
    from trainers.plugins import is_plugin

    file = file_reference(reference)
    if file is None:
        return reference if is_plugin("backbones", reference) else ""
    (out / "code").mkdir(exist_ok=True)
    shutil.copyfile(file[0], out / "code" / f"backbones-{short_name(reference)}.py")
    return f"code/backbones-{short_name(reference)}.py:{file[1]}"


def _card(card: dict[str, Any], kind: str, own: str) -> str:
    from trainers.backbones import SMALL_IMAGE, timm_name

    size, config, facts = card["image_size"], card["config"], card["provenance"]
    constants = card["normalize"]["mean"]
    if own:
        build = f'from trainers.backbones import build_backbone\nmodel = build_backbone("{own}", {size}).net'
    elif size >= SMALL_IMAGE and kind != "vit":
        build = f'model = timm.create_model("{timm_name(card["backbone"])}", num_classes=0)'
    else:  # another stem or patch than timm's own
        build = ("from trainers.backbones import timm_model  # small images have another stem or patch\n"
                 f'model = timm_model("{card["backbone"]}", {size})')
    scores = "\n".join(f"| {name} | {card['metrics'][name]:.4f} |" for name in CARD_METRICS if name in card["metrics"])
    return CARD.format(
        key=card["key"], backbone=card["backbone"], method=config.get("method", "?"), study=card["study"],
        image_size=size, feature_dim=card["feature_dim"], num_train=facts.get("num_train", "?"),
        imbalance=config.get("imbalance", "?"), digest=facts.get("data_digest", "?"), code=facts.get("code", "?"),
        torch=facts.get("torch", "?"), timm=facts.get("timm", "?"), scores=scores, build=build,
        normalisation=f"mean {constants}, deviation {card['normalize']['std']}" if constants else
        "each image by its own mean and deviation",
        pooling="mean of the normalised patch tokens" if kind == "vit" else "global average pool")


def image_paths(places: Sequence[Path]) -> list[Path]:
    """Files as given, folders searched for images, sorted. Raises ``DataError`` for what is not there."""
    from trainers.data.images import EXTENSIONS

    found: list[Path] = []
    for place in places:
        if place.is_dir():
            found += sorted(path for path in place.rglob("*") if path.suffix.lower() in EXTENSIONS)
        elif place.is_file():
            found.append(place)
        else:
            raise DataError(f"{place}: no such file or folder")
    if not found:
        raise DataError(f"{', '.join(map(str, places))}: no images ({', '.join(sorted(EXTENSIONS))})")
    return found


def score_files(results: StudyResults, key: str, places: Sequence[Path], reference: Sequence[Path],
                say: Callable[[str], None]) -> pd.DataFrame:
    """Columns path, score, problem: distance to the nearest reference images, higher = more unusual.

    Without ``reference`` every image is measured against the others; an image is never its own reference. A file that
    cannot be decoded has no score and is named to ``say``. Pixels go the way they went in the study: to the side of
    its cache first.
    """
    import numpy as np
    import pandas as pd

    from ablation.scoring import score

    encoder, paths = results.encoder(key), image_paths(places)
    data = results.store.read_trial(key).get("config", {}).get("data", {})
    side = data.get("cache_size") or encoder.backbone.image_size * 256 // 224
    images, problems = _decode(paths, side, say)
    good = [number for number, problem in enumerate(problems) if not problem]
    if not good:
        raise DataError(f"{paths[0]}: {problems[0]}; none of {len(paths)} image(s) can be decoded")
    known = None
    if reference:
        scored = {path.resolve() for path in paths}
        others = [path for path in image_paths(reference) if path.resolve() not in scored]
        if not others:
            raise DataError("--reference holds only the images that are to be scored")
        decoded, faults = _decode(others, side, say)
        known = decoded[[not fault for fault in faults]]
        if not len(known):
            raise DataError(f"{others[0]}: {faults[0]}; no reference image can be decoded")
    try:
        values = score(encoder, images[good], known)
    except ValueError as error:
        raise DataError(f"{error}; give mostly normal images with --reference") from error
    scores = np.full(len(paths), np.nan)
    scores[good] = values
    return pd.DataFrame({"path": list(map(str, paths)), "score": scores, "problem": problems})


def write_scores(frame: pd.DataFrame, out: Path) -> None:
    """As Parquet or CSV, by the ending of ``out``. Raises ``StoreError``."""
    try:
        if out.suffix == ".parquet":
            frame.to_parquet(out, index=False)
        else:
            frame.to_csv(out, index=False)
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror or error})") from error


def _decode(paths: Sequence[Path], side: int, say: Callable[[str], None]) -> tuple[np.ndarray, list[str]]:
    """(N, 3, side, side) uint8 and what is wrong with each, "" for nothing."""
    import numpy as np

    images, problems = zip(*_decoded(paths, side), strict=True)
    for path, problem in zip(paths, problems, strict=True):
        if problem:
            say(f"skipped: {path}: {problem}")
    return np.stack(images), list(problems)


def _decoded(paths: Sequence[Path], side: int) -> Iterator[tuple[np.ndarray, str]]:
    import numpy as np

    from trainers.data.images import decode_image, resize_square
    from trainers.data.index import CorruptImage

    for path in paths:
        try:
            yield resize_square(decode_image(path, str(path)), side).transpose(2, 0, 1), ""
        except CorruptImage as error:
            yield np.zeros((3, side, side), np.uint8), error.why
