"""What one training run is: frozen dataclasses, strict decoding, the checks that need no data.

No torch here, so that configurations load fast and anywhere. ``ablation.spec`` embeds the same
dataclasses in its pydantic models (``__pydantic_config__`` is read by pydantic, unused otherwise).
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

NUMERICS = 4
"""Part of every trial's key: raised whenever equal settings would give other numbers (a changed default, formula or
draw), together with ``make golden``, so that trials of before are not taken for trials of now."""
MOST_CUSTOM = 4
"""Metrics of a study's own: each takes the place of one of ``catalogue.GIVES_WAY`` among a run's 40 keys."""
STRICT = {"extra": "forbid", "frozen": True, "use_attribute_docstrings": True}
Imbalance = float | Literal["natural"]
Option = bool | int | float | str | list[float] | None
T = TypeVar("T")


class ConfigError(ValueError):
    """A setting that cannot work. ``path`` is the dotted field, the message names the fix."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path
        self.message = message

    def __reduce__(self) -> tuple[type[ConfigError], tuple[str, str]]:
        return type(self), (self.path, self.message)  # errors travel between processes


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which images, and at which size they are kept and shown."""

    __pydantic_config__ = STRICT
    dataset: str = "sewer-sim"
    """A name of ``trainers.data.DATASETS``, one that a package registers, or ``path.py:Class``."""
    root: str | None = None
    """Folder of the data set. ``sewer-sim`` draws its images into the cache folder when null."""
    image_size: int = 64
    """Side of the square training view, pixels."""
    cache_size: int | None = None
    """Side of the decoded uint8 cache, pixels; null = ``image_size * 256 // 224``."""
    normalize: Literal["image", "dataset"] = "image"
    """``image``: every view by its own mean and deviation, so that lighting does not drown structure;
    ``dataset``: by the constants of the data set."""
    options: dict[str, Option] = field(default_factory=dict)
    """Settings of the reader itself, e.g. ``{anomaly: 3}`` for ``digits``."""

    @property
    def resolved_cache_size(self) -> int:
        return self.cache_size or self.image_size * 256 // 224


