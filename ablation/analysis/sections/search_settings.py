"""Which settings of a search matter: importance, and the values of those that matter most."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pandas as pd

from ablation.analysis import search_figures, search_tables
from ablation.analysis.bundle import Bundle, Panel
from ablation.analysis.document import Block, Details, Heading, Note, Table, Text, code
from ablation.analysis.findings import method_order
from ablation.analysis.formats import fixed3, whole, words
from ablation.analysis.importance import LEAST, importance
from ablation.analysis.sections.view import StudyView
from ablation.analysis.setting_scale import SettingScale, scales, setting_label, settings_of
from ablation.analysis.style import backbone_label, level_order, method_style
from ablation.errors import AblationError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ablation.distributions import Parameter

HOW = (
    "Functional ANOVA (Hutter, Hoos and Leyton-Brown 2014; Optuna's `FanovaImportanceEvaluator`) of a random forest "
    "over the complete candidates of a method on one backbone, each less the mean of its level: the share of the "
    "variance over the whole space that a setting explains by itself; the rest is joint effects. It is not what gets a "
    "candidate to the top. A search looks where it is good, and stopped candidates are left out, so that a share is a "
    "hint. Hollow: the forest does not predict candidates it has not seen (R² at 0 or below), so shares describe noise."
)
MAX_SLICES = 6
MAX_PARALLEL, MAX_AXES = 4, 5
Scales = dict[tuple[str, str], dict[str, SettingScale]]
"""Of every (method, backbone)."""


def setting_blocks(candidates: pd.DataFrame, first: str, view: StudyView, bundle: Bundle) -> list[Block]:
    """Importance of every setting, and the figures of those that matter most."""
    space = _space_name(view)
    parts, own = [], {}
    for names, part in candidates.groupby(["method", "backbone", "metric"], sort=False):
        method, backbone, metric = map(str, names)
        parameters = _parameters(method, backbone, space)
        parts.append(importance(part, parameters).assign(method=method, backbone=backbone, metric=metric))
        if metric == first:
            own[method, backbone] = scales(part, parameters)
    table = pd.concat(parts, ignore_index=True)
    bundle.table("search_importance", table)
    drawn = table[table["metric"].eq(first) & table["share"].notna()]
    blocks: list[Block] = [Heading("Which settings matter")]
    if drawn.empty:
        most = int(table["n"].max()) if len(table) else 0
        blocks.append(Text(f"Importance needs {LEAST} complete candidates of a method on one backbone, with different "
                           f"values; the most here are {most}."))
    else:
        blocks += _importance_blocks(drawn, table, bundle)
    complete = search_tables.places(candidates[candidates["metric"].eq(first)])
    if len(complete):
        blocks += [_slices(complete, drawn, own, first, bundle), _parallel(complete, drawn, own, bundle)]
    return blocks


def _importance_blocks(drawn: pd.DataFrame, table: pd.DataFrame, bundle: Bundle) -> list[Block]:
    methods, backbones = method_order(drawn), sorted(set(drawn["backbone"]))

    def panel(method: str) -> Panel:
        rows = drawn[drawn["method"].eq(method)]
        return f"Share of variance that each setting of {method} explains", lambda ax: search_figures.importance_bars(
            rows, ax=ax, title=method_style(method, methods).label, backbones=backbones)

    most = int(drawn.groupby("method")["setting"].nunique().max())
    named = table.assign(search=[f"{method_style(m, methods).label}, {backbone_label(b)}" for m, b in
                                 zip(table["method"], table["backbone"], strict=True)],
                         label=table["setting"].map(setting_label))
    rows = Table.from_frame("search_importance", "Functional ANOVA of every search", named, {
        "search": ("Search", words), "metric": ("Objective", code), "label": ("Setting", words),
        "share": ("Share of variance", fixed3), "n": ("Candidates", whole), "r2": ("R² of the forest", fixed3),
        "note": ("Note", words)})
    return [Note(HOW),
            bundle.plot("search_importance", "Importance of every setting, one panel per method.",
                        [panel(method) for method in methods], height=max(1.6, 0.8 + 0.26 * most),
                        legend=search_figures.bar_entries(backbones)),
            Details("Importance of every setting", (rows,))]


def _slices(complete: pd.DataFrame, drawn: pd.DataFrame, own: Scales, first: str,
            bundle: Bundle) -> Block:
    """The most important settings of every method; the first ones of its space where nothing is known of that."""
    methods = method_order(complete)
    levels, backbones = level_order(complete["imbalance"].tolist()), sorted(set(complete["backbone"]))
    panels: list[Panel] = []
    for method in methods:
        rows = complete[complete["method"].eq(method)]
        for setting in _leading(rows, drawn)[:max(1, MAX_SLICES // len(methods))]:
            scale = SettingScale.of(rows[setting], None)
            kinds = [found[setting] for (name, _), found in own.items() if name == method and setting in found]
            if len(kinds) == 1 or kinds[0].kind == "choice":
                scale = kinds[0]
            panels.append((f"{first} of {method} over {setting_label(setting)}", _slice(
                rows, setting, scale, method_style(method, methods).label, levels, backbones, first)))
    which = "the most important settings" if len(drawn) else "the first settings"
    return bundle.plot("search_slices", f"{code(first)} of every complete candidate over {which} of each method; all "
                       "others move too.", panels,
                       legend=search_figures.search_entries(levels, backbones))


def _slice(rows: pd.DataFrame, setting: str, scale: SettingScale, title: str, levels: list[object],
           backbones: list[str], ylabel: str) -> Callable[[Axes], object]:
    return lambda ax: search_figures.slices(rows, setting, scale, ax=ax, title=title, levels=levels,
                                            backbones=backbones, ylabel=ylabel)


def _parallel(complete: pd.DataFrame, drawn: pd.DataFrame, own: Scales,
              bundle: Bundle) -> Block:
    groups = list(own)
    if len(groups) > MAX_PARALLEL:  # one backbone of every method
        groups = [next(key for key in groups if key[0] == method) for method in method_order(complete)]
    methods = method_order(complete)

    def panel(method: str, backbone: str) -> Panel:
        rows = complete[complete["method"].eq(method) & complete["backbone"].eq(backbone)]
        order = [name for name in _leading(rows, drawn) if name in own[method, backbone]][:MAX_AXES]
        title = f"{method_style(method, methods).label}, {backbone_label(backbone)}"
        return f"Settings of the candidates of {title}", lambda ax: search_figures.parallel(
            rows, {name: own[method, backbone][name] for name in order}, ax=ax, title=title)

    left = len(own) - len(groups)
    return bundle.plot(
        "search_parallel", f"Settings of every complete candidate{', most important first' if len(drawn) else ''}"
        f"{f', at most {MAX_AXES}' if max(map(len, own.values())) > MAX_AXES else ''}; blue: the best quarter of each "
        "search, dashed: the recipe. All levels together."
        + (f" One backbone of each method; the other {left} are in `tables/search_candidates.csv`." if left else ""),
        [panel(*key) for key in groups], kind="wide")


def _leading(rows: pd.DataFrame, drawn: pd.DataFrame) -> list[str]:
    """Settings that ``rows`` have, most important first."""
    own = drawn[drawn["method"].isin(rows["method"]) & drawn["backbone"].isin(rows["backbone"])]
    share = own.groupby("setting")["share"].mean()
    return sorted(settings_of(rows), key=lambda name: -float(share.get(name, 0.0)))


def _space_name(view: StudyView) -> str:
    from ablation.spaces import DEFAULT
    from ablation.spec import StudySpec

    try:
        search = StudySpec.load(view.results.study_dir / "study.yaml").search
    except (AblationError, OSError):
        return DEFAULT
    return DEFAULT if search is None else search.space


def _parameters(method: str, backbone: str, name: str) -> tuple[Parameter, ...]:
    """Of the search space; none where it cannot be had any more."""
    from ablation.spaces import load_space

    try:
        return load_space(method, name).for_backbone(backbone)
    except (AblationError, OSError):
        return ()
