"""Files are data, addresses keep their passwords to themselves."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch

from ablation.store import StudyStore, TrialState
from tests.integration.studies import ablation, write_study
from trainers import checkpoint


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"position": {"epoch": 1}, "run": Payload(mark)}, tmp_path / checkpoint.CURRENT)
    told: list[str] = []
    assert checkpoint.load(tmp_path, told.append) is None
    assert "damaged" in told[0]
    assert not mark.exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!!python/module:os"])
def test_a_study_file_cannot_run_code(tmp_path: Path, tag: str) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "study.yaml").write_text(f"name: {tag} ['touch {mark}']\n")
    done = ablation(tmp_path, "validate", "study.yaml")
    assert done.returncode == 2
    assert "study.yaml:1" in done.stderr
    assert "Traceback" not in done.stderr
    assert not mark.exists()


def test_a_password_in_an_address_is_neither_printed_nor_stored(tmp_path: Path) -> None:
    """The MLflow server is away, so that all there is to say about it is said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = ablation(tmp_path, "run", write_study(tmp_path), "--tracking-uri", f"http://anna:hunter2@127.0.0.1:{port}")
    assert done.returncode == 0, done.stderr
    assert f"127.0.0.1:{port}" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    study = StudyStore(tmp_path / "studies" / "tiny")
    assert study.read_state(study.planned_keys()[0]).state is TrialState.FINISHED
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert [path for path in written if b"hunter2" in path.read_bytes()] == []
