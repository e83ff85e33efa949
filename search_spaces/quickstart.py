"""The first five minutes: every SSL method and supervised, both backbones, two levels, on drawn sewer pictures.

    ablation run quickstart          about 4 minutes on 2 CPU cores, no download

The budget is far too small to rank methods; it shows that each one learns (its probe beats the untrained backbone)
and what a study and its report look like.
"""

from __future__ import annotations

from ablation.spec import Grid, StudySpec
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


def study() -> StudySpec:
    return StudySpec(
        name="quickstart",
        data=DataConfig(dataset="sewer-sim", image_size=32, cache_size=48,
                        options={"num_train": 1200, "num_val": 600}),
        imbalance=ImbalanceConfig(policy="fixed_total", total=512),
        grid=Grid(method=("simclr", "barlow_twins", "byol", "dino", "mae", "supervised"),
                  backbone=("resnet18", "vit_tiny"), imbalance=(0.1, 0.5), seed=(0,)),
        train=OptimConfig(epochs=4, batch_size=64),
        evaluation=EvaluationConfig(max_images=600, fixed_labelled=400),
    )
