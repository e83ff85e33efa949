"""What scores images: a trial of a store, or what ``ablation export`` wrote, opened alike."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ablation.errors import DataError, NothingMatched
from ablation.files import read_json
from ablation.trial import shown
from trainers.config import suggest
from trainers.names import short_name

if TYPE_CHECKING:
    import numpy as np

    from ablation.results import StudyResults
    from trainers.export import Encoder
    from trainers.inference.model import DefectModel

FILES = {"timm": "model.safetensors", "torchscript": "model.pt", "onnx": "model.onnx"}
"""Format -> its file in the folder of an export."""
DECISION = "deployment"
"""The threshold that an exported model decides by unless another is asked for."""
RESIZE = "whole image squashed to a square, Pillow BICUBIC with reducing_gap=3.0"


class Scorer(Protocol):
    """Probability of a defect for images, by whatever runs the network."""

    input_size: int
    """Side of the uint8 images at which scores equal those of the study, pixels."""
    threshold: float
    """An image with this score or a higher one is called a defect."""

    def scores(self, images: np.ndarray) -> np.ndarray:
        """(N,) float32 in 0..1 of uint8 images (N, 3, H, W)."""


def describe(results: StudyResults, key: str, threshold: str = DECISION) -> dict[str, Any]:
    """The content of ``model.json``: all there is to say about the model of a finished trial.

    ``threshold``: one that the trial chose on validation (``deployment``, ``f1``, ``f2``), or a number. Raises
    ``NothingMatched`` for a trial without an encoder, ``DataError`` for a threshold that it does not have. Without a
    stored probe ``decision`` is None.
    """
    from trainers.export import describe_network, load_probe

    encoder = results.encoder(key)
    backbone = encoder.backbone
    trial, result = results.store.read_trial(key), results.store.read_result(key) or {}
    config = shown(trial.get("config", {}))
    probe = results.store.trial_dir(key) / "probe.safetensors"
    facts = load_probe(probe)[1] if probe.is_file() else {}
    return {
        "format_version": 1, "study": results.name, "key": key, "backbone": short_name(backbone.name),
        "image_size": backbone.image_size, "input_size": _input_size(config, backbone.image_size), "resize": RESIZE,
        "feature_dim": encoder.feature_dim, "normalize": vars(encoder.normalize),
        "network": describe_network(backbone),
        "decision": _decision(key, facts["thresholds"], threshold) if facts else None, "probe": facts or None,
        "metrics": result.get("metrics", {}), "provenance": result.get("provenance", {}), "config": config,
        "subset": trial.get("subset") or {}}


def _input_size(config: dict[str, Any], image_size: int) -> int:
    """Side of the study's decoded cache, through which every image went."""
    from trainers.config import DataConfig, decode

    return decode(DataConfig, {"image_size": image_size} | config.get("data", {})).resolved_cache_size


def _decision(key: str, thresholds: dict[str, dict[str, float]], wanted: str) -> dict[str, Any]:
    if wanted in thresholds:
        rule = thresholds[wanted]
        return {"threshold": rule["value"], "chosen": wanted, "prevalence": rule["prevalence"], "beta": rule["beta"]}
    try:
        value = float(wanted)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= 1:
        raise DataError(f"--threshold {wanted}: '{key}' has {', '.join(thresholds) or 'none'}; "
                        "give one of these or a number between 0 and 1")
    return {"threshold": value, "chosen": "given", "prevalence": None, "beta": None}


def trial_model(results: StudyResults, key: str, threshold: str = DECISION) -> DefectModel:
    """The encoder of a finished trial with its probe and threshold. Raises as ``describe``, and for a missing probe."""
    from trainers.export import load_probe
    from trainers.inference.model import DefectModel

    description = describe(results, key, threshold)
    if description["decision"] is None:
        raise NothingMatched(
            f"trial '{key}' has no probe.safetensors: its training subset has one class, or it ended before probes "
            "were kept; its encoder can be had with --format timm, and --by distance scores without a probe")
    probe, _ = load_probe(results.store.trial_dir(key) / "probe.safetensors")
    return DefectModel(results.encoder(key).backbone, description, probe)


def load_model(source: str | Path, store: str | Path | None = None, threshold: str | None = None) -> Scorer:
    """What scores images: a trial key of the store, or a folder or file that ``ablation export`` wrote.

    ``threshold`` as in ``describe``; None keeps that of an export. ``ablation.score(model, images)`` uses it.
    """
    return open_model([str(source)], store, threshold, "cpu")


