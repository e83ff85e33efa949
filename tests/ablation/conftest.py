"""A really trained trial of seconds, without Ray: what exports, scores and the model registry are tested on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ablation.plan import plan
from ablation.results import StudyResults, load_study
from ablation.spec import StudySpec
from tests.conformance import samples
from trainers.records import RunContext, TrainResult
from trainers.train import train


@dataclass(frozen=True)
class TrainedTrial:
    """A store with one finished trial, and the folder of its images."""

    root: Path
    """Holds ``studies`` and ``pictures``."""
    key: str
    results: StudyResults

    @property
    def pictures(self) -> Path:
        return self.root / "pictures"

    def apart(self, frame: pd.DataFrame) -> float:
        """Largest difference from ``scores.parquet``; every validation and test image must be among the scored ones."""
        names = frame["path"].map(lambda path: Path(path).relative_to(self.pictures).as_posix())
        mine = frame.set_index(names)["score"]
        theirs = self.results.scores(self.key).set_index("image_id")["score_probe"]
        return float((mine.loc[theirs.index] - theirs).abs().max())


def make_odd(folder: Path) -> None:
    """Some hold-out pictures as cameras and annotation tools leave them."""
    for number, mode in ((49, "I;16"), (50, "P"), (52, "RGBA"), (53, "L")):
        path = folder / f"{number}.png"
        picture = Image.open(path)
        if mode == "I;16":
            gray = np.asarray(picture.convert("L")).astype(np.uint16) * 37
            Image.fromarray(gray).save(path)
        else:
            picture.convert(mode).save(path)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(folder / "55.png").resize((31, 20)).save(folder / "55.jpg", exif=turned)
    (folder / "55.png").unlink()


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedTrial:
    """In the precision that this machine chooses, as users' trials are."""
    root = tmp_path_factory.mktemp("trained")
    (root / "pictures").mkdir()
    samples.folder(root / "pictures")
    make_odd(root / "pictures" / "val" / "good")
    spec = StudySpec.from_dict({
        "name": "parts", "allow_tiny": True,
        "data": {"dataset": "folder", "root": str(root / "pictures"), "image_size": 16},
        "imbalance": {"policy": "natural"},
        "grid": {"method": ["simclr"], "backbone": ["resnet18"], "imbalance": ["natural"], "seed": [0]},
        "train": {"epochs": 1, "batch_size": 16},
        "evaluation": {"max_images": 100, "fixed_labelled": 20, "view_images": 4, "views_per_image": 2}})
    planned = plan(spec, store=root / "studies")
    planned.save()
    [trial] = planned.trials
    results = load_study("parts", store=root / "studies")
    context = RunContext(trial_dir=results.store.trial_dir(trial.key), cache_dir=root / "cache", threads=1)
    result = list(train(trial.config, context))[-1]
    assert isinstance(result, TrainResult)
    results.store.write_result(trial.key, dataclasses.asdict(result))
    return TrainedTrial(root, trial.key, results)
