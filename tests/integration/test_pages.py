"""The report opens in a browser without any network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablation.results import load_study
from tests.ablation.synthetic_study import write_study as write_synthetic

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_the_report_renders_without_network(tmp_path: Path) -> None:
    write_synthetic(tmp_path / "studies" / "demo")
    page = Path(load_study("demo", store=tmp_path / "studies").report(tmp_path / "out"))
    picture = tmp_path / "page.png"
    subprocess.run([str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}",
                    "--window-size=1000,3000", "--host-resolver-rules=MAP * ~NOTFOUND", page.as_uri()],
                   check=True, capture_output=True, timeout=120)
    pixels = np.asarray(Image.open(picture).convert("RGB"), dtype=float)
    assert pixels.shape == (3000, 1000, 3)
    inked = (np.abs(pixels - pixels[0, 0]).sum(-1) > 30).mean(1)
    assert (inked > 0.01).mean() > 0.3  # text and figures all the way down, not a blank page
