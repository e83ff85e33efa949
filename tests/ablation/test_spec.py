"""A wrong study file tells every mistake at once, with its line, its field and the nearest right word."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from ablation.errors import SpecError
from ablation.spec import StudySpec
from trainers.data import DATASETS
from trainers.methods import METHODS
from trainers.names import DATASET_NAMES, METHOD_NAMES

GOOD = """\
name: my-study
data: {dataset: digits, image_size: 16}
grid:
  method: [simclr, mae]
  backbone: resnet18
  imbalance: [0.05, natural]
  seed: [0, 1]
train: {epochs: 5, lr: 1e-3}
overrides:
  - where: {method: mae}
    set: {train.batch_size: 128, train.options.mask_ratio: 0.6}
"""


def load(folder: Path, text: str, *overrides: str) -> StudySpec:
    path = folder / "study.yaml"
    path.write_text(text)
    return StudySpec.load(path, overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load(folder, text, *overrides)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def test_a_good_file_loads_with_scalars_as_one_element_lists(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD)
    assert spec.grid.backbone == ("resnet18",)
    assert spec.grid.imbalance == (0.05, "natural")
    assert spec.train.lr == 0.001
    assert spec.overrides[0].where.method == ("mae",)
    assert spec.resources.num_workers == 1
    assert spec.retries == 2


def test_yaml_and_dict_round_trips_are_equal(tmp_path: Path) -> None:
    spec = load(tmp_path, GOOD, "evaluation.test_prevalence=null")
    assert load(tmp_path, spec.to_yaml()) == spec
    assert spec.evaluation.test_prevalence is None
    assert StudySpec.from_dict(spec.to_dict()) == spec


def test_the_json_schema_accepts_the_file_and_refuses_a_typo() -> None:
    schema = StudySpec.json_schema()
    raw = yaml.safe_load(GOOD)
    raw["train"]["lr"] = 0.001  # pyyaml's YAML 1.1 reads 1e-3 as text
    jsonschema.validate(raw, schema)
    for wrong in ({**raw, "trian": {}}, {**raw, "grid": {"methd": ["simclr"]}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("lr: 1e-3", "lrr: 1e-3", "study.yaml:8: train.lrr: unknown field (did you mean 'lr'?)"),
        ("lr: 1e-3", "lr: fast", "study.yaml:8: train.lr: got 'fast', expected a number"),
        ("lr: 1e-3", "lr: .nan", "study.yaml:8: train.lr: must be a finite number, got nan"),
        ("lr: 1e-3", "lr: -1", "study.yaml:8: train.lr: must be greater than 0, got -1.0"),
        ("epochs: 5", 'epochs: "5"', "study.yaml:8: train.epochs: got '5', expected a whole number"),
        ("epochs: 5", "epochs: 5.5", "study.yaml:8: train.epochs: got 5.5, expected a whole number"),
        ("epochs: 5", "epochs: true", "study.yaml:8: train.epochs: got True, expected a whole number"),
        (
            "epochs: 5",
            "precision: bf61",
            "study.yaml:8: train.precision: got 'bf61', expected one of auto, fp32 or bf16 (did you mean 'bf16'?)",
        ),
        (
            "name: my-study",
            "name: My Study",
            "study.yaml:1: name: got 'My Study', expected 1 to 64 of a-z 0-9 . _ - beginning with a letter or digit",
        ),
        ("name: my-study", "retries: 1", "study.yaml:1: name: is required"),
        ("name: my-study", "name: a\nretries: -1", "study.yaml:2: retries: must be 0 or more, got -1"),
        ("name: my-study", "name: a\nepochs: 3", "study.yaml:2: epochs: unknown field (did you mean 'train.epochs'?)"),
        (
            "name: my-study",
            "name: a\nsearch: {num_sample: 3}",
            "study.yaml:2: search.num_sample: unknown field (did you mean 'num_samples'?)",
        ),
        ("name: my-study", "name: a\nimbalance: {total: 1}", "study.yaml:2: imbalance.total: must be 2 or more, got 1"),
        (
            "name: my-study",
            "name: a\nimbalance: {policy: natural, total: 9}",
            "study.yaml:2: imbalance.total: only with policy fixed_total, not natural",
        ),
        (
            "name: my-study",
            "name: a\nevaluation: {test_prevalence: 1}",
            "study.yaml:2: evaluation.test_prevalence: must lie between 0 and 1, got 1.0",
        ),
        (
            "name: my-study",
            "name: a\nresources: {gpus_per_worker: many}",
            "study.yaml:2: resources.gpus_per_worker: got 'many', expected auto or a number",
        ),
        ("name: my-study", "name: a\nallow_tiny: yes", "study.yaml:2: allow_tiny: got 'yes', expected true or false"),
        (
            "dataset: digits",
            "dataset: digit",
            "study.yaml:2: data.dataset: unknown dataset 'digit' (did you mean 'digits'?)",
        ),
        (
            "image_size: 16",
            "image_size: 17",
            "study.yaml:2: data.image_size: must be a multiple of 8 between 16 and 1024 pixels, got 17",
        ),
        ("[simclr, mae]", "[simclr, mea]", "study.yaml:4: grid.method.1: unknown method 'mea' (did you mean 'mae'?)"),
        ("[simclr, mae]", "[simclr, simclr]", "study.yaml:4: grid.method.1: simclr is there twice"),
        ("[simclr, mae]", "[]", "study.yaml:4: grid.method: must name at least one value"),
        ("[simclr, mae]", "{simclr: 1}", "study.yaml:4: grid.method: got {'simclr': 1}, expected text"),
        (
            "resnet18",
            "ResNet-18",
            "study.yaml:5: grid.backbone: 'ResNet-18' is no timm name (such as resnet18, vit_tiny) "
            "(did you mean 'resnet18'?)",
        ),
        ("resnet18", "resnet19", "study.yaml:5: grid.backbone: timm knows no 'resnet19' (did you mean 'resnet18'?)"),
        ("[0.05, natural]", "[0.05, 0.050]", "study.yaml:6: grid.imbalance.1: 0.05 is there twice"),
        (
            "[0.05, natural]",
            "[0.05, nature]",
            "study.yaml:6: grid.imbalance.1: got 'nature', expected a number or natural (did you mean 'natural'?)",
        ),
        (
            "[0.05, natural]",
            "5",
            "study.yaml:6: grid.imbalance: a prevalence lies between 0 and 1, got 5.0 (or use the word natural)",
        ),
        ("[0, 1]", "[0, -1]", "study.yaml:7: grid.seed.1: must be 0 or more"),
        (
            "{method: mae}",
            "{method: mea}",
            "study.yaml:10: overrides.0.where.method: unknown method 'mea' (did you mean 'mae'?)",
        ),
        (
            "{method: mae}",
            "{mehtod: mae}",
            "study.yaml:10: overrides.0.where.mehtod: unknown field (did you mean 'method'?)",
        ),
        (
            "train.batch_size: 128",
            "train.batch_sise: 128",
            "study.yaml:11: overrides.0.set.train.batch_sise: unknown field (did you mean 'batch_size'?)",
        ),
        (
            "train.batch_size: 128",
            "batch_size: 128",
            "study.yaml:11: overrides.0.set.batch_size: must be a dotted field such as train.batch_size "
            "(did you mean 'train.batch_size'?)",
        ),
        (
            "train.batch_size: 128",
            "train.batch_size: 1",
            "study.yaml:11: overrides.0.set.train.batch_size: must be 2 or more, got 1",
        ),
        (
            "train.batch_size: 128",
            "data.root: /x",
            "study.yaml:11: overrides.0.set.data.root: is the same for all trials of a study; only train.*, "
            "imbalance.*, data.image_size, data.cache_size and evaluation.every can be overridden",
        ),
    ],
)
def test_each_mistake_has_its_line(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert problems(tmp_path, GOOD.replace(old, new, 1)) == [expected]


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = GOOD.replace("digits", "foldr").replace("epochs: 5", "epochs: 0, lrr: 2").replace("[0, 1]", "[0, 0]")
    assert problems(tmp_path, text) == [
        "study.yaml:2: data.dataset: unknown dataset 'foldr' (did you mean 'folder'?)",
        "study.yaml:7: grid.seed.1: 0 is there twice",
        "study.yaml:8: train.epochs: must be 1 or more, got 0",
        "study.yaml:8: train.lrr: unknown field (did you mean 'lr'?)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name: a\ngrid: [1\n",
            "study.yaml:3: not valid YAML: expected ',' or ']', but got '<stream end>'; "
            "a bracket or quote is not closed",
        ),
        ("name: a\ntrain: {epochs: 1}\ntrain: {epochs: 2}\n", "study.yaml:3: train: written twice (first on line 2)"),
        ("- a\n", "study.yaml:1: a study file is a mapping, with lines such as 'name: parts', 'grid:'"),
        ("", "study.yaml: is empty; 'ablation init other.yaml' writes a study file to start from"),
        ("name: !python a\n", "study.yaml:1: not valid YAML: could not determine a constructor for the tag '!python'"),
    ],
)
def test_broken_yaml_names_the_line(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml: no such file"):
        StudySpec.load(tmp_path / "none.yaml")


def test_scalars_are_read_as_yaml_1_2(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "name: 2026-11-24\ntrain: {lr: 2E-4, weight_decay: .5, epochs: 010}\n"
        "data: {options: {anomaly: no, other: 1:30}}\n",
    )
    assert spec.name == "2026-11-24"
    assert (spec.train.lr, spec.train.weight_decay, spec.train.epochs) == (2e-4, 0.5, 10)
    assert spec.data.options == {"anomaly": "no", "other": "1:30"}


def test_arguments_override_the_file(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        GOOD,
        "train.epochs=7",
        "grid.seed=[3,4]",
        "imbalance.total=200",
        "grid.method.1=byol",
        "train.options.temperature=0.2",
    )
    assert spec.train.epochs == 7
    assert spec.grid.seed == (3, 4)
    assert spec.imbalance.total == 200
    assert spec.grid.method == ("simclr", "byol")
    assert spec.train.options == {"temperature": 0.2}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("trian.epochs=5", "argument 'trian.epochs=5': trian: unknown field (did you mean 'train'?)"),
        ("train.epoch=5", "argument 'train.epoch=5': train.epoch: unknown field (did you mean 'epochs'?)"),
        ("train.epochs=0", "argument 'train.epochs=0': train.epochs: must be 1 or more, got 0"),
        ("train.epochs", "argument 'train.epochs': expected key.path=value, for example train.epochs=5"),
        ("train..epochs=1", "argument 'train..epochs=1': expected key.path=value, for example train.epochs=5"),
        (
            "grid.seed=[1",
            "argument 'grid.seed=[1': not valid YAML: expected ',' or ']', but got '<stream end>'; "
            "a bracket or quote is not closed",
        ),
        ("grid.seed.7=1", "argument 'grid.seed.7=1': grid.seed is a list of 2; there is no element '7'"),
        ("name.x=1", "argument 'name.x=1': name is the value 'my-study', it has no field 'x'"),
    ],
)
def test_a_bad_argument_is_named(tmp_path: Path, argument: str, expected: str) -> None:
    assert problems(tmp_path, GOOD, argument) == [expected]


def test_a_study_built_in_python_is_checked_the_same_way() -> None:
    with pytest.raises(SpecError) as caught:
        StudySpec(name="a", train={"epoch": 1}, grid={"seed": (0, 0)})  # type: ignore[arg-type]
    assert set(caught.value.problems) == {
        "train.epoch: unknown field (did you mean 'epochs'?)",
        "grid.seed.1: 0 is there twice",
    }


def test_a_spec_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path, GOOD).retries = 3  # type: ignore[misc]


def test_any_timm_backbone_is_allowed(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD, "grid.backbone=resnet34").grid.backbone == ("resnet34",)


def test_static_names_equal_the_registries() -> None:
    assert tuple(METHODS) == METHOD_NAMES
    assert tuple(DATASETS) == DATASET_NAMES
