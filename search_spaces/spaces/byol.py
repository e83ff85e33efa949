"""BYOL (arXiv:2006.07733): besides rate and decay, how slowly the target follows, and the heads."""

from __future__ import annotations

from ablation.distributions import Categorical, LogUniform, Parameter, Space


def space() -> Space:
    return Space("byol", (
        Parameter("train.lr", LogUniform(3e-4, 3e-2), backbone="resnet",
                  source="recipe 3e-3, a factor 10 each way; half and twice of it in docs/results/recipes.md"),
        Parameter("train.lr", LogUniform(1e-4, 1e-2), backbone="vit",
                  source="recipe 1e-3, a factor 10 each way; no ViT-Tiny recipe is published, MoCo v3's 1.5e-4 is the "
                         "nearest"),
        Parameter("train.weight_decay", LogUniform(0.005, 0.5),
                  source="recipe 0.05, a factor 10 each way; holds MoCo v3's 0.1 on ViTs"),
        Parameter("train.options.momentum", Categorical((0.9, 0.97, 0.99, 0.996, 0.999)),
                  source="author code by epochs: 0.97 (40), 0.99 (100, 300), 0.996 (1000); lightly 0.999 "
                         "(ImageNet-100); null = 0.9 to 0.99 by budget"),
        Parameter("train.options.hidden_dim", Categorical((512, 1024, 2048, 4096)),
                  source="1024 here, paper 4096"),
        Parameter("train.options.crop_min", LogUniform(0.05, 0.5),
                  source="null = 0.08 (paper) or 0.2 (stable-ssl; under 112 px)"),
    ))
