"""The largest simple balanced part of a grid in which some trials are missing."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from ablation.errors import NothingMatched


def balanced_values(finished: pd.DataFrame, planned: pd.DataFrame, factors: list[str],
                    score: str) -> tuple[np.ndarray, list[str], str]:
    """(values (L_1, ..., L_F, R), factors with two or more levels, note of what was left out).

    Levels whose cells are emptiest are dropped until every cell has at least half of the usual number of trials; then
    every cell keeps as many as the smallest, in order of the seed. ``planned`` holds one row per planned cell. Raises
    ``NothingMatched`` if nothing is left.
    """
    levels = {name: list(dict.fromkeys(planned[name])) for name in factors}
    ordered = finished.sort_values("seed", kind="stable") if "seed" in finished else finished
    grouped = ordered[score].groupby([ordered[name] for name in factors])
    cells = {key: rows.to_numpy(float) for key, rows in grouped}
    notes = []
    # A cell of one trial among cells of five would cost all others four: it counts as empty.
    least = max(1.0, float(np.median([len(values) for values in cells.values()])) / 2) if cells else 1.0
    while empty := [cell for cell in itertools.product(*levels.values()) if len(cells.get(cell, ())) < least]:
        share, name, level = max(
            ((sum(cell[place] == level for cell in empty) * len(levels[name]), name, level)
             for place, name in enumerate(factors) for level in levels[name] if len(levels[name]) > 1),
            key=lambda item: item[0], default=(0, "", None))
        if not share:
            raise NothingMatched("no complete cells: finish more trials of the grid")
        levels[name].remove(level)
        notes.append(f"{name.removeprefix('params.')} {level}")
    used = [name for name in factors if len(levels[name]) > 1]
    if not used:
        raise NothingMatched(f"no factor of {', '.join(factors)} has two complete levels to compare")
    counts = [len(cells[cell]) for cell in itertools.product(*levels.values())]
    repeats = min(counts)
    shape = [len(levels[name]) for name in used] + [repeats]
    values = np.array([cells[cell][:repeats] for cell in itertools.product(*levels.values())]).reshape(shape)
    note = f"left out, too few finished trials in some cell: {', '.join(notes)}" if notes else ""
    surplus = sum(counts) - repeats * len(counts)
    if surplus:
        note += ("; " if note else "") + f"{surplus} trials left out so that every cell has {repeats}"
    if repeats == 1:
        note += ("; " if note else "") + "one seed per cell: the highest interaction stands in for seed noise"
    return values, used, note
