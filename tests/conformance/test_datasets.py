"""What every entry of ``DATASETS`` promises: a sound index, plain pixels, the same twice, and a run that ends."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pytest

from tests.conformance.samples import SAMPLES
from trainers.config import ConfigError, DataConfig, TrainConfig
from trainers.data import DATASETS, open_dataset
from trainers.data.index import AbstractDataset
from trainers.names import DATASET_NAMES
from trainers.records import RunContext, TrainResult
from trainers.train import train


@dataclass
class Sample:
    name: str
    config: DataConfig
    dataset: AbstractDataset


@pytest.fixture(scope="module", params=DATASETS)
def sample(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sample:
    root, options = SAMPLES[request.param](tmp_path_factory.mktemp(request.param))
    config = DataConfig(dataset=request.param, root=root, options=options, image_size=16)
    dataset = open_dataset(config)
    dataset.prepare(lambda line: None)
    return Sample(request.param, config, dataset)


def test_index_is_sound(sample: Sample) -> None:
    index = sample.dataset.index
    columns = (index.ids, index.labels, index.splits, index.groups, index.defect_types)
    assert {len(column) for column in columns} == {len(index)}
    assert len(set(index.ids.tolist())) == len(index)
    assert not any("\\" in name or name.startswith("/") for name in index.ids.tolist())
    assert set(index.splits.tolist()) <= {"train", "val", "test"}
    assert set(index.labels.tolist()) <= {-1, 0, 1}
    assert index.labels.dtype == np.int8
    for split in ("train", "val"):
        assert len(index.where(split, 0))
        assert len(index.where(split, 1))
    for group in set(index.groups.tolist()):
        assert len(set(index.splits[index.groups == group].tolist())) == 1
    assert not index.defect_types[index.labels == 0].any()
    assert all(index.defect_types[index.labels == 1])


def test_pixels_are_plain_rgb_and_the_same_twice_also_in_a_copy(sample: Sample) -> None:
    copy = pickle.loads(pickle.dumps(sample.dataset))
    for position in (0, len(sample.dataset.index) - 1):
        image = sample.dataset.load(position)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        np.testing.assert_array_equal(image, copy.load(position))


def test_opening_again_gives_the_same_digest(sample: Sample) -> None:
    assert open_dataset(sample.config).index.digest == sample.dataset.index.digest


def test_it_says_what_it_is_and_names_unknown_options(sample: Sample) -> None:
    reader = DATASETS[sample.name]
    assert sample.name in DATASET_NAMES
    assert len(reader.summary) > 20
    assert "\n" not in reader.summary
    assert len(reader.mean) == len(reader.std) == 3
    assert all(field.kw_only for field in fields(reader.Options))
    with pytest.raises(ConfigError, match=r"data\.options\.nonsense: unknown field"):
        open_dataset(DataConfig(dataset=sample.name, root=sample.config.root, options={"nonsense": 1}))


def test_a_run_on_it_ends_with_scores(sample: Sample, tmp_path: Path) -> None:
    data = {"dataset": sample.name, "root": sample.config.root, "options": sample.config.options, "image_size": 16}
    config = TrainConfig.from_dict({
        "method": "simclr", "backbone": "resnet18", "imbalance": 0.25, "seed": 0, "allow_tiny": True, "data": data,
        "subset": {"total": 32}, "train": {"epochs": 1, "batch_size": 16, "precision": "fp32"},
        "evaluation": {"max_images": 60, "fixed_labelled": 24, "view_images": 8, "views_per_image": 2}})
    *_, result = train(config, RunContext(trial_dir=tmp_path, cache_dir=tmp_path / "cache", threads=1))
    assert isinstance(result, TrainResult)
    assert 0 <= result.metrics["probe/auroc"] <= 1
    assert result.provenance["data_digest"] == sample.dataset.index.digest
