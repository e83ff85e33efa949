"""Barlow Twins (arXiv:2103.03230): besides rate and decay, lambda and what makes C noisy: projection and batch."""

from __future__ import annotations

from ablation.distributions import Categorical, LogUniform, Parameter, Space


def space() -> Space:
    return Space("barlow_twins", (
        Parameter("train.lr", LogUniform(3e-4, 3e-2), backbone="resnet",
                  source="recipe 3e-3, a factor 10 each way; half of it in docs/results/recipes.md"),
        Parameter("train.lr", LogUniform(1e-4, 1e-2), backbone="vit",
                  source="recipe 1e-3, a factor 10 each way; holds stable-datasets' 1.5e-4, stable-pretraining's 5e-4"),
        Parameter("train.weight_decay", LogUniform(0.005, 0.5),
                  source="recipe 0.05 (stable-pretraining), a factor 10 each way"),
        Parameter("train.batch_size", Categorical((32, 64, 128, 256)),
                  source="what the default takes by size of subset (trainers.config.default_batch_size); the author's "
                         "best rate moves with it (barlowtwins issue 7)"),
        Parameter("train.options.off_diagonal_weight", LogUniform(5e-4, 5e-2),
                  source="paper 0.0051, a factor 10 each way"),
        Parameter("train.options.projection_dim", Categorical((64, 128, 256, 512, 1024, 2048)),
                  source="null = 1024, and 128 under 112 px; 2048 in ResNet-18 recipes; noise grows with its square "
                         "(docs/results/recipes.md)"),
        Parameter("train.options.crop_min", LogUniform(0.05, 0.5),
                  source="null = 0.08 (solo-learn) or 0.2 (stable-ssl; under 112 px)"),
    ))
