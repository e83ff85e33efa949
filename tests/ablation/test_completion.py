"""What the tab key offers, and that it never says anything else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ablation.synthetic_study import write_study
from tests.conftest import Call

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Complete:
    """The words that bash would offer for the last one of a line, in a folder with a study file and a store."""
    write_study(tmp_path / "studies" / "demo", methods=["simclr", "mae"], backbones=["resnet18"], imbalance=[0.05],
                seeds=[0, 1])
    write_study(tmp_path / "studies" / "other", methods=["dino"], backbones=["resnet18"], imbalance=[0.5], seeds=[0])
    (tmp_path / "parts.yaml").write_text("name: parts\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "down.yml").write_text("name: down\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ABLATION_STORE", raising=False)
    monkeypatch.setenv("_ABLATION_COMPLETE", "complete_bash")

    def offered(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        code, out, err = call()
        assert (code, err) == (0, "")
        return out.split()

    return offered


def test_studies_keys_methods_and_metrics_are_offered(complete: Complete) -> None:
    assert {"parts.yaml", "quickstart", "paper"} <= set(complete("ablation run "))
    assert complete("ablation plan deep/") == ["deep/down.yml"]
    assert complete("ablation data describe par") == ["parts.yaml"]
    assert complete("ablation status ") == ["demo", "other"]
    assert complete("ablation logs demo mae") == ["mae-resnet18-p0.05-s0-00000002", "mae-resnet18-p0.05-s1-00000003"]
    assert complete("ablation stop demo mae-resnet18-p0.05-s0-00000002 mae") == ["mae-resnet18-p0.05-s1-00000003"]
    assert complete("ablation export o") == ["other"]
    assert complete("ablation score other d") == ["dino-resnet18-p0.5-s0-00000000"]
    assert complete("ablation score dino-resnet18-p0.5-s0-00000000 d") == []  # files, which the shell knows
    assert complete("ablation methods show ba") == ["barlow_twins"]
    assert complete("ablation best demo --metric knn/") == ["knn/auroc", "knn/ap"]
    assert "probe/auroc=" in complete("ablation run parts.yaml --fail-under probe/")
    assert complete("ablation analyze regret demo label_free/rankme,label_free/lid") == [
        "label_free/rankme,label_free/lidar"]


def test_what_cannot_be_read_offers_nothing(complete: Complete) -> None:
    assert complete("ablation logs nowhere ") == []
    assert complete("ablation status --store s3://bucket/x ") == []


def test_the_tab_key_loads_nothing_heavy(complete: Complete) -> None:
    code = ("import sys; sys.argv = ['ablation']\n"
            "from ablation.cli import main\n"
            "try: main()\n"
            "except SystemExit: pass\n"
            "print('LOADED', *{'torch', 'ray', 'mlflow', 'pandas', 'numpy', 'timm', 'rich'} & set(sys.modules))")
    complete("ablation logs demo ")  # leaves its line in the environment
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *offered, loaded = done.stdout.splitlines()
    assert len(offered) == 4
    assert loaded.split() == ["LOADED"]
