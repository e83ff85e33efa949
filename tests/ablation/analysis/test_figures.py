"""What the plots promise: no interval at n = 1, no global state, the same bytes twice, every method told apart."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from ablation.analysis import figures, style


def score_frame(n: int, levels: tuple[object, ...] = (0.01, 0.5)) -> pd.DataFrame:
    rows = [
        {
            "method": m,
            "imbalance": level,
            "prevalence": 0.47 if level == "natural" else level,
            "value": 0.8 + 0.01 * i,
            "lo": 0.7,
            "hi": 0.9,
            "n": n,
        }
        for i, m in enumerate(["simclr", "supervised"])
        for level in levels
    ]
    return pd.DataFrame(rows)


def intervals(ax: matplotlib.axes.Axes) -> int:
    return sum(len(c.get_segments()) for c in ax.collections if isinstance(c, LineCollection))


@pytest.mark.parametrize(("n", "drawn"), [(1, 0), (3, 4)])
def test_an_interval_is_drawn_only_for_more_than_one_trial(n: int, drawn: int) -> None:
    """Even if the frame holds lo and hi: one trial has no spread to show."""
    assert intervals(figures.score_vs_imbalance(score_frame(n), metric="probe/auroc")) == drawn


def test_a_single_trial_is_hollow_and_several_are_filled() -> None:
    for n, face in ((1, "white"), (3, style.METHOD_STYLES["simclr"].color)):
        ax = figures.score_vs_imbalance(score_frame(n), metric="probe/auroc")
        drawn = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata())]
        assert [line.get_markerfacecolor() for line in drawn] == [face]


def test_levels_stand_on_a_log_axis_under_their_own_names() -> None:
    ax = figures.score_vs_imbalance(score_frame(3, (0.005, 0.05, "natural")), metric="probe/auroc")
    names = [label.get_text().strip() for label in ax.get_xticklabels()]
    assert ax.get_xscale() == "log"
    assert names == ["0.5 %", "5 %", "natural (47 %)"]


def test_one_level_only_still_gives_a_finite_axis() -> None:
    low, high = figures.score_vs_imbalance(score_frame(3, (0.05,)), metric="probe/auroc").get_xlim()
    assert 0 < low < 0.05 < high < 1


def test_methods_differ_in_colour_and_in_marker() -> None:
    styles = [style.method_style(m) for m in style.METHOD_STYLES]
    unknown = ["mymethod", "other"]
    styles += [style.method_style(m, unknown) for m in unknown[1:]]
    assert len({s.marker for s in styles}) == len(styles)
    assert style.method_style("mymethod", unknown) != style.method_style("other", unknown)


def test_plots_draw_on_the_axes_they_are_given() -> None:
    points = pd.DataFrame(
        {"imbalance": [0.05, "natural"], "backbone": ["resnet18", "vit_tiny"], "x": [1.0, 2.0], "y": [0.7, 0.8]}
    )
    curve = pd.DataFrame(
        {
            "key": ["a", "a", "b"],
            "epoch": [1, 2, 1],
            "value": [3.0, 2.0, 3.0],
            "imbalance": 0.05,
            "backbone": "resnet18",
            "state": ["FINISHED", "FINISHED", "FAILED"],
        }
    )
    for draw in (
        lambda ax: figures.score_vs_imbalance(score_frame(2), metric="probe/auroc", ax=ax),
        lambda ax: figures.selector_scatter(points, "x", "y", ax=ax),
        lambda ax: figures.learning_curves(curve, ax=ax),
    ):
        ax = figures.new_axes()
        assert draw(ax) is ax
        assert ax.has_data()


def test_the_line_of_a_failed_trial_ends_in_a_cross() -> None:
    curve = pd.DataFrame({"key": "a", "epoch": [1, 2], "value": [3.0, 2.0], "imbalance": 0.05, "backbone": "resnet18"})
    crosses = [
        [line for line in figures.learning_curves(curve.assign(state=state)).lines if line.get_marker() == "x"]
        for state in ("FAILED", "FINISHED")
    ]
    assert [len(found) for found in crosses] == [1, 0]
    assert crosses[0][0].get_xdata()[0] == 2


def test_drawing_leaves_no_global_state() -> None:
    """No pyplot figure is opened and matplotlib's settings are as before."""
    before = dict(matplotlib.rcParams)
    with style.house_style():
        figures.to_png(figures.score_vs_imbalance(score_frame(2), metric="probe/auroc").get_figure())
    assert dict(matplotlib.rcParams) == before
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_the_same_frame_gives_the_same_bytes() -> None:
    def render() -> tuple[str, bytes]:
        with style.house_style():
            figure = figures.facets(
                [lambda ax: figures.score_vs_imbalance(score_frame(3), metric="probe/auroc", ax=ax)] * 3,
                columns=2,
                width=3,
                height=2,
                legend=style.method_entries(["simclr"], baseline=True),
            )
            return figures.to_svg(figure), figures.to_png(figure)

    first = render()
    assert first == render()
    assert "<dc:date>" not in first[0]


def test_a_legend_entry_is_drawn_with_its_dashes_and_marker() -> None:
    dashed = style.Entry("Supervised", "#123456", "o", True, (4, 2)).svg()
    assert 'stroke-dasharray="8 4"' in dashed
    assert dashed.count("#123456") == 2
    assert "stroke" not in style.Entry("5 %", "#123456", "o").svg()


def test_levels_sort_by_number_with_natural_last() -> None:
    assert style.level_order(["natural", 0.5, 0.01, 0.5]) == [0.01, 0.5, "natural"]
    assert np.unique(list(style.level_colors([0.01, 0.05, 0.5]).values())).size == 3


def test_a_pdf_holds_truetype_and_no_dates() -> None:
    """Journals refuse Type 3 fonts; the same data must give the same bytes."""
    ax = figures.new_axes()
    ax.set_title("ω² and ρ")
    with style.house_style():
        data = figures.to_pdf(ax.get_figure())  # type: ignore[arg-type]
    assert b"/CIDFontType2" in data or b"/TrueType" in data
    assert b"/Type3" not in data
    assert b"CreationDate" not in data
