"""The grid of the paper at the smallest size that still learns: 250 self-supervised and 50 supervised trials.

    ablation run quickstart-250      about an hour and a quarter on 2 CPU cores, no download

Five methods, two backbones, five levels, five seeds on drawn sewer pictures, 256 of them for pre-training: enough for
SimCLR on ViT-Tiny to beat its untrained self at every level, far too few to settle the paper's question. It is what
the analysis is shown on (docs/report.md). At 1 % there would be three defects, so the levels begin at 8 %.
"""

from __future__ import annotations

from ablation.spec import Grid, StudySpec
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


def study() -> StudySpec:
    return StudySpec(
        name="quickstart-250",
        data=DataConfig(dataset="sewer-sim", image_size=48, cache_size=56, options={"num_train": 800, "num_val": 800}),
        imbalance=ImbalanceConfig(policy="fixed_total", total=256),
        grid=Grid(method=("simclr", "barlow_twins", "byol", "dino", "mae", "supervised"),
                  backbone=("resnet18", "vit_tiny"), imbalance=(0.08, 0.12, 0.2, 0.35, 0.5), seed=(0, 1, 2, 3, 4)),
        train=OptimConfig(epochs=4),
        evaluation=EvaluationConfig(max_images=600, fixed_labelled=300, view_images=64, views_per_image=4),
    )
