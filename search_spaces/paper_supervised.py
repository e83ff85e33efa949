"""The supervised references of the paper study: 1 method x 2 backbones x 5 levels x 5 seeds = 50 trials.

    ablation run paper-supervised data.root=/data/sewer-ml

Same data, subsets, budget and evaluation as ``paper``, so that the gap to supervision can be read per level.
"""

from __future__ import annotations

from ablation.spec import Grid, StudySpec
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


def study() -> StudySpec:
    return StudySpec(
        name="paper-supervised",
        data=DataConfig(dataset="sewer-ml", root="sewer-ml", image_size=224, normalize="dataset"),
        imbalance=ImbalanceConfig(policy="fixed_total"),
        grid=Grid(method=("supervised",), backbone=("resnet18", "vit_tiny"),
                  imbalance=(0.01, 0.02, 0.05, 0.15, 0.5), seed=(0, 1, 2, 3, 4)),
        train=OptimConfig(epochs=90, batch_size=256),
        evaluation=EvaluationConfig(test_prevalence=0.5),
    )
