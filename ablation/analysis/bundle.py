"""The files of a report: tables, figures (drawn for the page, slides and papers) and its texts, replaced together."""

from __future__ import annotations

import html
import io
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import pandas as pd

from ablation.analysis import figures
from ablation.analysis.document import Plot
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


Panel: TypeAlias = tuple[str, Callable[["Axes"], object]]
"""What a panel shows, for who cannot see it, and the function that draws it."""
SIZES = {"wide": (2, 4.3, 3.1), "small": (3, 2.9, 2.4), "tall": (1, 5.6, 4.6)}
"""Columns of the whole figure, width and height of one panel in inches."""


@dataclass
class Bundle:
    """Files of the report by path below its folder."""

    files: dict[str, bytes] = field(default_factory=dict)

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """``tables/NAME.csv`` and ``.parquet``."""
        self.files[f"tables/{name}.csv"] = frame.to_csv(index=False, lineterminator="\n").encode(errors="replace")
        self.files[f"tables/{name}.parquet"] = to_parquet(frame)

    def plot(
        self,
        name: str,
        caption: str,
        panels: Sequence[Panel],
        *,
        kind: Literal["wide", "small", "tall"] = "small",
        legend: Sequence[Entry] = (),
        sharey: bool = False,
        height: float | None = None,
    ) -> Plot:
        """Draw each panel for the page and all of them as ``figures/NAME.{png,svg,pdf}``. Call in ``house_style``.

        ``height`` of a panel in inches, else by ``kind``.
        """
        columns, width, usual = SIZES[kind]
        height = usual if height is None else height
        inline = []
        for i, (title, draw) in enumerate(panels):
            ax = figures.new_axes(width, height)
            draw(ax)
            figure = ax.get_figure(root=True)
            assert figure is not None
            inline.append(inline_svg(figures.to_svg(figure), f"{name}{i}", title))
        draws = [draw for _, draw in panels]
        whole = figures.facets(draws, columns=columns, width=width, height=height, legend=legend, sharey=sharey)
        self.files[f"figures/{name}.svg"] = figures.to_svg(whole).encode()
        self.files[f"figures/{name}.png"] = figures.to_png(whole)
        self.files[f"figures/{name}.pdf"] = figures.to_pdf(whole)
        return Plot(name, caption, tuple(inline), tuple(legend), kind)


def limits(values: pd.Series) -> tuple[float, float]:
    """The range of an axis that all panels of a plot share."""
    low, high = float(values.min()), float(values.max())
    pad = 0.06 * (high - low) or 0.02
    return low - pad, high + pad


def to_parquet(frame: pd.DataFrame) -> bytes:
    """The frame without its index; a column of several kinds of values (0.05 and ``natural``) becomes text."""
    whole = ("string", "floating", "integer", "boolean", "empty")
    objects = [name for name in frame.columns if frame[name].dtype == object]
    mixed = [name for name in objects if pd.api.types.infer_dtype(frame[name], skipna=True) not in whole]
    texts = {name: frame[name].map(str, na_action="ignore") for name in mixed}
    buffer = io.BytesIO()
    frame.assign(**texts).to_parquet(buffer, index=False)
    return buffer.getvalue()


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
    """All files are complete before the first old one is replaced; ``report.html`` comes last."""
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
