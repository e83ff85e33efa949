"""Which methods differ, how surely, and what would settle the rest."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ablation.analysis import factors, interval_figures, ranking
from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Block, Bullets, Heading, Note, Section, Table, Text
from ablation.analysis.extension import extension
from ablation.analysis.findings import method_order
from ablation.analysis.formats import fixed3, p_value, signed_spanned, spanned, whole
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import backbone_label, context_entries, level_order, method_entries, method_style
from ablation.analysis.tables import aggregate, labels, preference, self_supervised
from ablation.errors import AblationError, NothingMatched
from trainers import plugins

NUM_THRESHOLDS = 60


def section(view: StudyView, bundle: Bundle) -> Section | None:
    """Ranks, pairs, profiles and power; None for fewer than two methods with results."""
    if len(view.done) == 0 or self_supervised(view.done)["method"].nunique() < 2:
        return None
    blocks = [_strip(view, bundle)]
    try:
        table = factors.compare(self_supervised(view.trials), view.metric)
    except NothingMatched as reason:
        return Section("ranks", "Which methods differ", (*blocks, Text(f"Methods cannot be ranked: {reason}.")))
    blocks += _overall(view, bundle)
    bundle.table("ranks", table)
    blocks += _rank_blocks(table, view, bundle)
    blocks += _next_blocks(view, bundle)
    return Section("ranks", "Which methods differ", tuple(blocks))


def _strip(view: StudyView, bundle: Bundle) -> Block:
    levels = level_order(view.done["imbalance"].tolist())
    points = view.done.rename(columns={view.column: "value"})
    backbones = list(dict.fromkeys(points["backbone"]))

    def panel(backbone: str) -> object:
        rows = points[points["backbone"] == backbone]
        return lambda ax: interval_figures.seed_strip(rows, metric=view.metric, ax=ax, levels=levels).set_title(
            backbone_label(backbone))

    return bundle.plot("seeds", f"Every finished trial: `{view.metric}` by method, colour by level, n = {len(points)}.",
                       [(f"Every trial on {name} as one point", panel(name)) for name in backbones],  # type: ignore[misc]
                       kind="wide", legend=context_entries(levels, []))


def _overall(view: StudyView, bundle: Bundle) -> list[Block]:
    """Interquartile mean per method, and the profile of its runs, over the cells that every method has finished."""
    done, note = factors.complete_blocks(self_supervised(view.trials), view.metric)
    frame = aggregate(done, view.metric, by=["method"], stat="iqm")
    bundle.table("iqm", frame)
    methods = method_order(done)
    named = frame.assign(label=[method_style(m, methods).label for m in frame["method"]])
    table = Table.from_frame("iqm", "Interquartile mean over the cells that every method has finished", named, {
        "label": ("Method", str), "n": ("Trials", whole), ("value", "lo", "hi"): ("IQM", spanned)}, note)
    values = done[view.column].to_numpy(float)
    grid = np.linspace(values.min(), values.max(), NUM_THRESHOLDS)
    turned = preference(np.array([1.0]), view.metric)[0]
    rows = []
    for method in methods:
        mine = done[done["method"] == method]
        where, scores = labels(mine, ["backbone", "imbalance"]), turned * mine[view.column].to_numpy(float)
        cells = [scores[where == name] for name in np.unique(where)]
        shares = ranking.performance_profile(cells, turned * grid)
        rows += [{"method": method, "n": len(mine), "threshold": t, "share": s}
                 for t, s in zip(grid, shares, strict=True)]
    bundle.table("profiles", pd.DataFrame(rows))
    profile = bundle.plot("profiles", "Performance profiles: the share of runs beyond a score, cells weighted equally.",
                          [("Share of runs beyond each score, one line per method",
                            lambda ax: interval_figures.profiles(pd.DataFrame(rows), metric=view.metric, ax=ax))],
                          kind="wide", legend=method_entries(methods))
    return [table, profile]


def _rank_blocks(table: pd.DataFrame, view: StudyView, bundle: Bundle) -> list[Block]:
    friedman, pairs = table.iloc[0], table.iloc[1:]
    note = str(friedman["note"])
    blocks: list[Block] = [Note(
        f"A block is one backbone at one level, averaged over seeds: n = {int(friedman['n'])} blocks. Friedman's test "
        f"of equal mean ranks: p {_p(friedman['p'])}. Blocks share data, so p is on the small side. Pairs: difference "
        "of trials of equal seed with its interval over pre-training subsets; P(a beats b) over seeds inside blocks "
        "(Agarwal et al. 2021); Wilcoxon over blocks with Holm; Nemenyi for all pairs of mean ranks at once. "
        "Self-supervised methods only."
        + (f" {note}." if note else ""))]
    names = list(dict.fromkeys([*pairs["a"], *pairs["b"]]))
    ranks = {row["a"]: row["rank_a"] for row in pairs.to_dict("records")}
    ranks |= {row["b"]: row["rank_b"] for row in pairs.to_dict("records")}
    order = sorted(names, key=lambda name: ranks[name])
    width = float(friedman["critical_difference"])
    frame = pd.DataFrame({"method": order, "rank": [ranks[name] for name in order]})
    spans = ranking.cliques(frame["rank"].to_numpy(float), width)
    if len(order) > 2:
        blocks.append(bundle.plot("critical_difference", "Mean ranks over blocks, 1 = best; a bar joins what Nemenyi's "
                                  "test does not tell apart.", [("Critical-difference diagram of the mean ranks",
                                  lambda ax: interval_figures.critical_difference(frame, width, spans, ax=ax))],
                                  kind="tall", height=interval_figures.diagram_height(len(order))))
    blocks.append(bundle.plot("improvement", "P(row beats column), percent; shaded and bold where the 95 % interval "
                              "excludes one half.", [("Probability that one method beats another",
                              lambda ax: interval_figures.improvement_matrix(pairs, order, ax=ax))], kind="wide"))
    blocks.append(Table.from_frame("ranks", "Pairs of methods", _named_pairs(pairs, names), {
        "pair": ("Pair", str), "num_pairs": ("n", whole), ("difference", "lo", "hi"): ("Difference", signed_spanned),
        ("prob_better", "prob_lo", "prob_hi"): ("P(better)", spanned), "p_holm": ("Wilcoxon p (Holm)", p_value),
        "p_nemenyi": ("Nemenyi p", p_value)}))
    return blocks


def _next_blocks(view: StudyView, bundle: Bundle) -> list[Block]:
    """Power of the pairs, and the trials worth running next."""
    from ablation.spec import StudySpec

    try:
        with plugins.foreign():
            spec = StudySpec.load(view.results.study_dir / "study.yaml")
        found = extension(view.trials, spec, view.metric)
    except (AblationError, OSError):
        return []
    if found.pairs.empty:
        return []
    bundle.table("power", found.pairs)
    names = method_order(view.trials)
    named = _named_pairs(found.pairs, names).assign(
        word=["settled" if settled else "open" for settled in found.pairs["settled"]])
    table = Table.from_frame("power", "What the present seeds can show", named, {
        "pair": ("Pair", str), ("n", "blocks"): ("Pairs of trials", _in_blocks),
        ("difference", "lo", "hi"): ("Difference", signed_spanned), "word": ("State", str),
        "smallest": ("Smallest difference shown", fixed3), "more_seeds": ("More seeds to settle", whole)},
        "Intervals hold for all pairs together (Bonferroni). Power 80 %. More seeds: for the difference as seen, which "
        "is itself uncertain; a dash is more than 1,000, or too few seeds to tell.")
    advice = f"`ablation analyze next {view.results.name}` prints the study file that runs them."
    return [Heading("How sure, and what next"), Bullets((*found.lines(), *((advice,) if found.spec else ()))), table]


def _named_pairs(pairs: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    words = [" − ".join(method_style(name, names).label for name in pair)
             for pair in zip(pairs["a"], pairs["b"], strict=True)]
    return pairs.assign(pair=words)


def _p(value: float) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"



def _in_blocks(n: object, blocks: object) -> str:
    return f"{whole(n)} in {whole(blocks)} blocks"
