"""A store whose disk fills up, then has room again, then may not be written: a small file system of its own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import ablation as package
from ablation.store import StudyStore
from tests.integration.studies import ablation, write_study


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """40 MB; the encoder of one ResNet-18 has 45."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.getuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", folder], capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_fails_trials_and_room_lets_them_go_on(tmp_path: Path, disk: Path) -> None:
    path = write_study(tmp_path, seeds=[0, 1], epochs=2, backbone="resnet18")
    study = StudyStore(disk / "studies" / "tiny")
    full = ablation(tmp_path, "run", path, "--store", disk / "studies")
    assert full.returncode == 3, full.stderr
    assert {study.read_state(key).reason for key in study.planned_keys()} == {"disk_full"}
    assert "no space left" in full.stderr
    assert "Traceback" not in full.stderr
    assert list(study.path.rglob(".tmp-*")) == []

    remount(disk, "size=400m")
    done = ablation(tmp_path, "run", path, "--store", disk / "studies")
    assert done.returncode == 0, done.stderr
    frame = package.load_study("tiny", store=disk / "studies").trials_dataframe()
    assert frame["state"].tolist() == ["FINISHED", "FINISHED"]

    remount(disk, "ro")
    write_study(tmp_path, seeds=[0, 1, 2], epochs=2, backbone="resnet18")
    refused = ablation(tmp_path, "run", path, "--store", disk / "studies")
    assert refused.returncode == 2
    [line] = [line for line in refused.stderr.splitlines() if line.startswith("error:")]
    assert "Read-only file system" in line
    assert str(disk) in line
    read = ablation(tmp_path, "results", "tiny", "--store", disk / "studies", "--format", "csv")
    assert read.returncode == 0, read.stderr
    assert read.stdout.count("FINISHED") == 2
