"""Hyper-parameter search: what it spent, whether tuning changes the ranking, what doing without labels costs, and which
settings matter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ablation.analysis import search_figures, search_findings, search_tables
from ablation.analysis.bundle import Bundle, Panel, limits
from ablation.analysis.document import Block, Cell, Details, Heading, Note, Section, Table, Text, code
from ablation.analysis.findings import method_order
from ablation.analysis.formats import number, p_value, signed_spanned, spanned, whole, words
from ablation.analysis.importance import LEAST
from ablation.analysis.search_tables import PAIR, SEARCH, is_labelled
from ablation.analysis.sections.search_settings import setting_blocks
from ablation.analysis.sections.view import StudyView
from ablation.analysis.setting_scale import setting_label, settings_of, value_label
from ablation.analysis.style import (
    SUPERVISED,
    backbone_label,
    level_label,
    level_order,
    method_entries,
    method_style,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONG_TABLE = 12
"""More rows than this are folded away."""
HOW = (
    "A search is one method, backbone and level with one objective. A candidate's value is the mean of the objective "
    "over the tuning seeds, on validation images; the test images are never seen. The winner's value is the best of "
    "many and so flatters it: everything said of methods below comes from trials on fresh seeds, which no search has "
    "seen, scored on the test images. One search per cell is one draw: intervals are over fresh seeds for the settings "
    "that were found, not over searches."
)


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """Budget, tuned against default, label-free tuning, importance; None for a study without a search."""
    candidates = view.results.search_dataframe()
    if candidates.empty:
        return None
    arms = view.results.arms_dataframe()
    if arms.empty:
        arms = pd.DataFrame(columns=["key", "arm", "state", *PAIR])
    candidates = search_tables.with_recipe(candidates, view.results.trials_dataframe())
    names = search_tables.objectives(candidates)
    bundle.table("search_candidates", candidates)
    blocks = _spent(candidates, names[0], bundle)
    blocks += _ranking(arms, names, view, bundle)
    blocks += _without_labels(candidates, arms, names, view, bundle)
    blocks += setting_blocks(candidates, names[0], view, bundle)
    blocks += _found(candidates)
    return Section("search", "Hyper-parameter search", tuple(blocks))


def _spent(candidates: pd.DataFrame, first: str, bundle: Bundle) -> list[Block]:
    table = search_tables.accounting(candidates)
    bundle.table("search_budget", table)
    shown = Table.from_frame("search_budget", "What each search spent", _named(table), {
        "search": ("Search", words), "metric": ("Objective", code),
        ("candidates", "complete", "pruned", "failed", "running"): ("Candidates", _states),
        "epochs": ("Epochs", whole), "images": ("Images", whole), "seconds": ("Seconds", whole),
        "recipe": ("Recipe", _value), "value": ("Winner", _value), "winner": ("Its number", whole)},
        "Recipe, winner: the objective on validation images. Number 0 is the recipe.")
    return [Text(search_findings.budget_sentence(table)), Note(HOW), _history(candidates, first, bundle),
            _folded("What each search spent", shown)]


def _history(candidates: pd.DataFrame, first: str, bundle: Bundle) -> Block:
    frame = search_tables.progress(candidates[candidates["metric"].eq(first)])
    levels, backbones = level_order(frame["imbalance"].tolist()), sorted(set(frame["backbone"]))
    methods = method_order(frame)

    def panel(method: str) -> Panel:
        rows = frame[frame["method"].eq(method)]
        return f"{first} of every candidate of {method} over the images spent", lambda ax: search_figures.history(
            rows, ax=ax, title=method_style(method, methods).label, levels=levels, backbones=backbones, ylabel=first)

    legend = search_figures.search_entries(levels, backbones, True, bool(frame["state"].eq("FAIL").any()))
    return bundle.plot(
        "search_history", f"{code(first)} of every candidate over the training images that its search has spent; the "
        "line is the best complete value so far. Small and hollow: stopped early, at the value it had then.",
        [panel(method) for method in methods], legend=legend)


def _ranking(arms: pd.DataFrame, names: list[str], view: StudyView, bundle: Bundle) -> list[Block]:
    """Does the ranking of methods change from recipes to found settings?"""
    blocks: list[Block] = [Heading("Does tuning change the ranking?")]
    found, pairs = ({name: table(arms, view.metric, name) for name in names}
                    for table in (search_tables.gains, search_tables.exchanges))
    known = [name for name in names if len(found[name])]
    if not known:
        return [*blocks, Text(f"No trial on fresh seeds has {code(view.metric)} in both arms yet, recipe and tuned.")]
    for word, frames in (("gains", found), ("pairs", pairs)):
        bundle.table(f"search_{word}", pd.concat([frames[name].assign(objective=name) for name in known]))
    drawn = pd.concat([found[name] for name in known])
    methods = method_order(drawn)
    span = limits(pd.concat([drawn[f"{arm}{end}"] for arm in ("recipe", "tuned") for end in ("", "_lo", "_hi")]))

    def panel(name: str) -> Panel:
        def draw(ax: Axes) -> None:
            search_figures.slopes(found[name], metric=view.metric, ax=ax, title=f"by {name}", methods=methods)
            ax.set_ylim(*span)

        return f"Mean {view.metric} of each method with its recipe and tuned by {name}", draw

    blocks += [Text(f"Tuned by {code(name)}. {search_findings.ranking_sentence(found[name], pairs[name])}")
               for name in known]
    blocks.append(bundle.plot(
        "search_slopes", f"Mean `{view.metric}` on fresh seeds, with recipes and with the settings found. Bars: 95 % "
        "intervals of the means, over pre-training subsets. Both arms share their subsets, so that a gain can be plain "
        "where bars overlap: the table has its own interval.", [panel(name) for name in known], kind="wide",
        legend=method_entries(methods)))
    for i, name in enumerate(known):
        gain, differences = _gain_table(i, name, found[name], view), _pair_tables(i, name, pairs[name])
        blocks += [gain] if i == 0 else []
        blocks += [Details(f"{'Pairs of methods' if i == 0 else 'Methods and pairs'}, tuned by {name}",
                           (*([gain] if i else []), *differences))] if i or differences else []
    return blocks


def _gain_table(number_of: int, name: str, found: pd.DataFrame, view: StudyView) -> Table:
    methods = found["method"].tolist()
    frame = found.assign(label=[method_style(method, methods).label for method in methods],
                         kind=["supervised" if method == SUPERVISED else "" for method in methods])
    caption = f"Recipe and tuned by {code(name)}: mean {code(view.metric)} on fresh seeds"
    return Table.from_frame(
        f"search-gains-{number_of}", caption, frame, {
            "label": ("Method", words), ("n", "planned", "alike", "blocks"): ("Pairs of trials", _pairs_of),
            ("recipe", "recipe_lo", "recipe_hi"): ("Recipe", spanned),
            ("tuned", "tuned_lo", "tuned_hi"): ("Tuned", spanned), ("gain", "lo", "hi"): ("Gain", signed_spanned),
            "p": ("p", p_value), ("rank_recipe", "rank_tuned"): ("Rank", _ranks)},
        "A pair is one cell and fresh seed that both arms have finished, in the cells that every self-supervised "
        "method has. Gain: positive = tuned is better; p of each by itself.", kind="kind")


def _pair_tables(number_of: int, name: str, pairs: pd.DataFrame) -> list[Table]:
    if pairs.empty:
        return []
    methods = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    frame = pairs.assign(
        pair=[f"{method_style(a, methods).label} − {method_style(b, methods).label}"
              for a, b in zip(pairs["a"], pairs["b"], strict=True)],
        verdict=[_verdict(row) for row in pairs.to_dict("records")])
    return [Table.from_frame(
        f"search-pairs-{number_of}", f"Pairs of methods, recipe and tuned by {code(name)}", frame, {
            "pair": ("Pair", words), "n": ("n", whole),
            ("recipe", "recipe_lo", "recipe_hi"): ("Recipe", signed_spanned),
            ("tuned", "tuned_lo", "tuned_hi"): ("Tuned", signed_spanned), "verdict": ("Order", words)},
        "Differences paired by cell and seed, positive = the first is better; intervals hold for all pairs together "
        "(Bonferroni).")]


def _verdict(row: dict[Any, Any]) -> str:
    if row["shown"]:
        return "changes"
    return "changes, not beyond doubt" if row["swapped"] else "kept beyond doubt" if row["kept"] else "kept"


def _without_labels(candidates: pd.DataFrame, arms: pd.DataFrame, names: list[str], view: StudyView,
                    bundle: Bundle) -> list[Block]:
    """What each objective gains, and label-free ones lose against labels."""
    table = search_tables.tuning(arms, view.metric, names)
    if not table["n"].any():
        return []
    agreement = search_tables.shared_candidates(candidates)
    table = table.merge(agreement.rename(columns={"n": "num_shared", "lo": "rho_lo", "hi": "rho_hi", "p": "rho_p"}),
                        on="objective", how="left")
    bundle.table("search_objectives", table)
    columns: dict[str | tuple[str, ...], tuple[str, Any]] = {
        "objective": ("Tuned by", code), "n": ("n", whole),
        ("gain", "gain_lo", "gain_hi"): ("Gain on recipes", signed_spanned)}
    free = not all(map(is_labelled, names))
    if free:
        columns |= {("num_regret", "regret", "lo", "hi"): ("Cost against labels", _cost),
                    ("kept", "kept_lo", "kept_hi"): ("Gain kept", _kept),
                    ("num_shared", "rho", "rho_lo", "rho_hi"): ("ρ over shared candidates", _agreement)}
    note = ("Self-supervised methods, paired by cell and fresh seed. Cost: labelled tuning less this one. Gain kept: "
            "share of the labelled gain, by Fieller's theorem, only where that gain is shown. ρ: rank correlation with "
            "the labelled objective over the candidates that both searches have asked, inside cells; a dash below "
            f"{LEAST} of them.")
    return [Heading("What tuning without labels costs" if free else "What tuning gains"),
            Text(search_findings.tuning_sentence(table, view.metric)),
            Table.from_frame("search_objectives", f"Objectives of the search, by {code(view.metric)} on fresh seeds",
                             table, columns, note if free else "")]


def _found(candidates: pd.DataFrame) -> list[Block]:
    """Settings of the winners, and of the Pareto front where there are two objectives."""
    blocks: list[Block] = []
    for word, mask, title in (("winners", candidates["best"].astype(bool), "What each search found"),
                              ("pareto", candidates["pareto"].astype(bool) & candidates["cost"].notna(),
                               "Candidates that no other beats in both score and cost")):
        rows = candidates[mask]
        if rows.empty:
            continue
        frame = _named(rows.assign(found=[_settings_text(row, rows) for row in rows.to_dict("records")]))
        columns: dict[str | tuple[str, ...], tuple[str, Any]] = {
            "search": ("Search", words), "metric": ("Objective", code), "number": ("Candidate", whole),
            "value": ("Value", _value)}
        if rows["cost"].notna().any():
            columns["cost"] = ("Cost", _value)
        blocks.append(_folded(title, Table.from_frame(f"search_{word}", title, frame, columns | {
            "found": ("Settings", words)}), always=True))
    return blocks


def _named(frame: pd.DataFrame) -> pd.DataFrame:
    methods = list(dict.fromkeys(frame["method"]))
    return frame.assign(search=[f"{method_style(m, methods).label}, {backbone_label(b)}, {level_label(p)}"
                                for m, b, p in frame[list(SEARCH[:3])].itertuples(index=False)])


def _folded(title: str, table: Table, always: bool = False) -> Block:
    return Details(title, (table,)) if always or len(table.rows) > LONG_TABLE else table


def _settings_text(row: dict[Any, Any], frame: pd.DataFrame) -> str:
    text = ", ".join(f"{setting_label(name)} {value_label(row[name])}" for name in settings_of(frame)
                     if row[name] == row[name] and row[name] is not None)
    return f"the recipe: {text}" if row["is_recipe"] else text


def _value(value: object) -> str:
    return number(value, ".4g")


def _states(candidates: int, complete: int, pruned: int, failed: int, running: int) -> Cell:
    counts = ((complete, "complete"), (pruned, "stopped early"), (running, "running"))
    return Cell(whole(candidates), notes=tuple(f"{count} {word}" for count, word in counts if count),
                problems=(f"{failed} failed",) if failed else ())


def _pairs_of(n: int, planned: int, alike: int, blocks: int) -> Cell:
    notes = [f"in {blocks} cell{'' if blocks == 1 else 's'}"] + [f"the recipe won {alike} of them"] * (alike > 0)
    lost = (f"{planned - n} of {planned} without a partner",) if planned > n else ()
    return Cell(whole(n), notes=tuple(notes), problems=lost)


def _ranks(before: float, after: float) -> str:
    return f"{number(before, 'g')} → {number(after, 'g')}" if before == before else ""


def _cost(n: float, value: float, lo: float, hi: float) -> Cell:
    shown = signed_spanned(value, lo, hi)
    return Cell(shown.text, shown.interval, (f"n = {whole(n)}",) if n == n else ())


def _kept(value: float, lo: float, hi: float) -> Cell:
    span = f"({number(100 * lo, '.0f')} to {number(100 * hi, '.0f')} %)" if value == value else ""
    return Cell(f"{number(100 * value, '.0f')} %" if value == value else "–", span)


def _agreement(n: float, rho: float, lo: float, hi: float) -> Cell:
    if not n >= LEAST:
        return Cell("–")
    return Cell(number(rho, "+.2f"), f"({number(lo, '+.2f')} to {number(hi, '+.2f')})", (f"n = {whole(n)}",))


