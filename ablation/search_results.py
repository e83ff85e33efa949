"""What a search found, read from the store alone: candidates as a frame, winners as a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from ablation.candidates import RUNNING, turned
from ablation.errors import NothingMatched
from ablation.files import write_atomic
from ablation.search_settings import RECIPE
from ablation.spec import StudySpec
from ablation.store import StudyStore
from trainers.config import suggest
from trainers.names import short_name

COLUMNS = ("method", "backbone", "imbalance", "metric", "number", "state", "value", "epoch", "epochs", "images",
           "seconds", "cost", "is_recipe", "best", "pareto", "reason", "keys")


def candidates(study: StudyStore) -> pd.DataFrame:
    """One row per candidate of each search, in the order of asking; empty for a study without a search.

    Columns: method, backbone, imbalance, metric (the objective), number, state (COMPLETE, PRUNED, FAIL, RUNNING), value
    (objective, mean over the tuning seeds after ``epoch`` epochs), epoch, epochs (begun, over all seeds: what the
    search was charged), images (shown in them), seconds (of training, times ranks), cost, is_recipe, best (the winner),
    pareto (no other is better in value and cost), reason, keys, and ``set.<field>`` per searched setting.
    """
    record = study.read_plan().get("search") or {}
    sizes = {row["key"]: (row.get("num_defects") or 0) + (row.get("num_normals") or 0)
             for row in study.read_plan()["trials"]}
    rows: list[dict[str, Any]] = []
    for search in record.get("searches", ()):
        found = [_row(search, line, sizes) for line in search["candidates"]]
        _mark(found, search["metric"])
        rows += found
    settings = sorted({name for row in rows for name in row if name.startswith("set.")})
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *settings])
    frame["imbalance"] = frame["imbalance"].astype(object if frame["imbalance"].eq("natural").any() else float)
    numbers: dict[str, Any] = dict.fromkeys(("number", "epoch", "epochs", "images"), "int64")
    numbers |= dict.fromkeys(("value", "seconds", "cost"), float) | dict.fromkeys(("is_recipe", "best", "pareto"), bool)
    return frame.astype(numbers)


def _row(search: Mapping[str, Any], line: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
    outcome = line["outcome"] or {"state": RUNNING, "epochs": sum(line["begun"].values())}
    keys = list(line["keys"].values())
    images = max((sizes.get(key, 0) for key in keys), default=0)
    row = {name: search[name] for name in ("imbalance", "metric")}
    row |= {name: short_name(search[name]) for name in ("method", "backbone")}
    row |= {"number": line["number"], "keys": ",".join(keys), "is_recipe": not line["settings"]}
    row |= {name: outcome.get(name) for name in ("state", "value", "cost")}
    row |= {name: outcome.get(name, 0) for name in ("epoch", "epochs", "seconds")}
    row |= {"reason": outcome.get("reason", ""), "images": outcome["epochs"] * images, "best": False, "pareto": False}
    return row | {f"set.{path}": value for path, value in line["settings"].items()}


def _mark(rows: list[dict[str, Any]], metric: str) -> None:
    """Name the winner, and what no other candidate beats in both value and cost."""
    done = [row for row in rows if row["state"] == "COMPLETE" and row["value"] is not None]
    if not done:
        return
    max(done, key=lambda row: (turned(row["value"], metric), -row["number"]))["best"] = True
    for row in done:
        here = turned(row["value"], metric), -(row["cost"] or 0.0)
        others = [(turned(one["value"], metric), -(one["cost"] or 0.0)) for one in done if one is not row]
        row["pareto"] = not any(
            value >= here[0] and cost >= here[1] and (value, cost) != here for value, cost in others)


def tuned(study: StudyStore, metric: str | None = None) -> StudySpec:
    """The same grid with the winner of each cell as overrides and without a search: a study that ``run`` accepts.

    ``metric``: which objective's winners; null = the first. Raises ``NothingMatched`` where no search has a winner.
    """
    spec = StudySpec.load(study.path / "study.yaml")
    frame = candidates(study)
    known = list(spec.search.metric) if spec.search else []
    if metric is None and known:
        metric = known[0]
    if metric not in known:
        raise NothingMatched(f"study '{study.name}' has no search by '{metric}'{suggest(str(metric), known)}; "
                             f"there are {', '.join(known) or 'none'}")
    winners = frame[frame["best"] & frame["metric"].eq(metric)]
    if winners.empty:
        raise NothingMatched(f"study '{study.name}': no search by '{metric}' has completed a candidate yet")
    chosen = set(zip(winners["method"], winners["backbone"], winners["imbalance"], winners["number"], strict=True))
    overrides = spec.to_dict()["overrides"]
    for search in study.read_plan()["search"]["searches"]:
        cell = {name: search[name] for name in ("method", "backbone", "imbalance")}
        for line in search["candidates"] if search["metric"] == metric else ():
            shown = (short_name(search["method"]), short_name(search["backbone"]), search["imbalance"], line["number"])
            if shown in chosen and line["settings"]:
                overrides.append({"where": {name: [value] for name, value in cell.items()}, "set": line["settings"]})
    return StudySpec.from_dict(spec.to_dict() | {"name": f"{spec.name[:58]}-tuned", "search": None,
                                                 "overrides": overrides})


def write_winners(study: StudyStore) -> None:
    """``search/tuned-OBJECTIVE.yaml`` of every objective that has winners."""
    record = study.read_plan().get("search") or {}
    for metric in dict.fromkeys(search["metric"] for search in record.get("searches", ())):
        try:
            spec = tuned(study, metric)
        except NothingMatched:
            continue
        head = f"# Winners of study '{study.name}' by {metric}; cells that are not named keep the {RECIPE}.\n"
        write_atomic(study.path / "search" / f"tuned-{metric.replace('/', '-')}.yaml", head + spec.to_yaml())
