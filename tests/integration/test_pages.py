"""What a person opens in a browser: the MLflow page on loopback, and the report without any network."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablation.results import load_study
from tests.ablation.synthetic_study import write_study as write_synthetic
from tests.integration.studies import command, environment

CHROMIUM = shutil.which("chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_ui_serves_the_store_on_loopback_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "studies").mkdir()
    process = subprocess.Popen(command("ui", "--port", str(port)), cwd=tmp_path, env=environment(tmp_path),
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as reply:
                    assert reply.status == 200
                    break
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.3)
        stranger = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(stranger, timeout=5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 0
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}" in process.stderr.read()
    finally:
        if process.poll() is None:
            process.kill()


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
