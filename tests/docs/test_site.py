"""``make docs``: no warning, nothing from elsewhere, and a search that works from a file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT

CHROMIUM = shutil.which("chromium")
LOADED = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=["']?(https?:)?//""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a broken link, a missing anchor or a page outside the navigation ends it."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_pages_ask_nothing_of_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 25
    assert [page.name for page in pages if LOADED.search(page.read_text())] == []
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?https?:", styles) == []


def test_the_reference_is_the_code(site: Path) -> None:
    import ablation
    from trainers.evaluation.catalogue import METRICS

    commands = (site / "reference" / "command-line.html").read_text()
    names = ("run", "analyze-claims", "data-simulate", "methods-show", "export")
    assert all(f'id="{name}"' in commands for name in names)
    assert "--fail-under" in commands
    python = (site / "reference" / "python.html").read_text()
    assert [name for name in ablation.__all__ if name != "__version__" and not re.search(
        rf'id="ablation\.(?:\w+\.)?{name}"', python)] == []
    assert "trials_dataframe" in python
    fields = (site / "reference" / "study-file.html").read_text()
    names = ("policy", "deployment_prevalence", "num_workers", "warm_start")
    assert all(f"<code>{name}</code>" in fields for name in names)
    metrics = (site / "reference" / "metrics.html").read_text()
    assert all(f"<code>{key}</code>" in metrics for key in METRICS)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")
def test_search_works_from_a_file(site: Path) -> None:
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install-dev")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator(".md-search__input").click()
        page.keyboard.type("RankMe")
        found = page.locator(".md-search-result__item a").first
        found.wait_for(timeout=60_000)
        assert "Metrics" in found.inner_text()
        assert [url for url in asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
        browser.close()
