"""The first five minutes: every SSL method and supervised, both backbones, two levels, on drawn sewer pictures.

    ablation run quickstart          about 4 minutes on 2 CPU cores, no download

The budget (256 pictures, 4 epochs) is far too small to rank methods. It shows that joint embeddings begin to learn (the
best of each level beats the same probe on the untrained backbone) and what a study and its report look like.
"""

from __future__ import annotations

from ablation.spec import Grid, StudySpec
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


def study() -> StudySpec:
    return StudySpec(
        name="quickstart",
        data=DataConfig(dataset="sewer-sim", image_size=48, cache_size=56,
                        options={"num_train": 800, "num_val": 500}),
        imbalance=ImbalanceConfig(policy="fixed_total", total=256),
        grid=Grid(method=("simclr", "barlow_twins", "byol", "dino", "mae", "supervised"),
                  backbone=("resnet18", "vit_tiny"), imbalance=(0.2, 0.5), seed=(0,)),
        train=OptimConfig(epochs=4),
        evaluation=EvaluationConfig(max_images=400, fixed_labelled=300, view_images=64, views_per_image=4),
    )
