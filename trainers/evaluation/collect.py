"""From an encoder to everything that ``evaluate`` scores: one feature pass over the images that are trained on, in the
training precision, and one over those that are scored, in float32 as whoever uses the encoder will compute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainers.atomic import replace_file
from trainers.backbones import build_backbone
from trainers.config import NUMERICS, TrainConfig
from trainers.data.imbalance import EvaluationSets
from trainers.data.loader import OpenData
from trainers.data.views import Normalization
from trainers.evaluation.evaluate import EvalInput, FeatureSet, random_init_score
from trainers.evaluation.features import embed, extract, extract_views, frozen
from trainers.methods.augmentations import symmetric_views
from trainers.methods.base import AbstractMethod
from trainers.seeding import derive, image_keys


@dataclass(frozen=True)
class Judge:
    """Scores encoders of one run: the fixed sets, the run's own subset, and how to compute features."""

    config: TrainConfig
    data: OpenData
    train: np.ndarray
    """Positions of the run's own labelled subset."""
    sets: EvaluationSets
    device: torch.device
    precision: torch.dtype
    normalize: Normalization
    memo_dir: Path
    """Folder for the random-init scores, which all methods of a cell share."""

    def features(self, encode: Callable[[Tensor], Tensor], positions: np.ndarray,
                 precision: torch.dtype | None = None) -> np.ndarray:
        """(N, D) float32 in the order of ``positions``, computed in the training precision or another."""
        return extract(encode, self.data.cache.gather, positions, size=self.config.data.image_size,
                       device=self.device, normalize=self.normalize, precision=precision or self.precision)

    def collect(self, method: AbstractMethod) -> EvalInput:
        """Features of every set from the method's encoder, in eval mode, un-augmented."""
        seen = self._among(method, [self.train, self.sets.fixed_labelled, self.sets.level_free], self.precision)
        held_out = self._among(method, [self.sets.validation, self.sets.test], torch.float32)
        level_free = seen(self.sets.level_free).features
        with frozen(method):
            embeddings = embed(method.embed, level_free, self.device)
        return EvalInput(
            train=seen(self.train), validation=held_out(self.sets.validation), test=held_out(self.sets.test),
            fixed_labelled=seen(self.sets.fixed_labelled), views=self.views(method.encoder),
            level_free=self._feature_set(level_free, self.sets.level_free, embeddings),
            random_init_auroc=self.random_init())

    def _among(self, method: AbstractMethod, sets: list[np.ndarray],
               precision: torch.dtype) -> Callable[[np.ndarray], FeatureSet]:
        """Features of some of the sets' images, which are computed once for all of them."""
        union = np.unique(np.concatenate(sets))
        features = self.features(method.encoder, union, precision)
        return lambda positions: self._feature_set(features[np.searchsorted(union, positions)], positions)

    def views(self, encode: Callable[[Tensor], Tensor]) -> np.ndarray | None:
        """(n, q, D) of SimCLR's views of some level-free images: the same pictures for every trial of a study."""
        settings = self.config.evaluation
        positions = self.sets.level_free
        positions = positions[np.argsort(self.data.hashes[positions], kind="stable")[: settings.view_images]]
        if len(positions) < 2:
            return None
        specs = symmetric_views(self.config.data.image_size, None)[:1] * settings.views_per_image
        keys = image_keys(self.data.hashes[positions], 0, "evaluation_views", 0)
        return extract_views(encode, self.data.cache.gather, positions, keys, specs, self.device, self.normalize,
                             self.precision)

    def random_init(self) -> float | None:
        """AUROC of the same probe on the untrained backbone of this seed; kept on disk, equal for all methods."""
        code = {kind: digest for kind, digest in self.config.plugins.items() if kind in ("backbones", "datasets")}
        facts = [NUMERICS, self.config.backbone, self.config.seed, self.config.data.image_size,
                 self.config.data.normalize, asdict(replace(self.config.evaluation, metrics=())), code,
                 self.data.dataset.index.digest, self.data.cache.size, str(self.precision), self.device.type,
                 torch.__version__, hashlib.blake2b(self.train.tobytes(), digest_size=8).hexdigest()]
        name = hashlib.blake2b(json.dumps(facts, sort_keys=True).encode(), digest_size=12).hexdigest()
        path = self.memo_dir / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())  # type: ignore[no-any-return]
        torch.manual_seed(derive(self.config.seed, "init"))
        backbone = build_backbone(self.config.backbone, self.config.data.image_size).to(self.device)
        train, test = (self._feature_set(self.features(backbone, positions, precision), positions)
                       for positions, precision in ((self.train, self.precision), (self.sets.test, torch.float32)))
        score = random_init_score(train, test, self.config.seed, self.device)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda handle: handle.write(json.dumps(score).encode()), sync=False)
        return score

    def _feature_set(self, features: np.ndarray, positions: np.ndarray,
                     embeddings: np.ndarray | None = None) -> FeatureSet:
        index = self.data.dataset.index
        codes = None if index.codes is None else index.codes[positions]
        return FeatureSet(features=features, labels=index.labels[positions], codes=codes, embeddings=embeddings)
