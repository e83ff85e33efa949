"""Every method has a space; its fields exist, each value in it is valid, and the recipe lies well inside."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablation.distributions import KINDS, OPTIONS, Categorical, LogUniform, Parameter
from ablation.errors import SpecError
from ablation.sources import builtin_studies
from ablation.spaces import load_space
from ablation.spec import StudySpec
from trainers.backbones import BACKBONES, build_backbone
from trainers.config import OptimConfig, TrainConfig, default_batch_size
from trainers.methods import METHODS, build_method, method_config, view_specs
from trainers.methods.augmentations import crop_floor
from trainers.methods.ema import ema_momentum
from trainers.methods.masking import MASK_RATIO
from trainers.recipes import FIELDS, recipe
from trainers.records import Progress

BACKBONE = {"resnet": "resnet18", "vit": "vit_tiny"}
CELLS = [(method, kind) for method in METHODS for kind in KINDS]
SEARCHED = [(method, kind, parameter) for method, kind in CELLS for parameter in load_space(method).for_backbone(kind)]
each_cell = pytest.mark.parametrize(("method", "kind"), CELLS)
each_parameter = pytest.mark.parametrize(
    ("method", "kind", "parameter"), SEARCHED, ids=[f"{method}-{kind}-{p.path}" for method, kind, p in SEARCHED])


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """``{"train.options.a": 1}`` -> the ``train`` section of a study file."""
    options = {path.removeprefix(OPTIONS): value for path, value in values.items() if path.startswith(OPTIONS)}
    plain = {path.removeprefix("train."): value for path, value in values.items() if not path.startswith(OPTIONS)}
    return {**plain, "options": options}


def automatic(path: str, method: str, kind: str) -> list[float]:
    """What a null becomes, by image size, subset or budget."""
    progress = [Progress(step=0, total_steps=steps, epoch=0, total_epochs=10) for steps in (1, 400, 10_000)]
    return {
        "train.batch_size": [default_batch_size(count) for count in (100, 4_000, 10**6)],
        "train.options.crop_min": [crop_floor(None, size) for size in (64, 224)],
        "train.options.momentum": [ema_momentum(None, at) for at in progress],
        "train.options.mask_ratio": [MASK_RATIO[kind]],
        "train.options.projection_dim": [128, 1024],  # BarlowTwins.Config.projection_dim
    }[path]


def test_the_kinds_are_those_of_the_backbones_with_recipes() -> None:
    assert {build_backbone(name, 64).kind for name in BACKBONES} == set(KINDS)
    assert set(BACKBONE.values()) == set(BACKBONES)


def test_every_method_has_a_space_and_nothing_else_has() -> None:
    folder = Path(__file__).resolve().parents[2] / "search_spaces" / "spaces"
    assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(METHODS)
    assert all(load_space(method).method == method for method in METHODS)


def test_spaces_are_not_taken_for_studies() -> None:
    assert not set(builtin_studies()) & {"spaces", *(name.replace("_", "-") for name in METHODS)}


@each_parameter
def test_the_field_exists_and_names_its_source(method: str, kind: str, parameter: Parameter) -> None:
    if parameter.path.startswith(OPTIONS):
        names = {field.name for field in dataclasses.fields(METHODS[method].Config)}
        assert parameter.path.removeprefix(OPTIONS) in names
    else:
        assert parameter.path.removeprefix("train.") in {field.name for field in dataclasses.fields(OptimConfig)}
    assert len(parameter.source.split()) > 2


@each_cell
def test_every_point_is_a_valid_study(method: str, kind: str) -> None:
    """200 points, each through all checks that need no data, and the views it asks for."""
    space, rng = load_space(method), np.random.default_rng(7)
    for _ in range(200):
        train = nested(space.sample(rng, kind))
        spec = StudySpec.from_dict({"name": "point", "grid": {"method": method, "backbone": BACKBONE[kind]},
                                    "train": train})
        config = TrainConfig.from_dict({"method": method, "backbone": BACKBONE[kind], "train": train})
        assert spec.train == config.train
        for size in (64, 224):
            assert view_specs(method, config.train.options, size)


@each_cell
def test_the_corners_of_the_space_can_be_built(method: str, kind: str) -> None:
    for corner in (0, -1):
        values = {parameter.path: parameter.distribution.extremes()[corner]
                  for parameter in load_space(method).for_backbone(kind)}
        build_method(method, build_backbone(BACKBONE[kind], 64), nested(values)["options"])


@each_parameter
def test_the_recipe_lies_well_inside(method: str, kind: str, parameter: Parameter) -> None:
    value, distribution = load_space(method).centre(kind)[parameter.path], parameter.distribution
    if value is None:
        low, high = min(distribution.extremes()), max(distribution.extremes())  # type: ignore[type-var]
        assert all(low <= found <= high for found in automatic(parameter.path, method, kind))  # type: ignore[operator]
    elif not isinstance(distribution, Categorical):
        assert 0.15 <= distribution.position(value) <= 0.85
    else:
        assert value in distribution.choices
        if not isinstance(value, str):
            assert min(distribution.choices) < value < max(distribution.choices)  # type: ignore[type-var,operator]


@each_cell
def test_the_centre_is_the_recipe(method: str, kind: str) -> None:
    centre, rules, config = load_space(method).centre(kind), recipe(method, kind), method_config(method, {})[1]
    assert centre == load_space(method).centre(BACKBONE[kind])
    for path, value in centre.items():
        name = path.split(".")[-1]
        owner = config if path.startswith(OPTIONS) else rules if name in FIELDS else OptimConfig()
        assert value == getattr(owner, name)


@each_cell
def test_every_method_gets_the_same_room_for_rate_and_decay(method: str, kind: str) -> None:
    """A factor 10 to either side of its own recipe, for all: the search favours none."""
    ranges = {parameter.path: parameter.distribution for parameter in load_space(method).for_backbone(kind)}
    for name in ("lr", "weight_decay"):
        found, own = ranges[f"train.{name}"], getattr(recipe(method, kind), name)
        assert isinstance(found, LogUniform)
        assert (own / found.low, found.high / own) == (pytest.approx(10), pytest.approx(10))


def test_the_control_arm_is_searched_exactly_as_mae() -> None:
    assert load_space("mae_dense").parameters == load_space("mae").parameters


def test_the_teacher_of_dino_warms_up_and_stays_sharper_than_the_student() -> None:
    space, rng = load_space("dino"), np.random.default_rng(3)
    for _ in range(200):
        point = space.sample(rng, "vit")
        first, last, student = (point[f"{OPTIONS}{name}"] for name in (
            "teacher_temperature", "teacher_temperature_end", "student_temperature"))
        assert first <= last <= student


@each_cell
def test_equal_seeds_draw_equal_points(method: str, kind: str) -> None:
    space = load_space(method)
    one, same, other = (space.sample(np.random.default_rng(seed), kind) for seed in (5, 5, 6))
    assert one == same
    assert one["train.lr"] != other["train.lr"]


def test_conditional_parameters_come_only_where_the_backbone_matches() -> None:
    space, rng = load_space("mae"), np.random.default_rng(0)
    depth = "train.options.decoder_depth"
    assert depth in space.sample(rng, "vit")
    assert depth in space.sample(rng, "deit_small_patch16_224")
    assert depth not in space.sample(rng, "resnet50")
    for method, kind in CELLS:
        space = load_space(method)
        found, wanted = space.for_backbone(kind), {None, kind}
        assert {parameter.backbone for parameter in found} <= wanted
        assert set(space.sample(rng, kind)) == {parameter.path for parameter in found} == set(space.centre(kind))
        assert all(parameter.backbone not in wanted for parameter in set(space.parameters) - set(found))


MINE = """\
from ablation.distributions import Integer, LogUniform, Parameter, Space, Uniform

