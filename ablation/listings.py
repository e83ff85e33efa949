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