@dataclass(frozen=True, kw_only=True)
class ImbalanceConfig:
    """How the pre-training subset of a level is cut from the train split."""

    __pydantic_config__ = STRICT
    policy: Literal["fixed_total", "fixed_normals", "natural"] = "fixed_total"
    total: int | None = None
    """Images per subset (``fixed_total``); null = the largest total that every level of the grid can meet."""
    normals: int | None = None
    """Normal images per subset (``fixed_normals``); null = all of them."""


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Budget and optimiser. A null field takes the recipe of (method, backbone), see ``trainers.recipes``."""

    __pydantic_config__ = STRICT
    epochs: int = 100
    batch_size: int | None = None
    """Images per optimiser step over all ranks (global batch); null = ``default_batch_size`` of the subset."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    determinism: Literal["fast", "seeded", "strict"] = "seeded"
    optimizer: Literal["lars", "sgd", "adamw"] | None = None
    lr: float | None = None
    """Base learning rate; the peak is ``lr * batch_size / 256``, for adamw ``lr * sqrt(batch_size / 256)``."""
    weight_decay: float | None = None
    warmup_epochs: float | None = None
    clip_grad: float | None = None
    """Largest gradient norm; 0 = off."""
    options: dict[str, Option] = field(default_factory=dict)
    """Fields of the method's own ``Config``, e.g. ``{temperature: 0.1}`` for simclr."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How a trained encoder is scored."""

    __pydantic_config__ = STRICT
    every: int | None = None
    """Also evaluate every so many epochs; null = at the end only."""
    test_prevalence: float | None = 0.5
    """Share of defects in the test set (subsampled to it); null = leave as it is."""
    deployment_prevalence: float = 0.02
    """Share of defects where the model will be used; for ``precision_at_deployment``."""
    max_images: int = 25_600
    """Most images per evaluation set (RankMe was defined on 25,600)."""
    fixed_labelled: int = 1_000
    """Labelled images of ``probe_fixed``, half of them defects, equal for all levels and seeds."""
    knn_neighbors: int = 20
    view_images: int = 1_000
    """Images whose augmented views LiDAR and alignment compare; 0 = neither."""
    views_per_image: int = 10
    """LiDAR's paper takes 50; on synthetic features 10 are within 1 % of that."""
    metrics: tuple[str, ...] = ()
    """Your own: ``path.py:function``, or names that packages register; logged as ``custom/<name>``, at most 4."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One trial, fully resolved. ``trainers.train.train`` needs nothing else but where to run."""

    __pydantic_config__ = STRICT
    method: str
    backbone: str
    imbalance: Imbalance = "natural"
    """Prevalence of defects in the pre-training subset, 0 < p < 1, or the word ``natural``."""
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    subset: ImbalanceConfig = field(default_factory=ImbalanceConfig)
    train: OptimConfig = field(default_factory=OptimConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    allow_tiny: bool = False
    """Let subsets with fewer than 20 defects through."""
    plugins: dict[str, str] = field(default_factory=dict)
    """Kind of plug-in -> digest of the code that this run was planned with, see ``trainers.plugins``."""

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> TrainConfig:
        """Decode JSON-like data. Raises ``ConfigError`` for an unknown field, a wrong type or a bad value."""
        config = decode(cls, raw)
        for path, message in problems(config):
            raise ConfigError(path, message)
        return config

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def problems(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """Values that no data set and no machine could make work, as (dotted field, message)."""
    if config.imbalance != "natural" and not 0 < float(config.imbalance) < 1:
        yield "imbalance", f"a prevalence lies between 0 and 1, got {config.imbalance} (or use the word natural)"
    if config.seed < 0:
        yield "seed", "must be 0 or more"
    if config.method in ("mae", "mae_dense") and config.backbone.startswith("resnet"):
        # The total stride of trainers.backbones; told here too so that a plan fails before anything is trained.
        cell, size = 16 if config.data.image_size < 112 else 32, config.data.image_size
        if size % cell or size == cell:
            yield "data.image_size", (f"{config.method} on {config.backbone} hides cells of {cell} px: take a multiple "
                                      f"of {cell}, {2 * cell} or more, got {size}")
    yield from data_problems(config.data)
    yield from subset_problems(config.subset)
    yield from train_problems(config.train)
    yield from evaluation_problems(config.evaluation)


def data_problems(data: DataConfig, path: str = "data") -> Iterator[tuple[str, str]]:
    if not 16 <= data.image_size <= 1024 or data.image_size % 8:
        yield f"{path}.image_size", f"must be a multiple of 8 between 16 and 1024 pixels, got {data.image_size}"
    if data.cache_size is not None and data.cache_size < data.image_size:
        yield f"{path}.cache_size", f"must be at least image_size ({data.image_size}), got {data.cache_size}"


def subset_problems(subset: ImbalanceConfig, path: str = "subset") -> Iterator[tuple[str, str]]:
    for name in ("total", "normals"):
        value = getattr(subset, name)
        if value is not None and value < 2:
            yield f"{path}.{name}", f"must be 2 or more, got {value}"
    if subset.total is not None and subset.policy != "fixed_total":
        yield f"{path}.total", f"only with policy fixed_total, not {subset.policy}"
    if subset.normals is not None and subset.policy != "fixed_normals":
        yield f"{path}.normals", f"only with policy fixed_normals, not {subset.policy}"


def train_problems(train: OptimConfig, path: str = "train") -> Iterator[tuple[str, str]]:
    if train.epochs < 1:
        yield f"{path}.epochs", f"must be 1 or more, got {train.epochs}"
    if train.batch_size is not None and train.batch_size < 2:
        yield f"{path}.batch_size", f"must be 2 or more, got {train.batch_size}"
    if train.lr is not None and train.lr <= 0:
        yield f"{path}.lr", f"must be greater than 0, got {train.lr}"
    for name in ("weight_decay", "warmup_epochs", "clip_grad"):
        value = getattr(train, name)
        if value is not None and value < 0:
            yield f"{path}.{name}", f"must be 0 or more, got {value}"


def evaluation_problems(evaluation: EvaluationConfig, path: str = "evaluation") -> Iterator[tuple[str, str]]:
    for name in ("test_prevalence", "deployment_prevalence"):
        value = getattr(evaluation, name)
        if value is not None and not 0 < value < 1:
            yield f"{path}.{name}", f"must lie between 0 and 1, got {value}"
    for name in ("every", "max_images", "fixed_labelled", "knn_neighbors"):
        value = getattr(evaluation, name)
        if value is not None and value < 1:
            yield f"{path}.{name}", f"must be 1 or more, got {value}"
    if len(evaluation.metrics) > MOST_CUSTOM:
        yield f"{path}.metrics", f"at most {MOST_CUSTOM}, got {len(evaluation.metrics)}; a run logs 40 numbers"
    if evaluation.view_images < 0:
        yield f"{path}.view_images", f"must be 0 (no LiDAR, no alignment) or more, got {evaluation.view_images}"
    if evaluation.views_per_image < 2:
        yield f"{path}.views_per_image", f"must be 2 or more, got {evaluation.views_per_image}"


def default_batch_size(num_images: int) -> int:
    """256, halved down to 32 while an epoch has fewer than 48 steps: small subsets need steps more than large batches
    (docs/results/recipes.md)."""
    size = 256
    while size > 32 and num_images // size < 48:
        size //= 2
    return size


def suggest(word: str, choices: typing.Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` or an empty string."""
    close = difflib.get_close_matches(word, list(choices), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""


def decode(cls: type[T], raw: Mapping[str, Any], path: str = "") -> T:
    """Build the dataclass ``cls`` from plain data; unknown fields and wrong types raise ``ConfigError``."""
    if not isinstance(raw, Mapping):
        raise ConfigError(path, f"must be a mapping, got {raw!r}")
    hints = typing.get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    values = {}
    for name, value in raw.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in names:
            raise ConfigError(where, f"unknown field{suggest(str(name), names)}")
        values[name] = _decode_value(hints[name], value, where)
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(path, str(error).split(".__init__() ")[-1]) from None


def _decode_value(hint: Any, value: Any, path: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return decode(hint, value, path)  # type: ignore[arg-type]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in args:
            try:
                return _decode_value(option, value, path)
            except ConfigError:
                continue
        raise ConfigError(path, f"got {value!r}, expected {_words(hint)}")
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(path, f"got {value!r}, expected one of {', '.join(map(str, args))}"
                                f"{suggest(str(value), map(str, args))}")
    if origin is list and isinstance(value, list):
        return [_decode_value(args[0], item, path) for item in value]
    if origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_decode_value(args[0], item, path) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return {str(k): _decode_value(args[1], v, f"{path}.{k}") for k, v in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    mistaken = isinstance(value, bool) and hint is not bool  # True is an int to Python, not to a person
    if hint is Any or (isinstance(hint, type) and isinstance(value, hint) and not mistaken):
        return value
    raise ConfigError(path, f"got {value!r}, expected {_words(hint)}")


def _words(hint: Any) -> str:
    """A type for people."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_words, typing.get_args(hint))))
    if typing.get_origin(hint) is Literal:
        return " or ".join(map(str, typing.get_args(hint)))
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text", type(None): "null",
             list: "a list", tuple: "a list", dict: "a mapping {name: value}"}
    return words.get(typing.get_origin(hint) or hint, str(getattr(hint, "__name__", hint)))
