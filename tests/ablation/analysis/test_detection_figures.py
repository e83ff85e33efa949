"""The figures of detection: what is drawn is what the frame says, in colours that the page knows."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure

from ablation.analysis import calibration, detection, detection_figures, figures, operating_points, style
from ablation.analysis.bundle import INKS

METHODS = ["simclr", "mae", "supervised", "mymethod"]


def curve_frame(methods: list[str]) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    parts = []
    for place, method in enumerate(methods):
        labels = np.tile([0, 1], 60)
        scores = rng.standard_normal(120) + (1 + 0.3 * place) * labels
        parts.append(detection.curve(labels, scores, 0.02).assign(method=method))
    return pd.concat(parts, ignore_index=True)


def reliability_frame() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    labels = np.tile([0, 1], 100)
    probabilities = 1 / (1 + np.exp(-(rng.standard_normal(200) + 3 * labels - 3)))
    low = calibration.reliability(labels, probabilities, 0.02).assign(stage="as trained")
    return pd.concat([low, low.assign(stage="calibrated", predicted=low["predicted"] / 2)], ignore_index=True)


RECALL = pd.DataFrame({"type": ["RB", "a rather long name", "AF"], "n": [40, 12, 1], "found": [30, 0, 1],
                       "recall": [0.75, 0.0, 1.0], "lo": [0.59, 0.0, 0.025], "hi": [0.87, 0.26, 1.0]})


def every_figure() -> dict[str, Axes]:
    single = curve_frame(["simclr"]).drop(columns="method")
    budget = operating_points.budget_table(np.arange(100.0), np.arange(100.0), np.arange(50.0) + 60)
    return {"roc": detection_figures.roc(single, points=budget, title="ROC"),
            "roc of many": detection_figures.roc(curve_frame(METHODS)),
            "precision": detection_figures.precision_recall(single),
            "precision of many": detection_figures.precision_recall(curve_frame(METHODS)),
            "reliability": detection_figures.reliability(reliability_frame()),
            "recall": detection_figures.recall_by_type(RECALL, title="At 5 % false alarms")}


@pytest.mark.parametrize("name", ["roc", "roc of many", "precision", "precision of many", "reliability", "recall"])
def test_only_colours_that_the_page_can_replace_and_no_text_is_clipped(name: str) -> None:
    with style.house_style():
        ax = every_figure()[name]
        figure = ax.get_figure(root=True)
        assert isinstance(figure, Figure)
        svg = figures.to_svg(figure)
        box = figure.bbox
        drawn = [text for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))
                 if text.get_text() and text.get_visible()]
        ends = [text.get_window_extent() for text in drawn]
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= set(INKS)
    inside = [end for end in ends if end.x0 >= box.x0 - 1 and end.x1 <= box.x1 + 1 and end.y1 <= box.y1 + 1]
    assert len(inside) == len(ends)


@pytest.mark.parametrize("draw", [detection_figures.roc, detection_figures.precision_recall])
def test_every_method_has_its_colour_and_a_marker_of_its_own(draw: object) -> None:
    ax = draw(curve_frame(METHODS))  # type: ignore[operator]
    curves = [line for line in ax.lines if line.get_marker() not in ("", "None")]
    assert [line.get_color() for line in curves] == [style.method_style(m, METHODS).color for m in METHODS]
    assert len({line.get_marker() for line in curves}) == len(METHODS)
    assert len(ax.get_legend().get_texts()) == len(METHODS)
    assert not [c for c in ax.collections if isinstance(c, PolyCollection)]  # bands would hide each other


def test_a_single_curve_has_its_band_and_the_values_of_the_frame() -> None:
    frame = curve_frame(["simclr"])
    ax = detection_figures.roc(frame)
    [line] = [line for line in ax.lines if line.get_marker() == "o"]
    assert np.array_equal(line.get_xdata(), frame["fpr"])
    assert np.array_equal(line.get_ydata(), frame["tpr"])
    assert len([c for c in ax.collections if isinstance(c, PolyCollection)]) == 1


def test_the_operating_point_stands_where_the_table_says_and_an_unknown_one_is_left_out() -> None:
    budget = operating_points.budget_table(np.arange(100.0), np.arange(100.0), np.arange(50.0) + 60)
    ax = detection_figures.roc(curve_frame(["simclr"]), points=budget)
    [point] = [line for line in ax.lines if line.get_marker() == "D"]
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.05, budget["tpr"][0])
    few = operating_points.budget_table(np.arange(10.0), np.arange(100.0), np.arange(50.0))
    ax = detection_figures.roc(curve_frame(["simclr"]), points=few)
    assert not [line for line in ax.lines if line.get_marker() == "D"]


def test_the_chance_line_of_precision_is_the_prevalence() -> None:
    ax = detection_figures.precision_recall(curve_frame(["simclr"]))
    assert any(list(line.get_ydata()) == [0.02, 0.02] for line in ax.lines)
    assert "line: chance, 2 % are defects" in [text.get_text() for text in ax.texts]


def test_a_bin_without_defects_is_hollow_on_the_lower_edge() -> None:
    frame = reliability_frame().query("stage == 'calibrated'")
    empty = frame["n_defects"].eq(0)
    assert 0 < empty.sum() < len(frame)
    ax = detection_figures.reliability(frame)
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == "white" and len(line.get_xdata())]
    assert [len(line.get_xdata()) for line in hollow] == [empty.sum()]
    assert set(hollow[0].get_ydata()) == {ax.get_ylim()[0]}
    assert ax.get_ylim()[0] > 0


def test_recall_stands_in_the_order_of_the_table_with_n_and_intervals() -> None:
    ax = detection_figures.recall_by_type(RECALL)
    assert [text.get_text() for text in ax.get_yticklabels()] == [
        "RB (n = 40)", "a rather long name (n = 12)", "AF (n = 1)"]
    bottom, top = ax.get_ylim()
    assert bottom > top  # the first row on top
    [segments] = [c.get_segments() for c in ax.collections if isinstance(c, LineCollection)]
    assert [(s[0][0], s[1][0]) for s in segments] == list(zip(RECALL["lo"], RECALL["hi"], strict=True))


def test_empty_frames_give_empty_axes() -> None:
    empty = detection.curve(np.zeros(3), np.arange(3.0), 0.1)
    for ax in (detection_figures.roc(empty), detection_figures.precision_recall(empty),
               detection_figures.reliability(calibration.reliability(np.zeros(3), np.zeros(3), 0.1)),
               detection_figures.recall_by_type(RECALL.iloc[:0])):
        figure = ax.get_figure(root=True)
        assert isinstance(figure, Figure)
        figure.draw_without_rendering()


def test_axes_that_are_given_are_drawn_on() -> None:
    ax = figures.new_axes()
    assert detection_figures.roc(curve_frame(["simclr"]), ax) is ax
    assert detection_figures.recall_by_type(RECALL, figures.new_axes(5, 2)).get_figure(root=True) is not None
