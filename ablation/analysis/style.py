"""How things look in every figure: a colour and marker per method, a colour per level, a marker or dash per backbone.

Colours are Okabe and Ito's (2008), told apart under every common colour blindness; no method is told by colour alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle

from ablation.analysis.tables import SUPERVISED as SUPERVISED

INK, MUTED, RULE = "#1b1f24", "#5d6670", "#d5d9de"
RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.titlecolor": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "figure.facecolor": "white",
    "axes.facecolor": "none",
    # Text stays text (searchable, follows the page's font) and ids depend on content only: same data, same bytes.
    "svg.fonttype": "none",
    "svg.hashsalt": "ablation",
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3
}


@dataclass(frozen=True)
class Style:
    """How one method is drawn everywhere."""

    label: str
    color: str
    marker: str
    dashes: tuple[float, ...] = ()


METHOD_STYLES = {
    "simclr": Style("SimCLR", "#0072b2", "o"),
    "barlow_twins": Style("Barlow Twins", "#e69f00", "s"),
    "byol": Style("BYOL", "#009e73", "^"),
    "dino": Style("DINO", "#cc79a7", "D"),
    "mae": Style("MAE", "#d55e00", "v"),
    "mae_dense": Style("MAE (dense)", "#56b4e9", "P"),
    SUPERVISED: Style("Supervised", INK, "X", (4.0, 2.0)),
}
_SPARE = [("#56b4e9", "P"), ("#8c6d1f", "h"), ("#7a7a7a", "p"), ("#0072b2", "<"), ("#d55e00", ">"), ("#009e73", "*")]
BACKBONE_LABELS = {"resnet18": "ResNet-18", "vit_tiny": "ViT-Tiny"}
LEVEL_COLORS = ["#d55e00", "#e69f00", "#009e73", "#56b4e9", "#0072b2", "#cc79a7", "#7a7a7a"]
BACKBONE_MARKERS = ["o", "s", "^", "D", "v", "P"]
BACKBONE_DASHES: list[tuple[float, ...]] = [(), (4, 1.6), (1, 1.2), (5, 1, 1, 1)]
BASELINE_DASHES = (1.0, 1.4)
LEGEND_LINE = 32
"""Most characters of a line in a figure's legend."""


def method_style(method: str, methods: Sequence[str] = ()) -> Style:
    """The method's style; one not in ``METHOD_STYLES`` takes a spare one by its place among the unknown ``methods``."""
    if method in METHOD_STYLES:
        return METHOD_STYLES[method]
    unknown = sorted({m for m in methods if m not in METHOD_STYLES} | {method})
    color, marker = _SPARE[unknown.index(method) % len(_SPARE)]
    return Style(method, color, marker)


def in_lines(label: str, most: int) -> str:
    """A long label broken after spaces, ``_``, ``-`` and ``/`` (else anywhere): no line is longer than ``most``."""
    lines = [""]
    for part in re.findall(rf"[^\s_/-]{{0,{most - 1}}}[\s_/-]?", label):
        if lines[-1] and len(lines[-1] + part.rstrip()) > most:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def backbone_label(backbone: str) -> str:
    return BACKBONE_LABELS.get(backbone, backbone)


def level_label(level: object) -> str:
    """``0.05`` -> ``5 %``; the word ``natural`` stays."""
    try:
        return f"{100 * float(level):.4g} %"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(level)


def level_order(levels: Sequence[object]) -> list[object]:
    """Distinct levels, rising, ``natural`` last."""
    return sorted(set(levels), key=lambda level: (isinstance(level, str), level if not isinstance(level, str) else 0))  # type: ignore[return-value, arg-type]


def level_colors(levels: Sequence[object]) -> dict[object, str]:
    """A colour per level, rare (warm) to common (cold); up to five levels are spread over the whole range."""
    order = level_order(levels)
    spread = np.linspace(0, 4, len(order)).round().astype(int) if 1 < len(order) <= 5 else np.arange(len(order))
    return {level: LEVEL_COLORS[i % len(LEVEL_COLORS)] for level, i in zip(order, spread.tolist(), strict=True)}


def backbone_marks(backbones: Sequence[str]) -> dict[str, tuple[str, tuple[float, ...]]]:
    """Marker and dash pattern per backbone."""
    return {
        name: (BACKBONE_MARKERS[i % len(BACKBONE_MARKERS)], BACKBONE_DASHES[i % len(BACKBONE_DASHES)])
        for i, name in enumerate(sorted(set(backbones)))
    }


def line_dashes(pattern: tuple[float, ...]) -> Any:
    """A dash pattern as matplotlib's line style; empty = solid."""
    return (0, pattern) if pattern else "-"


@contextmanager
def house_style() -> Iterator[None]:
    """The look of all figures; drawing *and* saving belong inside it. Restores matplotlib's settings after."""
    with matplotlib.rc_context(RC):
        yield


@dataclass(frozen=True)
class Entry:
    """One legend entry; ``line`` draws a line with ``dashes`` (on, off … in line widths, empty = solid)."""

    label: str
    color: str
    marker: str = ""
    line: bool = False
    dashes: tuple[float, ...] = ()

    def handle(self) -> Line2D:
        style = line_dashes(self.dashes) if self.line else "none"
        return Line2D([], [], color=self.color, marker=self.marker, ls=style, lw=1.6, ms=6,
                      label=in_lines(self.label, LEGEND_LINE))

    def svg(self) -> str:
        """The entry as a small picture for HTML."""
        parts = []
        if self.line:
            dashes = f' stroke-dasharray="{" ".join(f"{2 * d:g}" for d in self.dashes)}"' if self.dashes else ""
            parts.append(f'<path d="M1 8H27" fill="none" stroke="{self.color}" stroke-width="2"{dashes}/>')
        if self.marker:
            marker = MarkerStyle(self.marker)  # type: ignore[arg-type]
            outline = marker.get_path().transformed(marker.get_transform()).to_polygons()
            points = [
                f"{14 + 9 * x:.1f} {8 - 9 * y:.1f}" for polygon in outline for x, y in np.asarray(polygon).tolist()
            ]
            parts.append(f'<path d="M{"L".join(points)}Z" fill="{self.color}"/>')
        return f'<svg viewBox="0 0 28 16" width="28" height="16" aria-hidden="true">{"".join(parts)}</svg>'


RANDOM_INIT = Entry("Random init", MUTED, "", True, BASELINE_DASHES)


def method_entries(methods: Sequence[str], baseline: bool = False) -> list[Entry]:
    """Legend of ``score_vs_imbalance``."""
    styles = [method_style(method, methods) for method in methods]
    return [Entry(s.label, s.color, s.marker, True, s.dashes) for s in styles] + [RANDOM_INIT] * baseline


def context_entries(levels: Sequence[object], backbones: Sequence[str], lines: bool = False) -> list[Entry]:
    """Legend of ``selector_scatter`` (markers) or ``learning_curves`` (``lines``)."""
    marks = backbone_marks(backbones).items()
    return [
        Entry(level_label(level), color, "" if lines else "o", lines) for level, color in level_colors(levels).items()
    ] + [Entry(backbone_label(name), MUTED, "" if lines else marker, lines, dashes) for name, (marker, dashes) in marks]
