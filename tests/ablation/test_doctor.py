"""``ablation doctor`` says what works, what does not, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ablation.doctor import Finding, examine


def by_check(*arguments: object) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(*arguments)}  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "ABLATION_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ABLATION_CACHE", str(tmp_path / "cache"))


def test_a_sound_machine(tmp_path: Path) -> None:
    found = by_check(str(tmp_path / "new" / "studies"), None, None, "quickstart", ["grid.seed=[0]"])
    assert list(found) == ["python", "torch", "memory", "store", "cache", "ray", "mlflow", "study", "data", "room"]
    assert not [finding for finding in found.values() if finding.result == "fail"]
    assert "24 trials, 24 to run" in found["study"].detail
    assert not (tmp_path / "new").exists()  # looking changes nothing


def test_what_does_not_work_is_said_with_the_fix(tmp_path: Path) -> None:
    found = by_check("/proc/nowhere", "http://127.0.0.1:9", "127.0.0.1:9", str(tmp_path / "gone.yaml"))
    assert {name for name, finding in found.items() if finding.result == "fail"} == {"store", "ray", "mlflow", "study"}
    assert "ABLATION_STORE" in found["store"].fix
    assert "127.0.0.1:9" in found["ray"].detail
    assert "gone.yaml" in found["study"].detail


def test_another_mlflow_version_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablation.mlflow_server.server_version", lambda uri: "2.1.0")
    finding = by_check(str(tmp_path), "http://mlflow.example:5000", None)["mlflow"]
    assert finding.result == "warn"
    assert "2.1.0" in finding.detail
