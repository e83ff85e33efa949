"""Search spaces as plain data: distributions, parameters and the space of one method. No torch and no optuna here."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablation.errors import SpecError
from trainers.config import OptimConfig
from trainers.recipes import FIELDS, GENERIC, kind_of, recipe

if TYPE_CHECKING:
    import numpy as np

KINDS = tuple(GENERIC)
"""The kinds of backbone that have recipes; every backbone takes those of one of them."""
OPTIONS = "train.options."


@dataclass(frozen=True)
class Uniform:
    """A real number between ``low`` and ``high``, both included."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_bounds(self)

    def __str__(self) -> str:
        return f"uniform {self.low:g} to {self.high:g}"

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(self.low, self.high))

    def position(self, value: float) -> float:
        """Where a value stands: 0 at ``low``, 1 at ``high``."""
        return (value - self.low) / (self.high - self.low)

    def extremes(self) -> tuple[float, ...]:
        return float(self.low), float(self.high)


@dataclass(frozen=True)
class LogUniform:
    """A real number whose logarithm is uniform; ``low`` above 0."""

    low: float
    high: float

    def __post_init__(self) -> None:
        # Not the smallest denormal: processes that train flush those to 0 (trainers.machine).
        _check_bounds(self, least=sys.float_info.min)

    def __str__(self) -> str:
        return f"log-uniform {self.low:g} to {self.high:g}"

    def draw(self, rng: np.random.Generator) -> float:
        # exp(log(x)) may miss x by a rounding.
        return min(max(math.exp(rng.uniform(math.log(self.low), math.log(self.high))), self.low), self.high)

    def position(self, value: float) -> float:
        """Where a value above 0 stands by its logarithm: 0 at ``low``, 1 at ``high``."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def extremes(self) -> tuple[float, ...]:
        return float(self.low), float(self.high)


@dataclass(frozen=True)
class Integer:
    """A whole number from ``low`` to ``high``, both included; ``log``: small ones as often as large ones, by ratio."""

    low: int
    high: int
    log: bool = False

    def __post_init__(self) -> None:
        if any(isinstance(bound, bool) or not isinstance(bound, int) for bound in (self.low, self.high)):
            raise SpecError(f"integer: bounds must be whole numbers, got {self.low!r} and {self.high!r}")
        _check_bounds(self, least=1 if self.log else -math.inf)

    def __str__(self) -> str:
        return f"{'log-' if self.log else ''}integer {self.low} to {self.high}"

    def draw(self, rng: np.random.Generator) -> int:
        if not self.log:
            return int(rng.integers(self.low, self.high, endpoint=True))
        drawn = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(max(round(drawn), self.low), self.high)

    def position(self, value: float) -> float:
        """Where a value stands, by its logarithm if ``log``: 0 at ``low``, 1 at ``high``."""
        scale = LogUniform if self.log else Uniform
        return scale(self.low, self.high).position(value)

    def extremes(self) -> tuple[int, ...]:
        return self.low, self.high


@dataclass(frozen=True)
class Categorical:
    """One of at least two values, all equally likely."""

    choices: tuple[bool | int | float | str, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.choices, tuple) or len(set(self.choices)) != len(self.choices) or len(self.choices) < 2:
            raise SpecError(f"categorical: takes a tuple of two or more different values, got {self.choices!r}")

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.choices))}"

    def draw(self, rng: np.random.Generator) -> bool | int | float | str:
        return self.choices[int(rng.integers(len(self.choices)))]

    def extremes(self) -> tuple[bool | int | float | str, ...]:
        """Every choice: they have no order."""
        return self.choices


Distribution = Uniform | LogUniform | Integer | Categorical


def _check_bounds(found: Uniform | LogUniform | Integer, least: float = -math.inf) -> None:
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high):
        raise SpecError(f"{found}: needs two numbers, the lower one first")
    if found.low < least:
        raise SpecError(f"{found}: a logarithmic scale begins {'at 1' if least == 1 else 'above 0'}")


@dataclass(frozen=True)
class Parameter:
    """One searched setting."""

    path: str
    """Field of the study file below ``train``, such as ``train.lr`` or ``train.options.temperature``."""
    distribution: Distribution
    source: str
    """Where the range comes from."""
    backbone: str | None = None
    """Only on this kind of backbone (``resnet``, ``vit``); null = on both."""

    def __post_init__(self) -> None:
        if not self.path.startswith("train.") or self.path in ("train.", OPTIONS):
            raise SpecError(f"{self.path}: only fields below train can be searched, such as train.lr")
        if not isinstance(self.distribution, Distribution):
            raise SpecError(f"{self.path}: got {self.distribution!r}, expected a distribution")
        if not self.source.strip():
            raise SpecError(f"{self.path}: say where the range comes from (source)")
        if self.backbone is not None and self.backbone not in KINDS:
            raise SpecError(f"{self.path}: unknown kind of backbone '{self.backbone}'; there are {', '.join(KINDS)}")


@dataclass(frozen=True)
class Space:
    """What is searched for one method. Building a wrong one raises ``SpecError``.

    Ranges of ``train.lr`` and ``train.weight_decay`` are those of the recipe's optimiser: a study that sets another
    ``train.optimizer`` needs a space of its own.
    """

    method: str
    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        for kind in KINDS:
            paths = [parameter.path for parameter in self.for_backbone(kind)]
            if not paths:
                raise SpecError(f"the space of {self.method} has no parameter for a {kind}")
            if twice := sorted({path for path in paths if paths.count(path) > 1}):
                raise SpecError(f"{twice[0]}: is there twice for a {kind}")

    def for_backbone(self, name: str) -> tuple[Parameter, ...]:
        """The parameters that hold for a backbone: a kind, or a timm name."""
        kind = kind_of(name)
        return tuple(parameter for parameter in self.parameters if parameter.backbone in (None, kind))

    def centre(self, backbone: str) -> dict[str, Any]:
        """Field -> the value without a search; None where the method or the subset decides it (null)."""
        return {parameter.path: own_value(self.method, backbone, parameter.path)
                for parameter in self.for_backbone(backbone)}

    def sample(self, rng: np.random.Generator, backbone: str) -> dict[str, Any]:
        """Field -> value, drawn independently in the order of the parameters."""
        return {parameter.path: parameter.distribution.draw(rng) for parameter in self.for_backbone(backbone)}


def own_value(method: str, backbone: str, path: str) -> Any:
    """What a field below ``train`` is when no study sets it: of the recipe, the method's ``Config``, or the loop.

    Raises ``ConfigError`` for an unknown method, ``AttributeError`` for an unknown field.
    """
    if path.startswith(OPTIONS):
        from trainers.methods import method_config  # loads torch

        return getattr(method_config(method, {})[1], path.removeprefix(OPTIONS))
    name = path.removeprefix("train.")
    return getattr(recipe(method, backbone) if name in FIELDS else OptimConfig(), name)


def settings(method: str) -> Iterator[str]:
    """The fields below ``train`` that make a method's recipe: of the optimiser, the batch, its own ``Config``."""
    from trainers.methods import method_config  # loads torch

    yield from (f"train.{name}" for name in (*FIELDS, "batch_size"))
    yield from (OPTIONS + field.name for field in dataclasses.fields(method_config(method, {})[1]))
