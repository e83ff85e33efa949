"""What the MLflow page says about a study: how far it is, and the mean score of every cell. Markdown."""

from __future__ import annotations

from collections import Counter

from ablation.store import StudyStore

MAX_ROWS = 40
METRIC = "metrics.probe/auroc"


def study_note(study: StudyStore, links: str) -> str:
    """A line of states with ``links``, and a table of mean probe AUROC: method and backbone down, imbalance across."""
    from ablation.console import markdown
    from ablation.results import load_study

    results = load_study(study.name, store=study.path.parent)
    frame = results.reported_trials()
    counts = Counter(results.trials_dataframe()["state"])
    states = ", ".join(f"{count} {state}" for state, count in counts.most_common())
    lines = [f"**{study.name}**: {states}. {links}", ""]
    if METRIC in frame and frame[METRIC].notna().any():
        cells = frame.dropna(subset=[METRIC]).groupby(["method", "backbone", "imbalance"], sort=False)[METRIC]
        table = cells.agg(["mean", "count"]).apply(lambda row: f"{row['mean']:.3f} ({row['count']:.0f})", axis=1)
        wide = table.unstack("imbalance").reset_index()
        lines += ["Mean probe AUROC (number of trials) by imbalance:", "", markdown(wide.head(MAX_ROWS))]
    return "\n".join(lines)
