"""The files of a report: tables, figures (drawn for the page and for slides) and the page, replaced together."""

from __future__ import annotations

import html
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ablation.analysis import figures
from ablation.analysis.style import INK, MUTED, RULE, Entry

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INKS = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    "#ffffff": "paper",
    "#0072b2": "blue",
    "#e69f00": "orange",
    "#009e73": "green",
    "#cc79a7": "pink",
    "#d55e00": "red",
    "#56b4e9": "sky",
    "#7a7a7a": "grey",
    "#8c6d1f": "olive",
}
"""Figure colours that the page's style sheet replaces in dark mode."""


@dataclass
class Section:
    """One plot section: panels for the page, one figure for the files."""

    panels: list[str] = field(default_factory=list)
    legend: list[Entry] = field(default_factory=list)
    missing: str = ""


@dataclass
class Bundle:
    """Files of the report by path below its folder."""

    files: dict[str, bytes] = field(default_factory=dict)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        self.files[f"tables/{name}.csv"] = frame.to_csv(index=False, lineterminator="\n").encode()

    def plot(
        self,
        name: str,
        titles: Sequence[str],
        panels: Sequence[Callable[[Axes], object]],
        *,
        columns: int,
        width: float,
        height: float,
        legend: list[Entry],
        sharey: bool = False,
    ) -> Section:
        """Draw each panel for the page and all of them as ``figures/NAME.{png,svg}``."""
        inline = []
        for i, (title, draw) in enumerate(zip(titles, panels, strict=True)):
            ax = figures.new_axes(width, height)
            draw(ax)
            figure = ax.get_figure(root=True)
            assert figure is not None
            inline.append(inline_svg(figures.to_svg(figure), f"{name}{i}", title))
        whole = figures.facets(panels, columns=columns, width=width, height=height, legend=legend, sharey=sharey)
        self.files[f"figures/{name}.svg"] = figures.to_svg(whole).encode()
        self.files[f"figures/{name}.png"] = figures.to_png(whole)
        return Section(inline, legend)


def inline_svg(svg: str, prefix: str, title: str) -> str:
    """An SVG for use inside HTML: ids unique to the page, colours and font of the page, a name for screen readers."""
    svg = re.sub(
        r'\sid="(?:figure|axes|patch|line2d|text|matplotlib\.axis|xtick|ytick|legend|LineCollection)_\d+"', "", svg
    )
    svg = re.sub(r'(\sid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"font-family:[^;\"]*;?|font: ([\d.]+px) [^;\"]*", lambda m: f"font-size: {m[1]}" if m[1] else "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>\s*|<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)
    head, body = svg.split(">", 1)
    width, height = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head).groups()  # type: ignore[union-attr]
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(title)}" xmlns:xlink="http://www.w3.org/1999/xlink">'
        f"{page_colors(body.strip())}"
    )


def page_colors(svg: str) -> str:
    """Figure colours as variables of the page's style sheet."""
    for color, name in INKS.items():
        svg = svg.replace(color, f"var(--{name})")
    return svg


def write(out: Path, files: dict[str, bytes]) -> None:
    """All files are complete before the first old one is replaced; the page comes last."""
    out.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".report-", dir=out))
    try:
        for name, data in files.items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            (staging / name).write_bytes(data)
        for name in sorted(files, key=lambda name: name.endswith(".html")):
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(staging / name, out / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
