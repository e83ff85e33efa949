"""MAE (arXiv:2111.06377; SparK, arXiv:2301.03580, on a ResNet): besides rate and decay, mask, decoder and crop."""

from __future__ import annotations

from ablation.distributions import Categorical, Integer, LogUniform, Parameter, Space, Uniform


def space() -> Space:
    return Space("mae", (
        Parameter("train.lr", LogUniform(2e-4, 2e-2), backbone="resnet",
                  source="recipe 2e-3, a factor 10 each way; SparK's own 2e-4 is for LAMB"),
        Parameter("train.lr", LogUniform(1e-4, 1e-2), backbone="vit",
                  source="recipe 1e-3 (stable-pretraining), a factor 10 each way; holds the paper's 1.5e-4"),
        Parameter("train.weight_decay", LogUniform(0.004, 0.4), backbone="resnet",
                  source="recipe 0.04 (SparK, there rising to 0.2), a factor 10 each way"),
        Parameter("train.weight_decay", LogUniform(0.005, 0.5), backbone="vit",
                  source="recipe 0.05 (paper), a factor 10 each way"),
        Parameter("train.options.mask_ratio", Uniform(0.4, 0.8), backbone="resnet",
                  source="null = 0.6 (SparK)"),
        Parameter("train.options.mask_ratio", Uniform(0.5, 0.9), backbone="vit",
                  source="null = 0.75 (paper); its figure 5 goes from 0.1 to 0.9"),
        Parameter("train.options.decoder_dim", Categorical((64, 128, 256, 512)),
                  source="128 here, paper 512"),
        Parameter("train.options.decoder_depth", Integer(1, 8, log=True), backbone="vit",
                  source="2 here, lightly 1, paper 8"),
        Parameter("train.options.crop_min", LogUniform(0.08, 0.5),
                  source="paper 0.2, solo-learn 0.08"),
    ))
