"""The supervised reference: searched like the others, so that it stays an upper mark."""

from __future__ import annotations

from ablation.distributions import Categorical, LogUniform, Parameter, Space, Uniform


def space() -> Space:
    return Space("supervised", (
        Parameter("train.lr", LogUniform(3e-4, 3e-2), backbone="resnet",
                  source="recipe 3e-3, a factor 10 each way (docs/results/recipes.md)"),
        Parameter("train.lr", LogUniform(1e-4, 1e-2), backbone="vit",
                  source="recipe 1e-3, a factor 10 each way; DeiT (arXiv:2012.12877) 5e-4 per 512"),
        Parameter("train.weight_decay", LogUniform(0.005, 0.5),
                  source="recipe 0.05 (DeiT), a factor 10 each way"),
        Parameter("train.options.class_weight", Categorical(("balanced", "none")),
                  source="both that there are"),
        Parameter("train.options.crop_min", Uniform(0.5, 1.0),
                  source="recipe 0.8; 0.5 in docs/results/recipes.md, 1 = no crop, as in Sewer-ML's baseline"),
    ))
