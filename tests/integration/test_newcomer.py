"""What the README promises, from a fresh clone on: ``newcomer.sh``."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a clone of a repository")
def test_a_newcomer_gets_from_clone_to_scores_with_the_readme_alone(tmp_path: Path) -> None:
    script = ROOT / "tests" / "integration" / "newcomer.sh"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ABLATION_", "PYTEST_"))}
    done = subprocess.run(["sh", str(script), str(ROOT), str(tmp_path)], env=kept, text=True, timeout=540,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("== done\n")
    assert "Traceback" not in done.stdout
