"""The report in a real browser: on a phone, a tablet and a desk, light and dark, and on paper nothing is cut off."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation.report import SECTIONS, write_report
from ablation.results import load_study
from ablation.store import TrialState, TrialStatus
from tests.ablation.synthetic_study import draw_images, write_study

playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install-dev")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium")

OWN = "my_own_method_with_a_very_long_name_that_nobody_would_choose"
STUDY = "a-study-with-a-rather-long-name-of-its-own-to-see-how-it-wraps-on-a-phone"
STATES = {
    "mae-resnet18-p0.5": TrialStatus(state=TrialState.FAILED, reason="diverged",
                                     message=f"loss is nan in epoch 4: {'x' * 120} and /a/very/long/path/{'y' * 80}"),
    "simclr-resnet18-p0.05-s1": TrialStatus(state=TrialState.STOPPED, reason="user"),
    "simclr-vit_tiny-p0.05-s1": TrialStatus(state=TrialState.RUNNING, heartbeat=1.0),
    "barlow_twins-vit_tiny-p0.5-s0": TrialStatus(),
    "barlow_twins-resnet18-p0.5-s0": TrialStatus(state=TrialState.FINISHED, flags=("collapsed", "no_progress")),
}
OUTSIDE = """(selector) => [...document.querySelectorAll(selector)].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
}).map(element => element.tagName + ": " + element.textContent.slice(0, 60))"""
UNSCROLLED = "main *:not(.scroll *):not(pre *):not(svg *)"
CUT_LABELS = """() => [...document.querySelectorAll("svg text")].filter(text => {
    const [inner, outer] = [text.getBoundingClientRect(), text.ownerSVGElement.getBoundingClientRect()];
    return inner.width > 0 && (inner.left < outer.left - 1 || inner.right > outer.right + 1
        || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1);
}).map(text => text.textContent)"""
CROSSING_LABELS = """() => [...document.querySelectorAll(".panel svg")].flatMap(svg => {
    const boxes = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
    return boxes.flatMap(([a, p], i) => boxes.slice(i + 1).filter(([b, q]) =>
        Math.min(p.right, q.right) - Math.max(p.left, q.left) > 1 &&
        Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top) > 3).map(([b, q]) => a + " over " + b));
})"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    write_study(root / "store" / STUDY, methods=["simclr", "barlow_twins", "mae", OWN, "supervised"],
                imbalance=(0.01, 0.02, 0.05, 0.15, 0.5, "natural"), epochs=10, states=STATES)
    return write_report(load_study(STUDY, store=root / "store"), root / "out", images=draw_images)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, file: Path, width: int, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page, and what it complained of or asked for beside itself."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    heard: list[str] = []
    page.on("console", lambda message: heard.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url) if not request.url.startswith("data:") else None)
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    assert heard.pop(0) == file.as_uri()
    return page, heard


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 820, 1400])
def test_nothing_is_cut_off_on_any_screen(browser: Any, page_file: Path, width: int, scheme: str) -> None:
    page, heard = opened(browser, page_file, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate(OUTSIDE, UNSCROLLED) == []
    assert page.evaluate(CUT_LABELS) == []
    assert page.evaluate(CROSSING_LABELS) == []
    tables = "[...document.querySelectorAll('table')].map(t => [t.offsetWidth, t.parentElement.scrollWidth])"
    assert all(table <= region for table, region in page.evaluate(tables))
    assert heard == []
    page.close()


def test_ink_stands_out_from_paper_in_both_schemes(browser: Any, page_file: Path) -> None:
    """Contrast of at least 4.5 (WCAG 2.1, AA) for all text of the page."""
    lightness = []
    for scheme in ("light", "dark"):
        page, _ = opened(browser, page_file, 820, scheme)
        style = "name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()"
        paper, *inks = (luminance(page.evaluate(style, f"--{name}")) for name in ("paper", "ink", "muted", "alert"))
        assert all((max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5 for ink in inks)
        lightness.append(paper)
        page.close()
    assert lightness[0] > 0.9 > 0.1 > lightness[1]


def luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_contents_lead_to_their_sections(browser: Any, page_file: Path) -> None:
    page, heard = opened(browser, page_file, 820)
    links = page.locator("nav a")
    assert links.count() == page.locator("h2").count() == len(SECTIONS) - 2  # no search, no own metrics
    for i in range(links.count()):
        links.nth(i).click()
        title = links.nth(i).inner_text()
        target = page.evaluate("document.querySelector(':target').textContent")
        assert target == title
        assert page.evaluate("Math.abs(document.querySelector(':target').getBoundingClientRect().top) < innerHeight")
    assert heard == []
    page.close()


def test_wide_tables_scroll_inside_their_own_region(browser: Any, page_file: Path) -> None:
    page, _ = opened(browser, page_file, 360)
    region = page.locator(".scroll").first
    assert region.evaluate("r => r.scrollWidth > r.clientWidth")
    region.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.scroll').scrollLeft > 0")
    assert page.evaluate("scrollX") == 0
    page.close()


def test_on_paper_nothing_is_wider_than_the_page(browser: Any, page_file: Path) -> None:
    """A4 less margins of 15 mm is 680 CSS pixels wide; dark screens print dark ink on white."""
    page, _ = opened(browser, page_file, 680, "dark")
    page.emulate_media(media="print")
    assert page.evaluate(OUTSIDE, "main *:not(svg *)") == []
    assert page.evaluate(CUT_LABELS) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    paper = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) > 1
    page.close()
