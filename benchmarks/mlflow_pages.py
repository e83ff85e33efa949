"""Take the pictures of docs/mlflow.md: docs/images/mlflow-{methods,runs,report,pictures}.png, from a study in a store.

    python -m benchmarks.mlflow_pages STUDY [--store FOLDER]

Needs Chromium and playwright (``make install-dev``). Starts ``ablation ui`` for the time it takes, and ends it.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from ablation.mlflow_views import TRAINING

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
WIDTH, HEIGHT = 1300, 860
SECONDS = 90
QUIET = """if (window === top && location.protocol === 'http:')
    localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')"""
"""MLflow's assistant covers the page at the first visit."""


@contextmanager
def served(study: str, store: Path, port: int) -> Iterator[str]:
    """The link to a study that ``ablation ui`` prints."""
    process = subprocess.Popen([sys.executable, "-m", "ablation.cli", "ui", "--port", str(port), "--store", str(store)],
                               stderr=subprocess.PIPE, text=True, env=os.environ | {"NO_COLOR": "1"})
    assert process.stderr is not None
    try:
        links = (re.fullmatch(rf"  {re.escape(study)}: (http\S+)\s*", line) for line in process.stderr)
        link = next(filter(None, links), None)
        if link is None:
            sys.exit(f"ablation ui names no study {study!r}")
        yield link[1]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def take(tab: Any, link: str, study: str, method: str) -> None:
    """All four; raises playwright's ``TimeoutError`` where the page does not show what it should."""
    base, _, experiment = link.partition("/#")
    runs = f"{base}/#{experiment.partition('?')[0]}{TRAINING}"
    cards = tab.get_by_test_id("experiment-view-compare-runs-card")
    _open(tab, link)
    cards.filter(has_text="train/loss").first.locator(".scatterlayer .js-line").first.wait_for(state="attached")
    cards.filter(has_text="probe/auroc").first.locator(".barlayer .point").first.wait_for(state="attached")
    _shoot(tab, "methods")
    _open(tab, runs)
    row = tab.get_by_role("row").filter(has=tab.get_by_role("link", name=study, exact=True))
    row.get_by_role("button").first.click()
    trial = tab.get_by_role("link", name=re.compile(f"^{method}-"))
    trial.first.wait_for()
    _shoot(tab, "runs")
    address = base + "/" + (trial.first.get_attribute("href") or "")
    row.get_by_role("link", name=study, exact=True).click()
    report = tab.get_by_role("link", name="Report", exact=True).get_attribute("href")
    _open(tab, f"{base}/{report}")
    tab.frame_locator("iframe").get_by_role("heading", name=study, exact=True).wait_for()
    _shoot(tab, "report")
    _open(tab, f"{address.partition('?')[0]}/artifacts/contact_sheet.png{TRAINING}")
    tab.locator("img[src^='blob:']").first.wait_for()
    _shoot(tab, "pictures")


def _open(tab: Any, address: str) -> None:
    tab.goto("about:blank")  # the same page with another fragment would not load anew
    tab.goto(address)


def _shoot(tab: Any, name: str) -> None:
    tab.wait_for_timeout(3000)  # charts move into their places
    tab.mouse.move(0, 0)
    for line in tab.get_by_text(re.compile("^Path: ")).all():
        line.evaluate("line => line.style.visibility = 'hidden'")  # of the machine that the picture is taken on
    path = IMAGES / f"mlflow-{name}.png"
    tab.screenshot(path=path)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study")
    parser.add_argument("--store", type=Path, default=Path("studies"))
    parser.add_argument("--port", type=int, default=5055)
    parser.add_argument("--method", default="simclr", help="whose first trial shows its pictures")
    asked = parser.parse_args()
    with served(asked.study, asked.store, asked.port) as link, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        tab.add_init_script(QUIET)
        tab.set_default_timeout(SECONDS * 1000)
        take(tab, link, asked.study, asked.method)
        browser.close()


if __name__ == "__main__":
    main()
