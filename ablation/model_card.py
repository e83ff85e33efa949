"""The model card of an export: what the model is, what it was trained on, how well it does, how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

METRICS = ("probe/auroc", "probe/ap", "probe/f1", "probe/balanced_accuracy", "probe/precision_at_deployment",
           "probe_fixed/auroc", "knn/auroc", "detector/knn_auroc", "random_init/auroc")
DATA_LICENCES = {"sewer-ml": "CC BY-NC-SA 4.0 (Haurum & Moeslund, CVPR 2021)",
                 "sewer-sim": "Apache-2.0 (drawn by this project)",
                 "digits": "CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)"}
UNKNOWN = "unknown"


def model_card(card: Mapping[str, Any], formats: Sequence[str]) -> str:
    """Markdown with the fields of a model card. ``card``: ``defect_models.describe``; ``formats``: files beside it."""
    dataset = card["config"].get("data", {}).get("dataset", UNKNOWN)
    licence = DATA_LICENCES.get(dataset, UNKNOWN)
    loaders = "\n".join(_LOADERS[name](card) for name in formats)
    parts = [_head(card), _use(card), _preprocessing(card), _decision(card), _training(card, dataset, licence),
             _evaluation(card), _limits(card), f"## How to load\n\n{loaders}",
             _versions(card), f"## Licence\n\nWeights: {UNKNOWN}, nobody has stated one. They were trained from random "
             f"initialisation, on data under: {licence}. The terms of the data may bind the weights.\n"]
    return "\n".join(parts)


def _head(card: Mapping[str, Any]) -> str:
    method = card["config"].get("method", UNKNOWN)
    what = "and a linear probe that tells defects" if card["decision"] else "alone, without a probe"
    return (f"---\nlibrary_name: timm\nlicense: {UNKNOWN}\npipeline_tag: image-classification\n"
            f"tags: [anomaly-detection, self-supervised-learning, {method}]\n---\n\n# {card['key']}\n\n"
            f"{card['backbone']} pre-trained by {method}, {what}. Trial of study `{card['study']}`.\n")


def _use(card: Mapping[str, Any]) -> str:
    return ("## Intended use\n\nTo say of one image whether it shows a defect, for images of the kind that it was "
            "trained on. It does not say where the defect is nor of which kind.\n" if card["decision"] else
            f"## Intended use\n\nFeatures ({card['feature_dim']}) of images of the kind that it was trained on.\n")


def _preprocessing(card: Mapping[str, Any]) -> str:
    size, side, constants = card["image_size"], card["input_size"], card["normalize"]
    normal = (f"minus {constants['mean']}, divided by {constants['std']}" if constants["mean"] else
              "by its own mean and deviation over all channels")
    return f"""\
## Preprocessing

| step | where |
| --- | --- |
| decode to 8-bit RGB (EXIF orientation, grey repeated, alpha dropped, more than 8 bits stretched) | before the model |
| {side} x {side} pixels: {card['resize']} | before the model |
| {size} x {size} pixels, antialiased triangle filter | inside |
| 0..1, then normalised {normal} | inside |