def open_model(source: Sequence[str], store: str | Path | None, threshold: str | None, device: str) -> Scorer:
    """``load_model`` of one word, or of study and key, on a device (``auto`` = CUDA when present)."""
    from trainers.inference.model import DefectModel
    from trainers.machine import choose_device

    model = open_export(Path(source[0]), threshold) if len(source) == 1 else None
    if model is None:
        model = trial_model(*find_trial(source, store), threshold or DECISION)
    return model.to(choose_device(device)) if isinstance(model, DefectModel) else model


def open_encoder(source: Sequence[str], store: str | Path | None, device: str) -> tuple[Encoder, int]:
    """The encoder of a trial or of an export in timm's format, and the side of the images that it is to see."""
    from trainers.export import load_encoder
    from trainers.machine import choose_device

    file = Path(source[0])
    if len(source) == 2 or not is_export(file):
        results, key = find_trial(source, store)
        encoder = results.encoder(key)
        config = results.store.read_trial(key).get("config", {})
        return encoder.to(choose_device(device)), _input_size(config, encoder.backbone.image_size)
    folder = file if file.is_dir() else file.parent
    weights, described = folder / FILES["timm"], read_json(folder / "model.json")
    if not weights.is_file() or not isinstance(described, dict):
        raise DataError(f"{file}: a graph gives no features to measure distances with; "
                        "name the trial, or export it with --format timm")
    return load_encoder(weights).to(choose_device(device)), int(described["input_size"])


def split_words(words: Sequence[str], store: str | Path | None) -> tuple[list[str], list[str]]:
    """``MODEL IMAGES...`` -> (words that name the model, images); a model is one word, or a study and a key.

    Raises ``DataError`` where no images are named.
    """
    from ablation.store import Store

    two = len(words) > 1 and not is_export(Path(words[0])) and not Path(words[1]).exists() and (
        words[0] in Store.open(store).studies())
    named = 2 if two else 1
    if len(words) == named:
        raise DataError(f"{words[-1]}: no images are named after the model: ablation score MODEL IMAGES...")
    return list(words[:named]), list(words[named:])


def open_export(path: Path, threshold: str | None = None) -> Scorer | None:
    """The model that an export holds; None where ``path`` is none. Raises ``DataError`` for a damaged one."""
    if not is_export(path):
        return None
    from ablation.model_formats import READERS

    if path.is_dir():
        path = next(path / file for file in FILES.values() if (path / file).is_file())
    name = next(name for name, file in FILES.items() if path.suffix == Path(file).suffix)
    model, description = READERS[name](path)
    if threshold is not None:
        thresholds = (description.get("probe") or {}).get("thresholds", {})
        model.threshold = float(_decision(str(path), thresholds, threshold)["threshold"])
    return model


def is_export(path: Path) -> bool:
    """Whether ``ablation export`` may have written it, by its names."""
    if path.is_dir():
        return (path / "model.json").is_file() and any((path / file).is_file() for file in FILES.values())
    return path.is_file() and path.suffix in {Path(file).suffix for file in FILES.values()}


def find_trial(words: Sequence[str], store: str | Path | None = None) -> tuple[StudyResults, str]:
    """(results, key) of ``[KEY]``, looked for in all studies of the store, or of ``[STUDY, KEY]``."""
    from ablation.results import load_study
    from ablation.store import Store

    if len(words) == 2:
        return load_study(words[0], store=store), words[1]
    opened, key = Store.open(store), words[0]
    keys = {name: {*opened.study(name).planned_keys(), *opened.study(name).keys_on_disk()} for name in opened.studies()}
    holders = [name for name, known in keys.items() if key in known]
    if not holders:
        raise NothingMatched(f"no model '{key}': not a trial of {opened.root}, not a file or folder written by "
                             f"ablation export{suggest(key, [known for each in keys.values() for known in each])}")
    if len(holders) > 1:
        raise NothingMatched(f"'{key}' is a trial of {', '.join(holders)}: put the study before it, {holders[0]} {key}")
    return load_study(holders[0], store=store), key


def read_description(text: str | bytes, where: Path) -> dict[str, Any]:
    """A ``model.json``. Raises ``DataError``."""
    try:
        description: dict[str, Any] = json.loads(text)
        _ = float(description["decision"]["threshold"]), int(description["input_size"])
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{where}: not a model with a probe written by ablation export") from None
    return description
