"""Exports of a really trained trial score as the study did, in every format."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ablation.defect_models import load_model, open_encoder
from ablation.errors import DataError, MissingExtra, NothingMatched, StoreError
from ablation.export import export_model
from ablation.image_lists import list_images
from ablation.image_scoring import probe_scores
from ablation.model_formats import FILES, quiet_torch
from tests.ablation.conftest import TrainedTrial
from trainers.inference.pixels import read_image


@pytest.fixture(scope="module")
def folder(trained: TrainedTrial) -> Path:
    """One folder with all three formats."""
    for format in FILES:
        export_model(trained.results, trained.key, trained.root / "model", format)
    return trained.root / "model"


@pytest.mark.parametrize("name", [".", *FILES.values()])
def test_scores_are_those_of_the_study(folder: Path, trained: TrainedTrial, name: str) -> None:
    said: list[str] = []
    model = load_model(folder / name)
    frame = probe_scores(model, list_images([trained.pictures]), said.append)
    assert said == []
    assert list(frame.columns) == ["path", "score", "defect", "threshold"]
    assert trained.apart(frame) < 1e-5
    threshold = trained.results.store.read_result(trained.key)["provenance"]["thresholds"]["probe/deployment"]  # type: ignore[index]
    assert frame["threshold"].eq(np.float32(threshold)).all()
    assert frame["defect"].equals(frame["score"] >= np.float32(threshold))
    assert load_model(folder / name, threshold="0.25").threshold == 0.25


def test_a_graph_takes_raw_pictures_of_any_size_and_decides(folder: Path, trained: TrainedTrial) -> None:
    model = trained.results.model(trained.key)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    with quiet_torch():
        module = torch.jit.load(folder / "model.pt")  # type: ignore[no-untyped-call]
    for count, height, width in ((1, 18, 18), (3, 18, 18), (2, 40, 23)):
        images = np.random.default_rng(count).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
        expected = model.scores(images)
        traced = [tensor.numpy() for tensor in module(torch.from_numpy(images))]
        for score, defect in (traced, session.run(None, {"images": images})):
            np.testing.assert_allclose(score, expected, atol=1e-5)
            np.testing.assert_array_equal(defect, score >= np.float32(model.threshold))


def test_card_says_what_people_ask_and_its_code_runs(folder: Path, trained: TrainedTrial,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    card = (folder / "README.md").read_text()
    result, trial = trained.results.store.read_result(trained.key), trained.results.store.read_trial(trained.key)
    assert result is not None
    subset, provenance = trial["subset"], result["provenance"]
    for text in (f"| data digest | `{provenance['data_digest']}` |", "| licence of the data | unknown |",
                 f"| defects | {subset['num_defects']} (33.3 %) |", f"| normal | {subset['num_normals']} |",
                 f"| probe/auroc | {result['metrics']['probe/auroc']:.4f} |", f"| torch | {provenance['torch']} |",
                 "chosen on validation images for the best F1 where 2 % of the images are defects", "license: unknown"):
        assert text in card
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    assert len(blocks) == 4  # network, scores, TorchScript, ONNX
    picture = trained.pictures / "val" / "good" / "50.png"
    (folder / "part.png").write_bytes(picture.read_bytes())
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    found: list[float] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch says that TorchScript is superseded
        for block in blocks:
            names: dict[str, Any] = {}
            exec(block, names)
            found += [float((names.get("scores", names.get("score")))[0])] if "part.png" in block else []
    assert names["defect"][0] == (found[-1] >= np.float32(trained.results.model(trained.key).threshold))
    assert "defect_model" in sys.modules
    model = trained.results.model(trained.key)
    expected = model.scores(read_image(picture, model.input_size)[None])[0]
    np.testing.assert_allclose(found, [expected] * 3, atol=1e-5)


def test_what_cannot_be_exported_is_said_and_nothing_is_left(trained: TrainedTrial, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    results, key = trained.results, trained.key
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(StoreError, match=r"README.md: exists already and is not of this trial"):
        export_model(results, key, tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    with pytest.raises(DataError, match=r"--threshold f3: .* has f1, f2, deployment"):
        export_model(results, key, tmp_path / "out", threshold="f3")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ablation\[onnx\]'"):
        export_model(results, key, tmp_path / "out", "onnx")
    assert list((tmp_path / "out").iterdir()) == []
    probe = results.store.trial_dir(key) / "probe.safetensors"
    hidden = probe.rename(probe.with_suffix(".away"))
    try:
        with pytest.raises(NothingMatched, match=r"has no probe\.safetensors"):
            export_model(results, key, tmp_path / "out", "torchscript")
        export_model(results, key, tmp_path / "out")  # its encoder alone
        assert "There is no probe" in (tmp_path / "out" / "README.md").read_text()
        with pytest.raises(DataError, match="not a model with a probe"):
            load_model(tmp_path / "out")
        assert open_encoder([str(tmp_path / "out")], None, "cpu")[1] == 18  # distances can still be had
    finally:
        hidden.rename(probe)
    (tmp_path / "model.pt").write_bytes(b"no archive")
    (tmp_path / "model.onnx").write_bytes(b"no graph")
    for name in ("model.pt", "model.onnx"):
        with pytest.raises(DataError, match=f"{name}: not a"):
            load_model(tmp_path / name)
