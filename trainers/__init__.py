"""One training run of one method on one imbalanced subset: pure torch, no Ray, no MLflow, no studies.

Map of the package::

    config       what a run is (frozen dataclasses; no torch)
    records      the nouns that cross borders: Batch, StepOutput, EpochReport, TrainResult
    data/        readers -> Index, imbalance subsets, decoded cache, batched views
    methods/     one file per method; METHODS is the list
    backbones    timm encoders, small-image stems
    train        the loop
    evaluation/  frozen features -> probe, kNN, detectors, label-free metrics

This package imports nothing of ``ablation`` or ``search_spaces``; ``tests/architecture`` holds that.
"""
