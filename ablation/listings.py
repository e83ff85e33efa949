"""What can be named in a study file: methods, backbones, data sets, metrics."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def method_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.methods import METHODS
    from trainers.recipes import recipe

    rows = []
    for name, method in METHODS.items():
        options = {field.name: field.default for field in dataclasses.fields(method.Config)}
        recipes = {f"recipe_{kind}": recipe(name, kind) for kind in ("resnet", "vit")}
        rows.append({"method": name, "family": method.family, "summary": method.summary, "paper": method.paper,
                     "labels": method.uses_labels,
                     **{key: f"{r.optimizer} lr {r.lr:g} wd {r.weight_decay:g}" for key, r in recipes.items()},
                     "options": ", ".join(f"{key}={value}" for key, value in options.items())})
    return pd.DataFrame(rows)


def setting_rows(method: str, space: str = "default") -> pd.DataFrame:
    """Every setting of a method with its recipe value (null = decided by method or subset) and its range in a search.

    One row for both kinds of backbone where they agree. Raises ``SpecError`` for an unknown method or space.
    """
    import pandas as pd

    from ablation.distributions import KINDS, own_value, settings
    from ablation.spaces import load_space

    found = load_space(method, space)
    searched = {kind: {parameter.path: parameter for parameter in found.for_backbone(kind)} for kind in KINDS}
    rows = []
    for path in dict.fromkeys([*(parameter.path for parameter in found.parameters), *settings(method)]):
        by_setting: dict[tuple[str, object, str], list[str]] = {}
        for kind in KINDS:
            parameter, value = searched[kind].get(path), own_value(method, kind, path)
            entry = ((str(parameter.distribution), value, parameter.source) if parameter
                     else ("fixed", value, _default_source(method, kind, path)))
            by_setting.setdefault(entry, []).append(kind)
        rows += [{"parameter": path, "backbone": ", ".join(kinds), "distribution": distribution,
                  "recipe_value": value, "source": source}
                 for (distribution, value, source), kinds in by_setting.items()]
    frame = pd.DataFrame(rows)
    frame["recipe_value"] = frame["recipe_value"].astype(object).where(frame["recipe_value"].notna(), None)
    return frame


def _default_source(method: str, kind: str, path: str) -> str:
    from trainers.recipes import FIELDS, recipe

    if path.removeprefix("train.") in FIELDS:
        return recipe(method, kind).source
    return "halved from 256 for small subsets" if path == "train.batch_size" else "default of the method"


def backbone_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.backbones import BACKBONES

    return pd.DataFrame([{"backbone": name, "summary": summary} for name, summary in BACKBONES.items()])


def dataset_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.data import DATASETS

    rows = []
    for name, dataset in DATASETS.items():
        options = {field.name: field.default for field in dataclasses.fields(dataset.Options)}
        rows.append({"dataset": name, "root": "needed" if dataset.needs_root else "optional",
                     "summary": dataset.summary,
                     "options": ", ".join(f"{key}={value}" for key, value in options.items())})
    return pd.DataFrame(rows)


def metric_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.evaluation.catalogue import METRICS

    return pd.DataFrame([{"metric": key, **dataclasses.asdict(info)} for key, info in METRICS.items()])