The model takes uint8 images of any height and width; the numbers of the study come from {side} x {side}.
"""


def _decision(card: Mapping[str, Any]) -> str:
    rule = card["decision"]
    if rule is None:
        return "## Decision\n\nThere is no probe, so no score and no threshold.\n"
    lines = [f"| {name} | {value['value']:.6g} | F{value['beta']:g} at {_percent(value['prevalence'])} defects |"
             for name, value in card["probe"]["thresholds"].items()]
    chosen = ("given by hand" if rule["prevalence"] is None else
              f"`{rule['chosen']}`, chosen on validation images for the best F{rule['beta']:g} where "
              f"{_percent(rule['prevalence'])} of the images are defects")
    table = "\n".join(["| threshold | value | best for |", "| --- | --- | --- |", *lines]) if lines else ""
    return (f"## Decision\n\nDefect where score >= **{rule['threshold']:.6g}** ({chosen}). The score is the probe's "
            f"probability of a defect at the prevalence of its training images, 0..1.\n\n{table}\n")


def _training(card: Mapping[str, Any], dataset: str, licence: str) -> str:
    facts, subset, config = card["provenance"], card["subset"], card["config"]
    defects, normals = subset.get("num_defects"), subset.get("num_normals")
    total = (defects or 0) + (normals or 0)
    share = _percent(defects / total) if total else str(config.get("imbalance", UNKNOWN))
    types = ", ".join(f"{name or 'normal'} {count}" for name, count in (subset.get("counts") or {}).items())
    rows = {"data set": dataset, "data digest": f"`{facts.get('data_digest', UNKNOWN)}`",
            "licence of the data": licence, "images": facts.get("num_train", total or UNKNOWN),
            "defects": f"{UNKNOWN if defects is None else defects} ({share})",
            "normal": UNKNOWN if normals is None else normals, "by type": types or UNKNOWN,
            "subset digest": f"`{facts.get('subset_digest', subset.get('digest', UNKNOWN))}`",
            "epochs, seed": f"{config.get('train', {}).get('epochs', UNKNOWN)}, {config.get('seed', UNKNOWN)}",
            "precision": facts.get("precision", UNKNOWN)}
    return "## Training data\n\n" + _table(rows)


def _evaluation(card: Mapping[str, Any]) -> str:
    facts, evaluation = card["provenance"], card["config"].get("evaluation", {})
    prevalence = evaluation.get("test_prevalence")
    share = _percent(prevalence) if prevalence else "their own share of"
    rows = {name: f"{card['metrics'][name]:.4f}" for name in METRICS if name in card["metrics"]}
    return (f"## Evaluation\n\nOn {facts.get('num_test', UNKNOWN)} held-out test images with {share} defects; "
            f"thresholds from {facts.get('num_validation', UNKNOWN)} validation images.\n\n" + _table(rows))


def _limits(card: Mapping[str, Any]) -> str:
    return ("## Limits\n\nOne trial of a study, one seed: its scores vary from seed to seed. Images from another "
            "camera, light or place, and defects of a type that it has not seen, were not tested. Where defects are as "
            "rare as in use, expect the precision of `probe/precision_at_deployment`, not that of the test set.\n")


def _versions(card: Mapping[str, Any]) -> str:
    facts = card["provenance"]
    names = ("code", "python", "torch", "torchvision", "timm", "numpy", "scikit-learn")
    return "## Versions\n\n" + _table({name: facts[name] for name in names if name in facts})


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows.items())]) + "\n"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"


def _timm(card: Mapping[str, Any]) -> str:
    wanted = card["network"]
    arguments = ", ".join(f"{name}={value}" for name, value in wanted["arguments"].items())
    lines = ["import timm", "import torch", "from safetensors.torch import load_file", "",
             f'net = timm.create_model("{wanted["name"]}", {arguments})']
    if wanted["small_stem"]:
        lines += ["# Small images: another stem.",
                  "net.conv1 = torch.nn.Conv2d(3, net.conv1.out_channels, 3, stride=2, padding=1, bias=False)",
                  "net.maxpool = torch.nn.Identity()"]
    lines += ['net.load_state_dict(load_file("model.safetensors"), strict=True)']
    pooled = " (its features: the mean of the normalised patch tokens)" if wanted["features"] == "patch_tokens" else ""
    text = f"The network alone, into timm{pooled}:\n\n" + _python(lines)
    if card["decision"]:
        text += ("\nScores; the folder `defect_model` beside this file needs torch, timm, numpy, pillow, safetensors:"
                 "\n\n"
                 + _python(["import numpy as np", "from defect_model.model import DefectModel",
                            "from defect_model.pixels import read_image", "", 'model = DefectModel.load(".")',
                            'images = np.stack([read_image(path, model.input_size) for path in ["part.png"]])',
                            "scores = model.scores(images)", "defects = scores >= model.threshold"]))
    return text


def _torchscript(card: Mapping[str, Any]) -> str:
    return "`model.pt`, for torch and libtorch:\n\n" + _python([
        "import torch", *_square(card), 'model = torch.jit.load("model.pt")',
        "score, defect = model(torch.from_numpy(images))"])


def _onnx(card: Mapping[str, Any]) -> str:
    return "`model.onnx`, for ONNX Runtime and whatever reads ONNX:\n\n" + _python([
        "import onnxruntime", *_square(card), 'model = onnxruntime.InferenceSession("model.onnx")',
        'score, defect = model.run(None, {"images": images})'])


def _square(card: Mapping[str, Any]) -> list[str]:
    side = card["input_size"]
    return ["import numpy as np", "from PIL import Image", "",
            'image = Image.open("part.png").convert("RGB")',
            f"image = image.resize(({side}, {side}), Image.Resampling.BICUBIC, reducing_gap=3.0)",
            "images = np.asarray(image).transpose(2, 0, 1)[None].copy()  # uint8 (batch, 3, height, width)"]


def _python(lines: Sequence[str]) -> str:
    return "\n".join(["```python", *lines, "```", ""])


_LOADERS = {"timm": _timm, "torchscript": _torchscript, "onnx": _onnx}
