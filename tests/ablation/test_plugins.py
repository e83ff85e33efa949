"""A study names code from outside: it becomes part of the key, and a bad one is a line at once, exit 2."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import ablation
from ablation.errors import SpecError
from ablation.store import StudyStore
from ablation.trial import trial_key
from tests.conftest import Call
from tests.integration.studies import write_study
from tests.trainers import own_parts
from tests.trainers.methods.steps import EXAMPLE
from tests.trainers.test_plugins import install
from trainers import plugins
from trainers.config import TrainConfig
from trainers.names import file_reference

OWN = ('grid.method=[simclr, "vicreg.py:VICReg"]', 'grid.backbone=["parts.py:tiny_net"]',
       'data={dataset: "parts.py:Flipped", image_size: 16}', 'evaluation.metrics=["parts.py:gap"]')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user stands: a study on the digits, and two files of code beside it."""
    write_study(tmp_path)
    shutil.copy(file_reference(EXAMPLE)[0], tmp_path / "vicreg.py")  # type: ignore[index]
    shutil.copy(own_parts.__file__, tmp_path / "parts.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATION_STORE", str(tmp_path / "studies"))
    return tmp_path


def keys(*overrides: str) -> list[str]:
    return [trial.key for trial in ablation.plan(ablation.StudySpec.load("study.yaml", overrides)).trials]


