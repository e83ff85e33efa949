"""SimCLR (arXiv:2002.05709): besides rate and decay, what sets the negatives: temperature, batch, crop."""

from __future__ import annotations

from ablation.distributions import Categorical, LogUniform, Parameter, Space


def space() -> Space:
    return Space("simclr", (
        Parameter("train.lr", LogUniform(3e-4, 3e-2), backbone="resnet",
                  source="recipe 3e-3, a factor 10 each way (docs/results/recipes.md)"),
        Parameter("train.lr", LogUniform(1e-4, 1e-2), backbone="vit",
                  source="recipe 1e-3, a factor 10 each way; holds MoCo v3's 1.5e-4, stable-datasets' 3e-4, "
                         "stable-pretraining's 5e-4"),
        Parameter("train.weight_decay", LogUniform(0.005, 0.5),
                  source="recipe 0.05, a factor 10 each way; holds MoCo v3's 0.1 on ViTs"),
        Parameter("train.batch_size", Categorical((32, 64, 128, 256)),
                  source="what the default takes by size of subset (trainers.config.default_batch_size); "
                         "256 in solo-learn"),
        Parameter("train.options.temperature", LogUniform(0.05, 0.8),
                  source="0.2 (solo-learn), a factor 4 each way; holds 0.1 (paper, ImageNet) and 0.5 (its CIFAR "
                         "setting, lightly)"),
        Parameter("train.options.hidden_dim", Categorical((512, 1024, 2048)),
                  source="lightly's ResNet-18 512, paper 2048"),
        Parameter("train.options.crop_min", LogUniform(0.05, 0.5),
                  source="null = 0.08 (paper) or 0.2 (stable-ssl; under 112 px); 0.5 in docs/results/recipes.md"),
    ))