LR = Parameter("train.lr", LogUniform(1e-3, 1e-2), source="test")

def space():
    return Space("simclr", (LR,))

def of(method):
    return Space(method, (LR,))

def wrong_field():
    return Space("simclr", (Parameter("train.options.temprature", Uniform(0.1, 1), source="test"),))

def wrong_value():
    return Space("simclr", (Parameter("train.options.crop_min", Uniform(0.5, 1.5), source="test"),))

def wrong_type():
    return Space("mae", (Parameter("train.options.decoder_depth", Uniform(1, 4), source="test"),))

def wrong_range():
    return Space("simclr", (Parameter("train.lr", LogUniform(0, 1), source="test"),))

def crash():
    return 1 / 0

def number():
    return 4
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_a_space_of_ones_own(mine: Path) -> None:
    assert load_space("simclr", f"{mine}:space").parameters[0].distribution == LogUniform(1e-3, 1e-2)
    assert [load_space(method, f"{mine}:of").method for method in METHODS] == list(METHODS)


@pytest.mark.parametrize(
    ("method", "function", "expected"),
    [
        ("simclr", "spaec", "mine.py: there is no function 'spaec' (did you mean 'space'?)"),
        ("byol", "space", "mine.py:space: returned the space of simclr, expected that of byol"),
        ("simclr", "wrong_field", "mine.py:wrong_field: train.options.temprature: unknown field (did you mean "
                                  "'temperature'?)"),
        ("simclr", "wrong_value", "mine.py:wrong_value: train.options.crop_min: a share of the area, 0 to 1, got 1.5"),
        ("simclr", "wrong_range", "mine.py:wrong_range: log-uniform 0 to 1: a logarithmic scale begins above 0"),
        ("simclr", "crash", "mine.py:crash: raised ZeroDivisionError: division by zero"),
        ("simclr", "number", "mine.py:number: returned int, expected a Space"),
    ],
)
def test_a_space_that_fails_is_one_line(mine: Path, method: str, function: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_space(method, f"{mine}:{function}")
    assert str(caught.value) == expected


def test_real_numbers_for_a_whole_one_are_found_before_anything_runs(mine: Path) -> None:
    with pytest.raises(SpecError, match=r"decoder_depth: got 4\.0, expected a whole number"):
        load_space("mae", f"{mine}:wrong_type")


@pytest.mark.parametrize(
    ("method", "name", "expected"),
    [
        ("simclrr", "default", "unknown method 'simclrr' (did you mean 'simclr'?); there are simclr, "),
        ("simclr", "defualt", "nor the name of a search space (default) (did you mean 'default'?)"),
        ("simclr", "mine.py", "mine.py: name the function that returns the space: mine.py:space"),
        ("simclr", "missing.py:space", "missing.py: no such file"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest(method: str, name: str, expected: str) -> None:
    with pytest.raises(SpecError) as caught:
        load_space(method, name)
    assert expected in str(caught.value)


def test_a_method_without_a_space_says_where_to_write_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablation.spaces.METHOD_NAMES", ("simclr", "toy"))
    with pytest.raises(SpecError, match=r"toy has no search space yet; write search_spaces/spaces/toy\.py"):
        load_space("toy")
