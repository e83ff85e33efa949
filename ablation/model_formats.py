"""The three formats of an exported model: how each is written, and read back as a ``Scorer``.

``torchscript`` and ``onnx`` are one graph from raw pixels to score and decision, with ``model.json`` inside the file.
"""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import trainers.inference
from ablation.defect_models import FILES, Scorer, read_description
from ablation.errors import AblationError, DataError, MissingExtra
from trainers.convolution import use_plain_convolutions
from trainers.inference.model import BATCH, DefectModel

if TYPE_CHECKING:
    from ablation.results import StudyResults

PACKAGE = "defect_model"
"""Name under which an export carries ``trainers.inference``."""
NEED_ONNX = "needs the packages onnx, onnxscript and onnxruntime: pip install 'ablation[onnx]'"
AGREEMENT = 1e-5
"""Largest difference of scores between a graph and the model that it was made of."""


def write_timm(results: StudyResults, key: str, description: dict[str, Any], folder: Path) -> None:
    """Weights under timm's names, the probe, and the code that runs them without this project."""
    trial = results.store.trial_dir(key)
    shutil.copyfile(trial / "encoder.safetensors", folder / FILES["timm"])
    if description["decision"] is not None:
        shutil.copyfile(trial / "probe.safetensors", folder / "probe.safetensors")
        copy_package(folder / PACKAGE)


def copy_package(folder: Path) -> None:
    """``trainers.inference`` as a package of its own."""
    folder.mkdir(exist_ok=True)
    for path in sorted(Path(trainers.inference.__path__[0]).glob("*.py")):
        shutil.copyfile(path, folder / path.name)


def write_torchscript(model: DefectModel, path: Path) -> None:
    """A traced graph that ``torch.jit.load`` and libtorch run, for batches and pictures of any size."""
    example = _example(model, 2)
    with quiet_torch(), torch.no_grad():
        traced = torch.jit.trace(_plain(model), torch.from_numpy(example), check_trace=False)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path, _extra_files={"model.json": json.dumps(model.description)})
    _require_agreement(TorchScriptModel(path), model, path)


def write_onnx(model: DefectModel, path: Path) -> None:
    """A graph whose batch, height and width are free. Raises ``AblationError`` without the extra ``onnx``."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise MissingExtra(f"--format onnx {NEED_ONNX}") from None
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with quiet_torch(), torch.no_grad():
        program = torch.onnx.export(_plain(model), (torch.from_numpy(_example(model, 2)),), dynamo=True, verbose=False,
                                    input_names=["images"], output_names=["score", "defect"], dynamic_shapes=(free,))
        assert program is not None
        program.model.metadata_props["ablation"] = json.dumps(model.description)
        program.save(path)
    _require_agreement(OnnxModel(path), model, path)


class TorchScriptModel:
    """A ``model.pt``."""

    def __init__(self, path: Path) -> None:
        extra = {"model.json": ""}
        try:
            with quiet_torch():
                self._module = torch.jit.load(path, map_location="cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(f"{path}: not a TorchScript file ({str(error).splitlines()[0]})") from None
        self.description = read_description(extra["model.json"], path)
        self.input_size, self.threshold = _numbers(self.description)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """As ``Scorer``."""
        return _in_batches(lambda batch: self._module(torch.from_numpy(batch))[0].numpy(), images)


class OnnxModel:
    """A ``model.onnx``."""

    def __init__(self, path: Path) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise MissingExtra(f"{path} {NEED_ONNX}") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base but this one
            raise DataError(f"{path}: not an ONNX file ({str(error).splitlines()[0]})") from None
        self.description = read_description(
            self._session.get_modelmeta().custom_metadata_map.get("ablation", ""), path)
        self.input_size, self.threshold = _numbers(self.description)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """As ``Scorer``."""
        return _in_batches(lambda batch: self._session.run(["score"], {"images": batch})[0], images)


def _read_timm(path: Path) -> tuple[Scorer, dict[str, Any]]:
    where = path.parent / "model.json"
    try:
        description = read_description(where.read_text(), where)
        return DefectModel.load(path.parent), description
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"{path.parent}: cannot be opened ({str(error).splitlines()[0]})") from error


def _read_torchscript(path: Path) -> tuple[Scorer, dict[str, Any]]:
    model = TorchScriptModel(path)
    return model, model.description


def _read_onnx(path: Path) -> tuple[Scorer, dict[str, Any]]:
    model = OnnxModel(path)
    return model, model.description


READERS: dict[str, Callable[[Path], tuple[Scorer, dict[str, Any]]]] = {
    "timm": _read_timm, "torchscript": _read_torchscript, "onnx": _read_onnx}


@contextmanager
def quiet_torch() -> Iterator[None]:
    """TorchScript says at every call that it will be superseded, and the tracer that shapes are numbers."""
    with warnings.catch_warnings():
        tracing: type[Warning] = torch.jit.TracerWarning  # type: ignore[attr-defined]
        for kind in (FutureWarning, DeprecationWarning, tracing):
            warnings.simplefilter("ignore", kind)
        yield


def _plain(model: DefectModel) -> DefectModel:
    """A copy whose operations every runtime knows."""
    plain = copy.deepcopy(model).cpu()
    use_plain_convolutions(plain)
    plain.scores(_example(plain, 1))  # a ViT chooses its attention at the first call
    return plain


def _example(model: DefectModel, count: int) -> np.ndarray:
    size = model.input_size
    return np.random.default_rng(0).integers(0, 256, (count, 3, size, size), dtype=np.uint8)


def _require_agreement(graph: Scorer, model: DefectModel, path: Path) -> None:
    images = _example(model, 3)  # another batch than the one that was traced
    apart = float(np.abs(graph.scores(images) - model.scores(images)).max())
    if not apart <= AGREEMENT:
        raise AblationError(f"{path.name}: its scores differ from the trial's by {apart:.2g}; please report this")


def _numbers(description: dict[str, Any]) -> tuple[int, float]:
    return int(description["input_size"]), float(description["decision"]["threshold"])


def _in_batches(run: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    batches = [run(images[start:start + BATCH]) for start in range(0, len(images), BATCH)]
    return np.concatenate([np.empty(0, np.float32), *batches])
