"""What can be named in a study file: methods, backbones, data sets, metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


BUILT_IN = "built in"


def method_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.methods import find_method
    from trainers.recipes import recipe

    rows = []
    for name, method, origin, problem in _found("methods", find_method):
        if method is None:
            rows.append({"method": name, "summary": problem, "from": origin})
            continue
        recipes = {f"recipe_{kind}": recipe(name, kind) for kind in ("resnet", "vit")}
        rows.append({"method": name, "family": method.family, "summary": method.summary, "paper": method.paper,
                     "labels": method.uses_labels,
                     **{key: f"{r.optimizer} lr {r.lr:g} wd {r.weight_decay:g}" for key, r in recipes.items()},
                     "options": _options(method.Config), "from": origin})
    return pd.DataFrame(rows)


def _found(kind: str, find: Callable[[str], Any]) -> Iterator[tuple[str, Any, str, str]]:
    """(name, object or None, where it is from, why there is none) of all that stands in a study file by name."""
    from trainers import plugins
    from trainers.config import ConfigError

    for name in plugins.known(kind):
        points = plugins.installed(kind).get(name, ())
        origin = " and ".join(map(plugins.origin, points)) or BUILT_IN
        try:
            yield name, find(name), origin, ""
        except ConfigError as error:
            yield name, None, origin, f"cannot be used: {error.message}"


def _options(config: Any) -> str:
    return ", ".join(f"{field.name}={field.default}" for field in dataclasses.fields(config))


def setting_rows(method: str, space: str = "default") -> pd.DataFrame:
    """Every setting of a method with its recipe value (null = decided by method or subset) and its range in a search.

    One row for both kinds of backbone where they agree. Raises ``SpecError`` for an unknown method or space.
    """
    import pandas as pd

    from ablation.distributions import KINDS, own_value, settings
    from ablation.spaces import DEFAULT, load_space
    from trainers.plugins import is_plugin

    bare = space == DEFAULT and is_plugin("methods", method)
    searched = {kind: {} if bare else {parameter.path: parameter
                                       for parameter in load_space(method, space).for_backbone(kind)} for kind in KINDS}
    rows = []
    for path in dict.fromkeys([*(path for parameters in searched.values() for path in parameters), *settings(method)]):
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

    from trainers.backbones import BACKBONES, find_builder

    return pd.DataFrame([{"backbone": name, "summary": BACKBONES.get(name) or problem or _first_line(build),
                          "from": origin} for name, build, origin, problem in _found("backbones", find_builder)])


def dataset_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.data import find_dataset

    rows = []
    for name, dataset, origin, problem in _found("datasets", find_dataset):
        about = {"summary": problem} if dataset is None else {
            "root": "needed" if dataset.needs_root else "optional", "summary": dataset.summary,
            "options": _options(dataset.Options)}
        rows.append({"dataset": name, **about, "from": origin})
    return pd.DataFrame(rows)


def metric_rows() -> pd.DataFrame:
    import pandas as pd

    from trainers.evaluation.catalogue import METRICS
    from trainers.evaluation.custom import PREFIX, find_metric

    rows = [{"metric": key, **dataclasses.asdict(info), "from": BUILT_IN} for key, info in METRICS.items()]
    rows += [{"metric": PREFIX + name, "summary": problem or _first_line(function), "range": "",
              "better": "lower" if name.endswith("loss") else "higher", "source": "", "from": origin}
             for name, function, origin, problem in _found("metrics", find_metric)]
    return pd.DataFrame(rows)


def _first_line(found: Any) -> str:
    return (getattr(found, "__doc__", None) or "").strip().split("\n")[0]
