"""Which images a trial sees: imbalanced, nested training subsets, and evaluation sets that are equal for all trials.

Every choice is a prefix of an order by ``blake2b(salt:image id)``: independent of library versions, of the
order of the files, and of the other classes. Hence a seed's 1 % subset has a subset of the defects of its 2 %
subset, and (``fixed_total``) the normals of its 2 % subset are among those of its 1 % subset.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from trainers.config import ConfigError, EvaluationConfig, Imbalance, ImbalanceConfig
from trainers.data.index import DataError, Index
from trainers.seeding import hash_ids

FEWEST_DEFECTS = 20
VALIDATION_SHARE = 0.25
"""Of the groups of a hold-out that has to serve as validation and test set."""


@dataclass(frozen=True)
class Subset:
    """The images of the train split that one (level, seed) is trained on."""

    positions: np.ndarray
    """(n,) int64, ascending."""
    level: Imbalance
    num_defects: int
    num_normals: int
    counts: dict[str, int]
    """Images per defect type, by name."""
    digest: str
    """16 hex digits over the sorted ids."""


@dataclass(frozen=True)
class EvaluationSets:
    """Positions (ascending int64) that do not depend on level, method or seed."""

    validation: np.ndarray
    """Labelled hold-out for thresholds."""
    test: np.ndarray
    """Labelled hold-out for scores, at ``test_prevalence``."""
    fixed_labelled: np.ndarray
    """Train images of ``probe_fixed``, half of them defects where there are enough."""
    level_free: np.ndarray
    """Train images at the data's own prevalence, labels unused: label-free metrics that compare levels."""


def largest_total(index: Index, levels: list[Imbalance]) -> int:
    """The largest ``total`` that the train split can give at every level."""
    available = _available(index)
    return min(_largest(*available, level) for level in levels)


def select_subset(index: Index, level: Imbalance, seed: int, config: ImbalanceConfig,
                  allow_tiny: bool = False) -> Subset:
    """Cut the subset of ``level`` and ``seed``. Raises ``DataError`` with the numbers where images are too few."""
    if config.policy == "natural" and level != "natural":
        raise ConfigError("imbalance", f"level {level} needs policy fixed_total or fixed_normals; with policy natural "
                                       "the level must be the word natural")
    defects, normals = _class_order(index, 1, seed), _class_order(index, 0, seed)
    if level == "natural":
        chosen = _natural(index, seed, config, defects, normals)
    else:
        num_defects, num_normals = _sizes(float(level), config, len(defects), len(normals))
        chosen = np.concatenate([defects[:num_defects], normals[:num_normals]])
    return _subset(index, np.sort(chosen), level, allow_tiny)


def select_evaluation_sets(index: Index, config: EvaluationConfig) -> EvaluationSets:
    """Validation, test, fixed labelled and level-free images. Raises ``DataError`` where the hold-out lacks a class.

    Computed once per index and configuration: on all of Sewer-ML it takes seconds, and every trial asks.
    """
    if config not in index.memo:
        index.memo[config] = _evaluation_sets(index, config)
    sets: EvaluationSets = index.memo[config]
    return sets


def _evaluation_sets(index: Index, config: EvaluationConfig) -> EvaluationSets:
    validation, test = _hold_outs(index)
    train = index.where("train")
    return EvaluationSets(
        validation=np.sort(_ordered(index, validation, "validation")[: config.max_images]),
        test=_at_prevalence(index, test, config),
        fixed_labelled=_balanced(index, train, config.fixed_labelled),
        level_free=np.sort(_ordered(index, train, "level_free")[: config.max_images]))


def _ordered(index: Index, positions: np.ndarray, salt: str) -> np.ndarray:
    ids = index.ids[positions]
    return positions[np.lexsort((ids, hash_ids(ids, salt)))]


def _class_order(index: Index, label: int, seed: int) -> np.ndarray:
    """Train positions of a class in the order of a seed; hashed once, since every level takes a prefix of it."""
    if (label, seed) not in index.memo:
        index.memo[label, seed] = _ordered(index, index.where("train", label), str(seed))
    order: np.ndarray = index.memo[label, seed]
    return order


def _available(index: Index) -> tuple[int, int]:
    return len(index.where("train", 1)), len(index.where("train", 0))


def _largest(num_defects: int, num_normals: int, level: Imbalance) -> int:
    if level == "natural":
        return num_defects + num_normals
    share = float(level)

    def fits(total: int) -> bool:
        wanted = round(share * total)
        return wanted <= num_defects and total - wanted <= num_normals

    total = math.floor(min(num_defects / share, num_normals / (1 - share)))
    while fits(total + 1):
        total += 1
    while not fits(total):
        total -= 1
    return total


