"""The scale on which a searched setting is looked at: logarithmic, plain, or choices without an order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from ablation.distributions import Categorical, Integer, LogUniform

if TYPE_CHECKING:
    from ablation.distributions import Distribution, Parameter

PREFIX = "set."
"""Of the columns of ``StudyResults.search_dataframe`` that hold settings."""
LOG_RATIO = 10.0
"""Without a search space at hand, positive values that reach over this ratio are taken as logarithmic."""


@dataclass(frozen=True)
class SettingScale:
    """Where values of one setting stand. ``low`` and ``high`` hold the space and everything observed."""

    kind: Literal["log", "linear", "choice"]
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Any, ...] = ()

    @classmethod
    def of(cls, values: pd.Series, distribution: Distribution | None = None) -> SettingScale:
        """From the space's distribution and the ``values``, or from the values alone. Missing ones are ignored."""
        known = [value for value in values.tolist() if not missing(value)]
        if isinstance(distribution, Categorical) or not all(_is_number(value) for value in known):
            own = distribution.choices if isinstance(distribution, Categorical) else ()
            return cls("choice", choices=_ordered([*own, *known]))
        ends = [*known, *(() if distribution is None else distribution.extremes())]
        low, high = (float(end(ends)) for end in (min, max)) if ends else (0.0, 1.0)
        log = (isinstance(distribution, LogUniform) or (isinstance(distribution, Integer) and distribution.log)
               or (distribution is None and high >= LOG_RATIO * low))
        return cls("log" if log and low > 0 else "linear", low, high)

    def position(self, values: pd.Series) -> np.ndarray:
        """(N,) places from 0 to 1; choices at equal distances; NaN where missing."""
        known = values.tolist()
        if self.kind == "choice":
            last = max(1, len(self.choices) - 1)
            return np.array([math.nan if missing(v) else self.choices.index(v) / last for v in known])
        numbers = np.array([math.nan if missing(v) else float(v) for v in known])
        if self.high <= self.low:
            return np.where(np.isnan(numbers), math.nan, 0.5)
        if self.kind == "log":
            return np.asarray(np.log(numbers / self.low) / math.log(self.high / self.low))
        return (numbers - self.low) / (self.high - self.low)


def settings_of(candidates: pd.DataFrame) -> list[str]:
    """Columns of the settings that some candidate has, in the frame's order."""
    return [name for name in candidates.columns if name.startswith(PREFIX) and candidates[name].notna().any()]


def scales(candidates: pd.DataFrame, parameters: Sequence[Parameter] = ()) -> dict[str, SettingScale]:
    """The scale of every setting that some candidate has, by column."""
    known = {PREFIX + parameter.path: parameter.distribution for parameter in parameters}
    return {name: SettingScale.of(candidates[name], known.get(name)) for name in settings_of(candidates)}


def setting_label(column: str) -> str:
    """``set.train.options.temperature`` -> ``temperature``."""
    return column.removeprefix(PREFIX).removeprefix("train.").removeprefix("options.")


def value_label(value: object) -> str:
    """A setting's value in few characters."""
    if missing(value):
        return "–"
    return f"{value:.3g}" if isinstance(value, float) and not float(value).is_integer() else str(
        int(value) if isinstance(value, float) else value)


def missing(value: object) -> bool:
    return value is None or value is pd.NA or value != value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _ordered(values: Sequence[Any]) -> tuple[Any, ...]:
    """Each once; numbers by size, anything else as it comes."""
    distinct = list(dict.fromkeys(values))
    return tuple(sorted(distinct) if all(_is_number(value) for value in distinct) else distinct)
