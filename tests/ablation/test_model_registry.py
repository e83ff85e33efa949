"""A trial in MLflow's registry: real SQLite; loaded by a process that has nothing of this project."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from ablation.errors import NothingMatched, ServiceUnavailable, SpecError
from ablation.model_registry import register_model
from tests.ablation.conftest import TrainedTrial

ALONE = """\
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("ablation", "trainers", "search_spaces"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
"""
"""Put before code that must do without this project."""
PREDICT = """
import mlflow, pandas as pd
from pathlib import Path
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/parts/1")
paths = sorted(path for path in Path(sys.argv[2]).rglob("*.*"))
out = model.predict(pd.DataFrame({"image": [path.read_bytes() for path in paths]}))
out.assign(path=[str(path) for path in paths]).to_parquet(sys.argv[3])
assert len(model.predict(model.input_example)) == 1
"""


def test_a_registered_model_scores_as_the_study_did_without_this_project(trained: TrainedTrial) -> None:
    uri, out = f"sqlite:///{trained.root / 'mlflow.db'}", trained.root / "predicted.parquet"
    assert register_model(trained.results, trained.key, "parts", uri, alias="champion") == "models:/parts/1"
    client = MlflowClient(uri)
    version = client.get_model_version_by_alias("parts", "champion")
    assert client.get_model_version_by_alias("parts", "newest").version == version.version
    result = trained.results.store.read_result(trained.key)
    assert result is not None
    assert version.tags["study"] == "parts"
    assert version.tags["key"] == trained.key
    assert float(version.tags["probe/auroc"]) == pytest.approx(result["metrics"]["probe/auroc"], abs=1e-5)
    run = client.get_run(version.run_id)
    assert run.info.run_name == trained.key
    assert run.info.status == "FINISHED"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ALONE + PREDICT, uri, trained.pictures / "val", out],
                          cwd=trained.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    frame = pd.read_parquet(out)
    assert trained.apart(frame) < 1e-5
    assert frame["defect"].equals(frame["score"] >= frame["threshold"])
    # Another threshold is another version; the first keeps its alias.
    assert register_model(trained.results, trained.key, "parts", uri, threshold="0.5") == "models:/parts/2"
    assert client.get_model_version_by_alias("parts", "champion").version == version.version
    second = client.get_model_version_by_alias("parts", "newest")
    assert float(second.tags["threshold"]) == np.float32(0.5)


def test_what_cannot_be_registered_is_said(trained: TrainedTrial) -> None:
    with pytest.raises(SpecError, match="--register 'a/b'"):
        register_model(trained.results, trained.key, "a/b")
    with pytest.raises(SpecError, match="--alias 'v1'"):
        register_model(trained.results, trained.key, "parts", alias="v1")
    with pytest.raises(NothingMatched, match="no trial"):
        register_model(trained.results, "other", "parts", "sqlite:////nowhere/at/all.db")
    with pytest.raises(ServiceUnavailable, match="MLflow at"):
        register_model(trained.results, trained.key, "parts", "http://127.0.0.1:9")
