"""The grid of the paper on Sewer-ML: 5 methods x 2 backbones x 5 levels x 5 seeds = 250 trials.

    ablation plan paper data.root=/data/sewer-ml
    ablation run paper data.root=/data/sewer-ml --address ...

Otero, Mateus & Balestriero, "Anomaly Detection In The Wild: Can SSL Handle Strong Distribution Imbalances?"
(arXiv 2410.04289). What is known of it: the five methods, the two backbones, defect proportions of 1, 2, 5 and 15 %,
250 experiments. **How 250 decomposes is not known**: only the abstract and summaries could be read. Four levels do
not divide 250, so this study reads it as five levels (the four and a balanced one) times five seeds. That is a
reading, not a fact; so are image size, budget and recipes, which follow the sources named in ``trainers.recipes``.

The supervised references stand outside the 250: ``ablation run paper-supervised``.
"""

from __future__ import annotations

from ablation.spec import Grid, Override, StudySpec, Where
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig

LEVELS = (0.01, 0.02, 0.05, 0.15, 0.5)
SEEDS = (0, 1, 2, 3, 4)
LARS = {"simclr": (0.3, 1e-4), "barlow_twins": (0.3, 1e-4), "byol": (0.5, 1e-6), "dino": (0.3, 1e-6)}
"""(base rate, weight decay) of solo-learn's ImageNet-100 recipes for ResNet-18; this study is long enough for them."""


def study() -> StudySpec:
    return StudySpec(
        name="paper",
        data=DataConfig(dataset="sewer-ml", root="sewer-ml", image_size=224, normalize="dataset"),
        # The largest total that all levels can meet; on the whole of Sewer-ML 558,404 images.
        imbalance=ImbalanceConfig(policy="fixed_total"),
        grid=Grid(method=("simclr", "barlow_twins", "byol", "dino", "mae"), backbone=("resnet18", "vit_tiny"),
                  imbalance=LEVELS, seed=SEEDS),
        # 400 epochs of ImageNet-100 (solo-learn's recipes) show 50 M images: about 90 epochs here.
        train=OptimConfig(epochs=90, batch_size=256),
        overrides=tuple(
            Override(where=Where(method=(method,), backbone=("resnet18",)),
                     set={"train.optimizer": "lars", "train.lr": lr, "train.weight_decay": decay})
            for method, (lr, decay) in LARS.items()),
        evaluation=EvaluationConfig(test_prevalence=0.5),
    )
