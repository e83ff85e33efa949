"""DINO (arXiv:2104.14294): besides rate and decay, the temperatures, the teacher's pace, prototypes and crops.

The ranges of the temperatures do not overlap: the teacher never cools down, and is never softer than the student, which
would undo its sharpening.
"""

from __future__ import annotations

from ablation.distributions import Categorical, LogUniform, Parameter, Space, Uniform


def space() -> Space:
    return Space("dino", (
        Parameter("train.lr", LogUniform(3e-4, 3e-2), backbone="resnet",
                  source="recipe 3e-3, a factor 10 each way; half and a sixth of it in docs/results/recipes.md"),
        Parameter("train.lr", LogUniform(5e-5, 5e-3), backbone="vit",
                  source="recipe 5e-4 (paper), a factor 10 each way; solo-learn finds 5e-3 unstable on ViT-Tiny"),
        Parameter("train.weight_decay", LogUniform(0.005, 0.5), backbone="resnet",
                  source="recipe 0.05, a factor 10 each way"),
        Parameter("train.weight_decay", LogUniform(0.004, 0.4), backbone="vit",
                  source="recipe 0.04 rising to 0.4 (paper), a factor 10 each way; a drawn one stays constant"),
        Parameter("train.options.teacher_temperature", LogUniform(0.02, 0.05),
                  source="paper 0.04, author code: lower it where the loss stays; 0.02 in docs/results/recipes.md"),
        Parameter("train.options.teacher_temperature_end", Uniform(0.05, 0.08),
                  source="recipe 0.07 (solo-learn, option of the author code, which finds more than 0.07 unstable)"),
        Parameter("train.options.student_temperature", LogUniform(0.08, 0.16),
                  source="paper 0.1; not below the teacher's"),
        Parameter("train.options.momentum", Categorical((0.9, 0.97, 0.99, 0.996, 0.9995)),
                  source="lightly 0.99, paper 0.996, author code 0.9995 at batch 256; null = 0.9 to 0.99 by budget"),
        Parameter("train.options.num_prototypes", Categorical((256, 512, 1024, 2048, 4096)),
                  source="256 in docs/results/recipes.md, lightly 2048, solo-learn's ResNet-18 4096"),
        Parameter("train.options.crop_boundary", LogUniform(0.14, 0.7),
                  source="paper 0.4 (ViT), author code 0.14 (convnets)"),
    ))