def _sizes(level: float, config: ImbalanceConfig, num_defects: int, num_normals: int) -> tuple[int, int]:
    """(defects, normals) of a level, checked against what there is."""
    if not num_defects:
        raise DataError(f"imbalance: the train split has no defects ({num_normals} normal images); put some there, let "
                        "class folders be cut anew by data.options: {train_share: 0.8}, or score detectors only with "
                        "grid.imbalance natural and --allow-tiny")
    if config.policy == "fixed_total":
        total = config.total or _largest(num_defects, num_normals, level)
        defects = round(level * total)
        normals = total - defects
        fix = f"lower imbalance.total to {_largest(num_defects, num_normals, level)} or less"
    else:
        normals = config.normals or num_normals
        defects = round(level / (1 - level) * normals)
        fix = f"lower imbalance.normals to {min(num_normals, int(num_defects * (1 - level) / level))} or less"
    if not (num_defects and num_normals):
        raise DataError(f"imbalance {level}: the train split has {num_defects} defects, {num_normals} normal images; "
                        "add labelled images of both kinds, or use the level natural with policy natural")
    if defects > num_defects or normals > num_normals:
        raise DataError(f"imbalance {level}: needs {defects} defects and {normals} normal images, the train split has "
                        f"{num_defects} and {num_normals}; {fix}, or drop the level")
    if defects < 1 or normals < 1:
        raise DataError(f"imbalance {level}: leaves {defects} defects and {normals} normal images (the train split has "
                        f"{num_defects} and {num_normals}); use more images or the level natural")
    return defects, normals


def _natural(index: Index, seed: int, config: ImbalanceConfig, defects: np.ndarray, normals: np.ndarray) -> np.ndarray:
    everything = np.concatenate([defects, normals])
    if config.policy == "fixed_total" and config.total is not None:
        if config.total > len(everything):
            raise DataError(f"imbalance natural: needs {config.total} images, the train split has {len(everything)} "
                            f"labelled ones; lower imbalance.total to {len(everything)} or less")
        return _ordered(index, everything, str(seed))[: config.total]
    if config.policy == "fixed_normals" and config.normals is not None:
        if config.normals > len(normals):
            raise DataError(f"imbalance natural: needs {config.normals} normal images, the train split has "
                            f"{len(normals)}; lower imbalance.normals to {len(normals)} or less")
        num_defects = round(len(defects) / len(normals) * config.normals)
        return np.concatenate([defects[:num_defects], normals[: config.normals]])
    return everything


def _subset(index: Index, positions: np.ndarray, level: Imbalance, allow_tiny: bool) -> Subset:
    labels = index.labels[positions]
    num_defects = int((labels == 1).sum())
    num_normals = len(positions) - num_defects
    if num_defects < FEWEST_DEFECTS and not allow_tiny:
        raise DataError(f"imbalance {level}: only {num_defects} defects among {len(positions)} images, fewer than "
                        f"{FEWEST_DEFECTS} say little; use more images or a higher level, or pass --allow-tiny")
    types = Counter(index.defect_types[positions[labels == 1]].tolist())
    digest = hashlib.blake2b("\n".join(sorted(index.ids[positions].tolist())).encode(), digest_size=8).hexdigest()
    return Subset(positions.astype(np.int64), level, num_defects, num_normals, dict(sorted(types.items())), digest)


def _hold_outs(index: Index) -> tuple[np.ndarray, np.ndarray]:
    """(validation, test): val and test where both have both classes, else the one that has, split by group."""
    labelled = {split: np.flatnonzero((index.splits == split) & (index.labels >= 0)) for split in ("val", "test")}
    usable = {split: rows for split, rows in labelled.items() if len(np.unique(index.labels[rows])) == 2}
    if len(usable) == 2:
        return usable["val"], usable["test"]
    if not usable:
        found = ", ".join(f"{split}: {len(index.where(split, 0))} normal, {len(index.where(split, 1))} defect"
                          for split in labelled)
        raise DataError(f"no hold-out with both classes ({found}); add labelled normal and defect images to val "
                        "or test")
    (split, rows), = usable.items()
    held = hash_ids(index.groups[rows], "hold_out") < np.uint64(VALIDATION_SHARE * 2.0**64)
    for name, part in (("validation", rows[held]), ("test", rows[~held])):
        if len(np.unique(index.labels[part])) < 2:
            raise DataError(f"split {split}: its {len(rows)} labelled images ({len(np.unique(index.groups[rows]))} "
                            f"groups) are too few for a validation and a test set, the {name} part lacks a class; "
                            "add images")
    return rows[held], rows[~held]


def _at_prevalence(index: Index, rows: np.ndarray, config: EvaluationConfig) -> np.ndarray:
    """The largest part of ``rows`` with the wanted share of defects, at most ``max_images``."""
    ordered = _ordered(index, rows, "test")
    if config.test_prevalence is None:
        return np.sort(ordered[: config.max_images])
    defects, normals = ordered[index.labels[ordered] == 1], ordered[index.labels[ordered] == 0]
    share = config.test_prevalence
    total = min(_largest(len(defects), len(normals), share), config.max_images)
    # One image fewer may meet the share better: an odd total is never balanced.
    total = min((total, total - 1), key=lambda size: abs(round(share * size) / max(size, 1) - share))
    num_defects = round(share * total)
    if not 0 < num_defects < total:
        raise DataError(f"evaluation.test_prevalence {share}: the hold-out has {len(defects)} defects "
                        f"and {len(normals)} normal images, too few for it; use null to keep it as it is")
    return np.sort(np.concatenate([defects[:num_defects], normals[: total - num_defects]]))


def _balanced(index: Index, rows: np.ndarray, num_images: int) -> np.ndarray:
    """``num_images`` labelled images, half of each class; fewer where a class is smaller than that."""
    ordered = _ordered(index, rows, "probe_fixed")
    defects, normals = ordered[index.labels[ordered] == 1], ordered[index.labels[ordered] == 0]
    each = min(num_images // 2, len(defects), len(normals))
    return np.sort(np.concatenate([defects[:each], normals[:each]]))
