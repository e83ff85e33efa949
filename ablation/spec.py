"""What a study is: the study file as frozen models. Reading one reports every mistake at once, with its line."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from ablation.fields import (
    FROM_ROOT,
    Backbones,
    Levels,
    Methods,
    Model,
    Problems,
    Seeds,
    as_tuple,
    checked,
    dataset_problem,
    metric_problems,
    with_tuple,
)
from ablation.search_settings import Search as Search, SearchField
from ablation.study_file import Document, Loc, apply_overrides
from ablation.validation import non_finite, plain, spec_error
from trainers.config import (
    ConfigError,
    DataConfig,
    EvaluationConfig,
    ImbalanceConfig,
    OptimConfig,
    data_problems,
    decode,
    evaluation_problems,
    subset_problems,
    suggest,
    train_problems,
)
from trainers.names import BACKBONE_NAMES

SECTIONS: dict[str, tuple[Any, Callable[[Any, str], Problems]]] = {
    "data": (DataConfig, data_problems),
    "imbalance": (ImbalanceConfig, subset_problems),
    "train": (OptimConfig, train_problems),
    "evaluation": (EvaluationConfig, evaluation_problems),
}
_SETTABLE = ("train.", "imbalance.", "data.image_size", "data.cache_size", "evaluation.every")
_SETTABLE_TEXT = "train.*, imbalance.*, data.image_size, data.cache_size and evaluation.every"


def _section(name: str) -> AfterValidator:
    def check(value: Any) -> Problems:
        if name == "data" and (problem := dataset_problem(value.dataset)):
            yield "dataset", problem
        if name == "evaluation":
            yield from ((f"metrics.{number}", problem) for number, problem in metric_problems(value.metrics))
        for path, message in SECTIONS[name][1](value, name):
            yield path.removeprefix(f"{name}."), message

    return checked(check)


class Grid(Model):
    """Full factorial, in this order. One value may stand without a list."""

    method: Methods = ("simclr", "barlow_twins", "byol", "dino", "mae")
    backbone: Backbones = BACKBONE_NAMES
    imbalance: Levels = ("natural",)
    """Prevalence of defects in the pre-training subset, 0 < p < 1, or the word natural."""
    seed: Seeds = (0,)


class Where(Model):
    """Which trials an override is for; a field that is left out matches every trial."""

    method: Methods | None = None
    backbone: Backbones | None = None
    imbalance: Levels | None = None
    seed: Seeds | None = None

    def matches(self, **cell: Any) -> bool:
        return all(wanted is None or cell[name] in wanted for name, wanted in self)

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return {name: list(wanted) for name, wanted in self if wanted is not None}


def nest(path: str, value: Any) -> dict[str, Any]:
    """``a.b``, 1 -> ``{"a": {"b": 1}}``."""
    head, _, rest = path.partition(".")
    return {head: nest(rest, value) if rest else value}


def _set_problems(settings: dict[str, Any]) -> Problems:
    if not settings:
        yield "", "must set at least one field, for example {train.batch_size: 128}"
    for path, value in settings.items():
        section, _, rest = path.partition(".")
        if not rest or section not in SECTIONS:
            choices = [f"{name}.{field}" for name, (cls, _) in SECTIONS.items() for field in cls.__dataclass_fields__]
            yield path, f"must be a dotted field such as train.batch_size{suggest(path, choices)}"
            continue
        cls, check = SECTIONS[section]
        try:
            decoded = decode(cls, nest(rest, value), section)
        except ConfigError as error:
            yield path, error.message
            continue
        if not path.startswith(_SETTABLE):
            yield path, f"is the same for all trials of a study; only {_SETTABLE_TEXT} can be overridden"
        # A setting that needs another one (imbalance.total its policy) is judged when the whole cell is known.
        yield from ((where, message) for where, message in check(decoded, section)
                    if where == path and not message.startswith("only with"))


class Override(Model):
    """Settings of some cells only, for example ``{where: {method: dino}, set: {train.batch_size: 128}}``."""

    where: Where
    set: Annotated[dict[str, Any], checked(_set_problems)]


class Resources(Model):
    """What one trial takes."""

    num_workers: Annotated[int, Field(ge=1)] = 1
    """DDP ranks of one trial."""
    gpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    """May be a fraction, so that several trials share a GPU."""
    cpus_per_worker: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"


def _name_problems(name: str) -> Problems:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        yield "", f"got {name!r}, expected 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit"


def _value_problems(raw: dict[str, Any], error: ValidationError) -> list[tuple[Loc, str]]:
    """Bad values in sections whose check did not run, because another field of the section has the wrong type."""
    found: list[tuple[Loc, str]] = []
    broken = {str(detail["loc"][0]) for detail in error.errors() if len(detail["loc"]) > 1}
    for name in broken & set(SECTIONS):
        cls, check = SECTIONS[name]
        fields: dict[str, Any] = {}
        for key, value in raw[name].items():
            with contextlib.suppress(ConfigError):
                fields |= {key: getattr(decode(cls, {key: value}), key)}
        found += [(tuple(path.split(".")), message) for path, message in check(cls(**fields), name)]
    return found


class StudySpec(Model):
    """A named set of trials that share data, budget and evaluation. Building a wrong one raises ``SpecError``."""

    name: Annotated[str, checked(_name_problems)]
    data: Annotated[DataConfig, FROM_ROOT, _section("data")] = DataConfig()
    imbalance: Annotated[ImbalanceConfig, _section("imbalance")] = ImbalanceConfig()
    grid: Grid = Grid()
    train: Annotated[OptimConfig, _section("train")] = OptimConfig()
    """Budget and optimiser; null fields take the recipe of (method, backbone)."""
    overrides: Annotated[tuple[Override, ...], BeforeValidator(as_tuple, list[Override])] = ()
    """Applied in this order; the last one wins."""
    evaluation: Annotated[EvaluationConfig, BeforeValidator(with_tuple), FROM_ROOT,
                          _section("evaluation")] = EvaluationConfig()
    resources: Resources = Resources()
    retries: Annotated[int, Field(ge=0)] = 2
    """How often a trial that failed is tried again."""
    allow_tiny: bool = False
    """Let subsets with fewer than 20 defects through."""
    search: SearchField | None = None
    """Hyper-parameter search in every cell of the grid; null = the settings as they are."""

    @model_validator(mode="wrap")
    @classmethod
    def _tell(cls, raw: Any, handler: ModelWrapValidatorHandler[StudySpec], info: ValidationInfo) -> StudySpec:
        raw = plain(raw)
        error: ValidationError | None = None
        more: list[tuple[Loc, str]] = []
        try:
            spec = handler(raw)
            if not any(non_finite(raw)):
                return spec
        except ValidationError as failure:
            error = failure
            more = _value_problems(raw, error) if isinstance(raw, dict) else []
        raise spec_error(cls, raw, error, info.context, more)

    @classmethod
    def load(cls, source: str | Path, overrides: Iterable[str] = ()) -> StudySpec:
        """From a YAML file, ``path.py:function`` or the name of a built-in study, with ``key.path=value`` overrides.

        Raises ``SpecError`` with one line per mistake: ``study.yaml:6: train.lrr: unknown field (did you mean 'lr'?)``.
        """
        from ablation.sources import read_source

        return cls._from_document(apply_overrides(read_source(source), overrides))

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> StudySpec:
        """From the content of a study file."""
        return cls._from_document(Document(dict(raw), "study"), located=False)

    @classmethod
    def _from_document(cls, document: Document, located: bool = True) -> StudySpec:
        # As JSON: pydantic is strict there ("5" is no number), yet takes lists and mappings for what they become.
        text = json.dumps(plain(document.data), default=str)
        return cls.model_validate_json(text, strict=True, context=document if located else None)

    def to_dict(self) -> dict[str, Any]:
        """The whole content of a study file, defaults included."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """A study file that loads to an equal spec."""
        import yaml

        return yaml.safe_dump(self.to_dict(), sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema of the study file, for editors."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | cls.model_json_schema()
