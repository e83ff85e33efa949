"""How the numbers are made, and of what: data, versions, metrics and the study's own file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ablation.analysis.bundle import Bundle
from ablation.analysis.document import Block, Bullets, Code, Details, Heading, Row, Section, Table, Text, code
from ablation.analysis.sections.view import StudyView
from ablation.analysis.style import level_label, level_order
from ablation.analysis.tables import higher_is_better
from ablation.forecast import told
from trainers.evaluation.catalogue import METRICS
from trainers.evaluation.custom import PREFIX

HOW = (
    "n counts finished trials that report the metric. Intervals are 95 %; below n = 3 there is none.",
    "Trials of one level and seed are trained on the same pictures: in every interval and permutation such a subset "
    "moves as one. Subsets of one seed are nested over the levels; intervals over several levels take them as "
    "independent.",
    "The validation and test sets are the same for every level, method and seed; only the pre-training images change.",
    "Random init is the same probe on the untrained backbone; all methods of one seed share it, so its n counts seeds.",
    "RankMe: exp(entropy) of the singular values σ/Σσ + 1e-7 of the raw, uncentred features, float64, at most 25,600 "
    "images; `rankme` on the backbone's output, `rankme_embedding` on the projector's (Garrido et al., ICML 2023).",
    "Correlation: Spearman's ρ. **Within** ranks trials only inside their group; p gives the scores of one subset to "
    "another of the same level, the interval has that null's deviation. **Between** compares the means of methods, "
    "**pooled** takes all trials as one, its interval resamples methods.",
    "How often each interval holds the truth in simulated studies: docs/results/statistics.md of the project.",
)


def section(view: StudyView, bundle: Bundle) -> Section:
    blocks: list[Block] = []
    if subsets := _subsets(view.trials):
        blocks.append(Table("subsets", "Pre-training images", ("Level", "Images"), subsets))
    blocks += [Heading("How the numbers are made"), Bullets(HOW)]
    if accuracy := told(view.results.store):
        blocks.append(Text(f"Time of the last launch on one machine: {accuracy}."))
    if provenance := shared(view.trials):
        rows = tuple(Row((code(name), value)) for name, value in provenance)
        blocks.append(Table("provenance", "Versions and data", ("Field", "Value over all trials"), rows))
    keys = {c.removeprefix("metrics.") for c in view.trials.columns if c.startswith("metrics.")}
    known = [(key, info.summary, info.range, info.better, info.source) for key, info in METRICS.items() if key in keys]
    known += [(key, "the study's own", "", "higher" if higher_is_better(key) else "lower", "the study file")
              for key in sorted(keys) if key.startswith(PREFIX)]
    if glossary := tuple(Row((code(key), *about)) for key, *about in known):
        table = Table("metrics", "Metrics", ("Metric", "Meaning", "Range", "Better", "Source"), glossary)
        blocks.append(Details("What the metrics mean", (table,)))
    study_file = Path(view.results.study_dir) / "study.yaml"
    if study_file.is_file():
        blocks.append(Code("study.yaml", study_file.read_text()))
    return Section("settings", "Settings and provenance", tuple(blocks))


def _subsets(trials: pd.DataFrame) -> tuple[Row, ...]:
    """Pre-training images per level, as text."""
    if not {"num_defects", "num_normals"} <= set(trials):
        return ()
    rows = []
    for level in level_order(trials["imbalance"].tolist()):
        known = trials.loc[trials["imbalance"] == level, ["num_defects", "num_normals"]].dropna()
        pairs = sorted(known.astype(int).drop_duplicates().itertuples(index=False, name=None))
        if pairs:
            text = " or ".join(f"{d:,} defects + {n:,} normals" for d, n in pairs[:3])
            rows.append(Row((level_label(level), text)))
    return tuple(rows)


def shared(trials: pd.DataFrame, prefix: str = "provenance.") -> list[tuple[str, str]]:
    """Provenance fields as (name, value); differing values are counted, so that a mixed study shows."""
    rows = []
    for column in (c for c in trials.columns if c.startswith(prefix)):
        values: Sequence[object] = [v for v in trials[column].dropna().tolist() if v != ""]
        counts = pd.Series([str(v) for v in values]).value_counts().sort_index()
        if len(counts) == 1:
            rows.append((column.removeprefix(prefix), str(counts.index[0])))
        elif 1 < len(counts) <= 6:
            rows.append((column.removeprefix(prefix), "mixed: " + ", ".join(f"{v} ({c}×)" for v, c in counts.items())))
        elif len(counts):
            rows.append((column.removeprefix(prefix), f"{len(counts)} different values"))
    return rows
