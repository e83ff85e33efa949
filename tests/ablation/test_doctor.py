"""``ablation doctor`` says what works, what does not, and what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import ablation
from ablation.access import refusal
from ablation.calibration import Calibration
from ablation.doctor import Finding, examine
from ablation.errors import ServiceUnavailable
from ablation.store import Store

OVERRIDES = ["grid.seed=[0]", "data.options={num_train: 500, num_val: 300}"]


def by_check(*arguments: object) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(*arguments)}  # type: ignore[arg-type]


@contextmanager
def answering(**pages: str) -> Iterator[str]:
    """A server that knows a few pages; other addresses are 404, ``"401"`` asks for a password."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages.get(self.path.strip("/").replace("/", "_"), "404")
            code = int(body) if body in ("401", "404") else 200
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "ABLATION_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))


def test_a_sound_machine(tmp_path: Path) -> None:
    found = by_check(str(tmp_path / "new" / "studies"), None, None, "quickstart", OVERRIDES)
    assert list(found) == ["python", "torch", "memory", "store", "cache", "ray", "mlflow", "study", "data", "room"]
    assert not [finding for finding in found.values() if finding.result == "fail"]
    assert "torchvision" in found["torch"].detail
    assert "24 trials, 24 to run" in found["study"].detail
    assert "800 images" in found["data"].detail
    assert "12 of 12 read" in found["data"].detail
    assert "ablation plan STUDY --estimate" in found["room"].fix  # nobody has measured here
    assert not (tmp_path / "new").exists()  # looking changes nothing


def test_what_does_not_work_is_said_with_the_fix(tmp_path: Path) -> None:
    found = by_check("/proc/nowhere", "http://127.0.0.1:9", "127.0.0.1:9", str(tmp_path / "gone.yaml"))
    assert {name for name, finding in found.items() if finding.result == "fail"} == {"store", "ray", "mlflow", "study"}
    assert "ABLATION_STORE" in found["store"].fix
    assert "127.0.0.1:9" in found["ray"].detail
    assert "gone.yaml" in found["study"].detail


@pytest.mark.parametrize(("page", "result", "detail"), [
    ("2.1.0", "warn", "2.1.0 at http"),
    (version("mlflow"), "ok", version("mlflow")),
    ("401", "ok", "asks for a password"),
    ("<html>welcome</html>", "fail", "answers, but is no MLflow server"),
    ("404", "fail", "answers 404"),
])
def test_the_mlflow_at_the_other_end(tmp_path: Path, page: str, result: str, detail: str) -> None:
    with answering(version=page) as address:
        finding = by_check(str(tmp_path), address, None)["mlflow"]
    assert (finding.result, detail in finding.detail) == (result, True), finding


@pytest.mark.parametrize(("page", "result", "detail"), [
    (json.dumps({"ray_version": "2.9.0"}), "fail", f"{version('ray')} here, 2.9.0 at http"),
    (json.dumps({"ray_version": version("ray")}), "ok", "for --detach"),
    ("401", "ok", "asks for a token"),
    ("hello", "fail", "answers, but is no Ray dashboard"),
    ("404", "fail", "it is no Ray dashboard"),
])
def test_the_ray_at_the_other_end(tmp_path: Path, page: str, result: str, detail: str) -> None:
    with answering(api_version=page) as address:
        finding = by_check(str(tmp_path), None, address)["ray"]
    assert (finding.result, detail in finding.detail) == (result, True), finding


def test_versions_that_differ_are_told_with_their_numbers() -> None:
    """Ray's own words, as it raises them (ray/_private/utils.py, check_version_info)."""
    text = ("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.11.7\n"
            "This process on node 10.0.0.1 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n")
    line = refusal("10.0.0.1:6379", RuntimeError(text))
    assert "started with: Ray: 2.9.0 Python: 3.11.7 This process" in line
    assert line.endswith("install the same version on both")


@pytest.mark.parametrize(("uri", "detail"), [
    ("ftp://x", "MLflow cannot log there"),
    ("sqlite:////proc/nowhere/mlflow.db", "No such file or directory"),
    ("postgresql://127.0.0.1:9/mlflow", "127.0.0.1:9 does not answer"),
])
def test_a_database_that_cannot_be_used(tmp_path: Path, uri: str, detail: str) -> None:
    finding = by_check(str(tmp_path), uri, None)["mlflow"]
    assert finding.result == "fail"
    assert detail in finding.detail
    (tmp_path / "mlflow.db").write_text("not a database")
    assert by_check(str(tmp_path), None, None)["mlflow"].result == "fail"


def test_pictures_that_cannot_be_read_and_a_disk_that_is_too_small(tmp_path: Path) -> None:
    table = tmp_path / "parts.csv"
    table.write_text("path,label\n" + "".join(f"{number}.png,{number % 2}\n" for number in range(200)))
    changes = ["data.dataset=table", f"data.root={table}", "data.options={}", "imbalance.total=64",
               "grid.imbalance=[0.5]", "evaluation.test_prevalence=null"]
    planned = ablation.plan(ablation.StudySpec.load("quickstart", changes), store=tmp_path)
    for trial in planned.trials:
        entry = {"time": 1.0, "cpus": 1, "gpus": 0.0, "num_workers": 1, "at_once": 2, "setup": 1.0, "steps": [1.0],
                 "conclude": 1.0, "num_embedded": 100, "peak_mb": 1e7, "files_mb": 1e9, "checkpoint_mb": 1.0}
        Calibration(Store(tmp_path)).add("measured", [(trial, "made up", entry)])
    found = by_check(str(tmp_path), None, None, "quickstart", changes)
    assert found["data"].result == "fail"
    assert "0 of 12 read: 0.png: file is missing" in found["data"].detail
    assert found["room"].result == "fail"
    assert "free for trials" in found["room"].detail
    assert "ABLATION_STORE" in found["room"].fix


def test_a_cluster_that_does_not_answer_is_an_error_of_its_own() -> None:
    from ablation.access import cluster_address

    with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:9 cannot be used"):
        cluster_address("127.0.0.1:9")
    assert cluster_address("local") is None
