"""Plug-ins train like built-ins, from a file or an installed package; what is wrong with one is a line."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.trainers import own_parts
from tests.trainers.methods.steps import EXAMPLE
from trainers import plugins
from trainers.config import ConfigError, DataConfig, TrainConfig
from trainers.data import open_dataset
from trainers.data.index import DataError
from trainers.export import load_encoder
from trainers.names import absolute_name, file_reference, short_name
from trainers.records import RunContext, TrainResult
from trainers.train import train

REGISTERED = {"methods": "vicreg = acme_ssl.vicreg:VICReg", "backbones": "acme_net = acme_ssl.parts:tiny_net",
              "datasets": "acme-digits = acme_ssl.parts:Flipped", "metrics": "acme_gap = acme_ssl.parts:gap"}


def install(site: Path, name: str, entry_points: dict[str, str]) -> None:
    """What an installer leaves of a package's metadata."""
    info = site / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("".join(f"[ablation.{kind}]\n{line}\n" for kind, line in
                                                   entry_points.items()))


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a plug-in of every kind."""
    package = tmp_path / "site" / "acme_ssl"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    shutil.copy(file_reference(EXAMPLE)[0], package / "vicreg.py")  # type: ignore[index]
    shutil.copy(own_parts.__file__, package / "parts.py")
    install(tmp_path / "site", "acme-ssl", REGISTERED)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return package


def config(**changes: Any) -> TrainConfig:
    return TrainConfig.from_dict({
        "method": "simclr", "backbone": "resnet18", "imbalance": 0.2, "allow_tiny": True, "subset": {"total": 64},
        "data": {"dataset": "digits", "image_size": 16}, "train": {"epochs": 1, "batch_size": 32, "precision": "fp32"},
        "evaluation": {"max_images": 60, "fixed_labelled": 24, "view_images": 8, "views_per_image": 2}} | changes)


def run(wanted: TrainConfig, folder: Path, said: list[str]) -> TrainResult:
    folder.mkdir()
    context = RunContext(trial_dir=folder, cache_dir=folder.parent / "cache", threads=1, log=said.append)
    *_, result = train(wanted, context)
    assert isinstance(result, TrainResult)
    return result


def test_an_installed_package_gives_all_four_kinds(acme: Path, tmp_path: Path) -> None:
    wanted = config(method="vicreg", backbone="acme_net", data={"dataset": "acme-digits", "image_size": 16})
    evaluation = dataclasses.replace(wanted.evaluation, metrics=("acme_gap",))
    result = run(dataclasses.replace(wanted, evaluation=evaluation), tmp_path / "trial", [])
    assert result.metrics["custom/acme_gap"] > 0
    assert "probe_balanced/precision_at_deployment" in result.further  # a run logs 40 keys: one gave way
    assert set(result.provenance["plugins"]) == {"methods", "backbones", "datasets", "metrics"}
    assert load_encoder(tmp_path / "trial" / "encoder.safetensors").feature_dim == 8
    assert not (tmp_path / "trial" / "code").exists()  # a package is where it was
    before = plugins.find("methods", "vicreg").digest
    plugins._package_digest.cache_clear()
    (acme / "parts.py").write_text((acme / "parts.py").read_text() + "\n")
    assert plugins.find("methods", "vicreg").digest != before  # any file of the package


def test_files_leave_a_copy_by_which_the_encoder_loads_and_only_if_trusted(tmp_path: Path,
                                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    parts, said = tmp_path / "parts of mine.py", list[str]()
    shutil.copy(own_parts.__file__, parts)
    wanted = config(backbone=f"{parts}:tiny_net", data={"dataset": f"{parts}:Flipped", "image_size": 16})
    metrics = (f"{parts}:gap", f"{parts}:moody")
    result = run(dataclasses.replace(wanted, evaluation=dataclasses.replace(wanted.evaluation, metrics=metrics)),
                 tmp_path / "trial", said)
    assert result.metrics["custom/gap"] > 0
    assert "custom/moody" not in result.metrics  # it costs its own value, not the trial
    assert "custom/moody: left out, raised KeyError: 'no luck'" in said
    encoder = tmp_path / "trial" / "encoder.safetensors"
    parts.unlink()
    assert load_encoder(encoder).backbone.name == f"{tmp_path}/trial/code/backbones-tiny_net.py:tiny_net"
    monkeypatch.setattr(plugins, "_trusted", set())  # as in a process that has only found the store
    with pytest.raises(DataError, match="a store names this file, which would run here; set ABLATION_TRUST_CODE=1"):
        load_encoder(encoder)
    monkeypatch.setenv("ABLATION_TRUST_CODE", "1")
    assert load_encoder(encoder).feature_dim == 8


def test_pixels_of_changed_code_are_decoded_again(tmp_path: Path) -> None:
    from trainers.data.loader import open_data

    parts = tmp_path / "parts.py"
    shutil.copy(own_parts.__file__, parts)
    data = DataConfig(dataset=f"{parts}:Flipped", image_size=16)
    first = open_data(data, tmp_path).cache.folder
    parts.write_text(parts.read_text() + "\n# changed\n")
    assert open_data(data, tmp_path).cache.folder != first


def test_a_worker_refuses_other_code_than_was_planned(tmp_path: Path) -> None:
    parts = tmp_path / "parts.py"
    shutil.copy(own_parts.__file__, parts)
    planned = plugins.pinned(config(backbone=f"{parts}:tiny_net"))
    assert plugins.pinned(planned) == planned
    parts.write_text(parts.read_text() + "\n")
    with pytest.raises(ConfigError, match=r"grid\.backbone: the code on .* is not what the study was planned with"):
        plugins.pinned(planned)
    parts.unlink()
    with pytest.raises(ConfigError, match=r"parts\.py: no such file on .*every node must see a plug-in's file"):
        plugins.pinned(planned)


def test_names_are_short_in_tables_and_whole_on_the_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_name("my folder/a.py:VICReg") == "vicreg"
    assert short_name("vit_small_patch16_224.augreg_in1k") == "vit_small_patch16_224.augreg_in1k"
    assert absolute_name("sub/../a.py:VICReg") == f"{tmp_path}/a.py:VICReg"
    assert absolute_name("simclr") == "simclr"
    assert file_reference("a.py:not a name") is None


@pytest.mark.parametrize(("change", "problem"), [
    ("labels=old.labels.astype(int)", "index.labels: must be int8"),
    ("ids=np.repeat(old.ids[:1], len(old))", "index.ids: 'digit-0000' is there 1797 times"),
    ("groups=np.repeat('one', len(old))", "index.groups: 'one' stands in more than one split"),
    ("splits=old.splits[:5]", r"index.splits: must have one entry per image, got shape \(5,\) for 1797"),
    ("labels=old.nothing", r"data\.dataset: own\.py:Own: opening it raised AttributeError: .*'nothing'"),
])
def test_a_reader_that_breaks_a_promise_is_told(tmp_path: Path, change: str, problem: str) -> None:
    (tmp_path / "own.py").write_text(
        "import numpy as np\nfrom dataclasses import replace\nfrom trainers.data.digits import Digits\n"
        "class Own(Digits):\n    def __init__(self, root, options):\n        super().__init__(root, options)\n"
        f"        old = self.index\n        self.index = replace(old, {change})\n")
    with pytest.raises((ConfigError, DataError), match=problem):
        open_dataset(DataConfig(dataset=f"{tmp_path}/own.py:Own"))
