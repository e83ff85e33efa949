"""A study's own metrics: functions of frozen features (``evaluation.metrics``), logged as ``custom/<name>``.

A function says by the names of its parameters what it wants of ``INPUTS``, and returns a number. Higher is taken as
better, unless the name ends in ``loss``. Pure numpy.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trainers import plugins
from trainers.names import short_name
from trainers.python_file import told

if TYPE_CHECKING:
    from trainers.evaluation.evaluate import EvalInput

PREFIX = "custom/"
INPUTS = {
    "features": "(N, D) float32, of the test set",
    "labels": "(N,) 0 normal, 1 defect, of the test set",
    "scores": "(N,) probability of a defect by the linear probe, of the test set; NaN where there is no probe",
    "train_features": "(M, D), of the trial's own labelled subset",
    "train_labels": "(M,)",
    "validation_features": "(L, D)",
    "validation_labels": "(L,)",
    "level_free_features": "(K, D), equal images for all trials, no labels",
}
"""Name of a parameter -> what it is given."""


def find_metric(name: str) -> Callable[..., Any]:
    """Raises ``ConfigError`` at ``evaluation.metrics``."""
    if not plugins.is_plugin("metrics", name):
        there = ", ".join(plugins.known("metrics"))
        raise plugins.refuse("metrics", name, "is neither path.py:function nor a metric of an installed package "
                                              f"({there or 'there is none'})")
    found = plugins.find("metrics", name).value
    if not callable(found):
        raise plugins.refuse("metrics", name, f"a metric is a function of {', '.join(INPUTS)}")
    wanted(found, name)
    return found  # type: ignore[no-any-return]


def wanted(function: Callable[..., Any], name: str) -> list[str]:
    """The inputs that a function asks for. Raises ``ConfigError`` for parameters that mean nothing here."""
    parameters = inspect.signature(function).parameters
    unknown = [key for key, given in parameters.items() if key not in INPUTS and given.default is given.empty]
    if unknown:
        raise plugins.refuse("metrics", name, f"there is no input '{unknown[0]}'; a metric takes any of "
                                              f"{', '.join(INPUTS)}")
    return [key for key in parameters if key in INPUTS]


def custom_metrics(names: Sequence[str], data: EvalInput, scores: np.ndarray) -> tuple[dict[str, float], list[str]]:
    """({``custom/<name>``: value}, what went wrong, one line each); ``scores`` as in ``INPUTS``.

    A function that raises or gives no finite number costs its own value, not the trial.
    """
    if not names:
        return {}, []
    return compute(names, {
        "features": data.test.features, "labels": data.test.labels, "scores": scores,
        "train_features": data.train.features, "train_labels": data.train.labels,
        "validation_features": data.validation.features, "validation_labels": data.validation.labels,
        "level_free_features": data.level_free.features})


def compute(names: Sequence[str], inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, float], list[str]]:
    """As ``custom_metrics``, with all of ``INPUTS`` given."""
    found: dict[str, float] = {}
    problems = []
    for name in names:
        function, key = find_metric(name), PREFIX + short_name(name)
        try:
            value = float(function(**{key: inputs[key].copy() for key in wanted(function, name)}))
        except Exception as error:
            problems.append(f"{key}: left out, raised {told(error)}")
            continue
        if math.isfinite(value):
            found[key] = value
        else:
            problems.append(f"{key}: left out, is {value}")
    return found, problems
