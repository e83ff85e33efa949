"""Tuned against default: does the ranking of the methods survive when each one gets the same search?

    ablation run fair                about an hour and a half on 2 CPU cores, no download

Every cell (method, backbone, level) is searched twice with the same budget of 54 epochs: once by the probe's AUROC on
validation, once by RankMe, which needs no labels. Recipe and winners are then trained on seeds that no search has seen.
The report shows the ranking of the methods with recipes and with tuned settings, and what tuning without labels costs.

Drawn pictures, 256 of them, 6 epochs: it shows how such a study is set up and read. For an answer about a data set, put
that under ``data:`` (``ablation run fair data.dataset=folder data.root=/data/parts``) and give trials more epochs.
"""

from __future__ import annotations

from ablation.spec import Grid, Search, StudySpec
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


def study() -> StudySpec:
    return StudySpec(
        name="fair",
        data=DataConfig(dataset="sewer-sim", image_size=32, cache_size=36,
                        options={"num_train": 1000, "num_val": 700}),
        imbalance=ImbalanceConfig(policy="fixed_total", total=256),
        grid=Grid(method=("simclr", "barlow_twins", "byol", "dino", "mae", "supervised"), backbone=("resnet18",),
                  imbalance=(0.1, 0.5), seed=(0, 1, 2)),
        train=OptimConfig(epochs=6),
        evaluation=EvaluationConfig(max_images=400, fixed_labelled=200, view_images=64, views_per_image=4, every=1),
        search=Search(num_samples=None, max_epochs=54, scheduler="asha", reduction_factor=3, n_startup=5,
                      metric=("probe/auroc", "label_free/rankme"), seeds=(0,)),
    )