def test_code_is_part_of_the_key_and_its_folder_is_not(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = keys(*OWN)
    assert [key.rsplit("-", 1)[0] for key in first] == ["simclr-tiny_net-p0.1-s0", "vicreg-tiny_net-p0.1-s0"]
    shutil.copytree(folder, folder / "elsewhere")
    monkeypatch.chdir(folder / "elsewhere")
    assert keys(*OWN) == first
    Path("vicreg.py").write_text(Path("vicreg.py").read_text() + "\n# other words\n")
    changed = keys(*OWN)
    assert changed[0] == first[0]  # the other method is as before
    assert changed[1] != first[1]


def test_keys_of_studies_without_plug_ins_are_those_of_before_there_were_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablation.trial.NUMERICS", 3)
    config = TrainConfig.from_dict({
        "method": "simclr", "backbone": "resnet18", "imbalance": 0.05, "seed": 3, "evaluation": {"every": 2},
        "data": {"dataset": "digits", "image_size": 32, "cache_size": 36}, "subset": {"total": 200},
        "train": {"epochs": 5, "batch_size": 32, "options": {"temperature": 0.1}}})
    assert trial_key(config, "0123456789abcdef") == "simclr-resnet18-p0.05-s3-f924dc3e"  # by commit 578d624


def test_a_plan_survives_its_own_study_file_and_overrides_reach_plug_ins(folder: Path) -> None:
    override = 'overrides=[{where: {method: "vicreg.py:VICReg"}, set: {train.options: {covariance: 2.0}}}]'
    planned = ablation.plan(ablation.StudySpec.load("study.yaml", [*OWN, override]))
    planned.save()
    own = planned.trials[1]
    assert (own.method, own.config.method) == ("vicreg", f"{folder}/vicreg.py:VICReg")
    assert own.config.train.options == {"covariance": 2.0}
    assert own.config.train.lr == 1e-3  # the generic recipe; a name that begins with resnet would take the ResNet's
    again = ablation.plan(ablation.StudySpec.load(planned.study_dir / "study.yaml"))
    assert [trial.key for trial in again.trials] == [trial.key for trial in planned.trials]
    record = StudyStore(planned.study_dir).read_trial(own.key)
    assert TrainConfig.from_dict(record["config"]) == own.config
    assert set(own.config.plugins) == {"methods", "backbones", "datasets", "metrics"}


def test_a_store_does_not_run_the_code_that_it_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned = ablation.plan(ablation.StudySpec.load("study.yaml", OWN))
    planned.save()
    monkeypatch.setattr(plugins, "_trusted", set())
    with pytest.raises(SpecError, match="a store names this file, which would run here; set ABLATION_TRUST_CODE=1"):
        ablation.load_study("tiny").extension()


LACKING = "from trainers.methods.base import AbstractMethod\nclass Mine(AbstractMethod):\n    summary = 'x'\n"
HALF = """
import torch
from torch import nn
from trainers.methods.simclr import SimCLR
from trainers.records import StepOutput

class Mine(SimCLR.__base__):
    summary, paper, family = "x", "y", "z"
    def __init__(self, backbone, config):
        super().__init__()
        self.backbone = backbone
    @classmethod
    def views(cls, config, image_size):
        return SimCLR.views(SimCLR.Config(), image_size)
    def forward(self, batch, progress):
        features = self.backbone(batch.views[0])
        return StepOutput({loss}, features.detach())
    def embed(self, features):
        return features
"""
NET = """
from torch import nn
class Net(nn.Flatten):
    num_features = {width}
def mine(image_size):
    return Net()
"""


METHOD, BACKBONE, METRIC = (f'{field}=["own.py:{name}"]' for field, name in (
    ("grid.method", "Mine"), ("grid.backbone", "mine"), ("evaluation.metrics", "mine")))
BAD = [
    (None, METHOD, "own.py: no such file"),
    ("x = 1\n", METHOD, "own.py: there is no class 'Mine'; it has none"),
    ("class Mine: pass\n", METHOD, "own.py:Mine: a method is a subclass of trainers.methods.base.AbstractMethod"),
    ("import nothing_here\n", METHOD, "own.py: loading it raised ModuleNotFoundError: No module named 'nothing_here"),
    ("x = = 1\n", METHOD, "own.py:1: not valid Python"),
    ("raise SystemExit(3)\n", METHOD, "own.py: loading it raised SystemExit: 3 (line 1)"),
    ("class SimCLR: pass\n", METHOD.replace("Mine", "SimCLR"), "'simclr' is already the name of a built-in method"),
    ("class Größe: pass\n", METHOD.replace("Mine", "Größe"), "cannot be part of a key"),
    (LACKING, METHOD, "own.py:Mine: lacks embed, forward, views, paper, family"),
    ("", 'grid.method=["vicreg.py:VICReg", "./vicreg.py:VICReg"]', "grid.method.1: vicreg is there twice"),
    (HALF.format(loss="features.sum(1)"), METHOD, "the loss must be a float32 scalar with a gradient"),
    (HALF.format(loss="features.nonsense"), METHOD, "own.py:Mine: one step on noise raised AttributeError"),
    ("", "train.options={covarience: 1}", "train.options.covarience: unknown field (did you mean 'covariance'?)"),
    ("def mine(size): return 1/0\n", BACKBONE, "building it for 16 px raised ZeroDivisionError: division by zero"),
    (NET.format(width="None"), BACKBONE, "must return a torch module with num_features"),
    (NET.format(width="5"), BACKBONE, "num_features is 5, but the output has 768"),
    ("def resnet34(size): pass\n", BACKBONE.replace("mine", "resnet34"), "'resnet34' is a model of timm"),
    ("def mine(size): pass\n", 'data.dataset="own.py:mine"', "data.dataset: own.py:mine: a data set is a subclass of"),
    ("def mine(pixels): pass\n", METRIC, "evaluation.metrics.0: own.py:mine: there is no input 'pixels'"),
    ("def mine(labels): return 'no'\n", METRIC, "asked on noise: raised ValueError: could not convert"),
    ("", "evaluation.metrics=[gini]", "gini: is neither path.py:function nor a metric of an installed package"),
    ("", 'evaluation.metrics=["a.py:a","a.py:b","a.py:c","a.py:d","a.py:e"]', "evaluation.metrics: at most 4, got 5"),
]
"""(Content of own.py, argument of ``plan``, part of the line.)"""


@pytest.mark.parametrize(("content", "argument", "expected"), BAD, ids=[expected for *_, expected in BAD])
def test_a_bad_plug_in_is_one_line_and_exit_2(folder: Path, call: Call, content: str | None, argument: str,
                                              expected: str) -> None:
    if content is not None:
        (folder / "own.py").write_text(content)
    method = ['grid.method=["vicreg.py:VICReg"]'] if "grid.method" not in argument else []
    code, _, error = call("plan", "study.yaml", *method, argument)
    assert code == 2
    assert expected in error
    assert "Traceback" not in error
    assert all(line.startswith("error: ") for line in error.splitlines())
    assert not list(folder.rglob("trial.json"))


def test_packages_are_listed_with_where_they_come_from(folder: Path, call: Call,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    """One that clashes with a built-in and one that does not load are told, in the list and where they are named."""
    site = folder / "site"
    site.mkdir()
    for name in ("vicreg", "parts"):
        shutil.move(folder / f"{name}.py", site / f"rival_{name}.py")
    install(site, "rival", {
        "methods": "byol = rival_vicreg:VICReg\nvic_reg = rival_vicreg:VICReg", "metrics": "lost = nowhere:gap",
        "backbones": "a_net = rival_parts:tiny_net", "datasets": "flipped = rival_parts:Flipped"})
    monkeypatch.syspath_prepend(str(site))
    rows = {}
    for kind in ("methods", "backbones", "datasets", "metrics"):
        code, text, error = call(kind, "--format", "json")
        assert code == 0, error
        rows |= {row[kind[:-1]]: row for row in json.loads(text)}
    assert {name for name, row in rows.items() if row["from"] != "built in"} == {
        "byol", "vic_reg", "custom/lost", "a_net", "flipped"}
    assert rows["vic_reg"]["from"] == "rival 1.2"
    assert rows["vic_reg"]["recipe_vit"] == "adamw lr 0.001 wd 0.05"
    assert rows["a_net"]["summary"] == "One convolution, 8 features."
    clash = "'byol' is a built-in method, and rival 1.2 registers another of that name"
    assert clash in rows["byol"]["summary"]
    lost = "'lost' of rival 1.2 (nowhere:gap): loading it raised ModuleNotFoundError: No module named 'nowhere'"
    assert lost in rows["custom/lost"]["summary"]
    code, _, error = call("validate", "study.yaml", "grid.method=[byol]", "evaluation.metrics=[lost]")
    assert code == 2
    assert clash in error
    assert lost in error
    code, text, error = call("methods", "show", "vic_reg", "--format", "csv")
    assert code == 0, error
    assert "train.options.covariance,\"resnet, vit\",fixed,1.0" in text
