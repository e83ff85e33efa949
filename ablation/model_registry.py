"""A trial's model as a version in MLflow's model registry, which loads where this project is not installed.

The run of the trial is its source. What MLflow keeps is the folder of ``ablation export --format timm`` and
``pyfunc_model.py``, which needs torch, timm, numpy, pillow and safetensors.
"""

from __future__ import annotations

import io
import logging
import re
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablation.defect_models import DECISION, trial_model
from ablation.errors import AblationError, ServiceUnavailable, SpecError
from ablation.export import export_model
from ablation.store import Store
from ablation.tracking import Mirror

if TYPE_CHECKING:
    import pandas as pd

    from ablation.results import StudyResults

REQUIREMENTS = ("torch", "timm", "numpy", "pillow", "safetensors", "pandas")
NEWEST = "newest"
TAGGED = ("probe/auroc", "probe/ap", "probe_fixed/auroc", "probe/precision_at_deployment")


def register_model(results: StudyResults, key: str, name: str, uri: str | None = None, threshold: str = DECISION,
                   alias: str | None = None) -> str:
    """Register and return the address of the version, ``models:/NAME/1``. Alias ``newest`` and ``alias`` point to it.

    Raises ``SpecError`` for a name that MLflow refuses, ``ServiceUnavailable`` when MLflow cannot be reached, and as
    ``trial_model``.
    """
    _check(name, alias)
    model = trial_model(results, key, threshold)  # before MLflow is touched
    mirror = Mirror(Store(results.study_dir.parent), results.store, uri)
    client, run, experiment = mirror.open_run(key)
    description = model.description
    tags = {"study": results.name, "key": key, "method": str(description["config"].get("method")),
            "backbone": description["backbone"], "data_digest": str(description["provenance"].get("data_digest")),
            "threshold": f"{model.threshold:.9g}", "threshold.chosen": description["decision"]["chosen"]}
    tags |= {score: f"{description['metrics'][score]:.6g}" for score in TAGGED if score in description["metrics"]}
    try:
        with tempfile.TemporaryDirectory() as folder:
            logged = client.create_logged_model(experiment, name=key.replace(".", "_"), source_run_id=run, tags=tags)
            _write(export_model(results, key, Path(folder) / "export", "timm", threshold), Path(folder) / "model",
                   logged.model_id, model.input_size)
            client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
            client.finalize_logged_model(logged.model_id, "READY")
            return _new_version(client, name, logged, run, tags, [NEWEST, *([alias] if alias else [])])
    except AblationError:
        raise
    except Exception as error:  # mlflow, requests and sqlalchemy each raise their own kinds
        raise ServiceUnavailable(f"MLflow refuses the model: {(str(error) or type(error).__name__).splitlines()[0]}"
                                 ) from error


def _new_version(client: Any, name: str, logged: Any, run: str, tags: dict[str, str], aliases: list[str]) -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="Says of an image whether it shows a defect.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(name, source=logged.artifact_location, run_id=run, model_id=logged.model_id,
                                       tags=tags, description=f"{tags['key']} of study {tags['study']}")
    for alias in aliases:
        client.set_registered_model_alias(name, alias, made.version)
    return f"models:/{name}/{made.version}"


def _write(export: Path, out: Path, model_id: str, side: int) -> None:
    """The MLflow model of an export, with signature and input example."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own type hints and use of pydantic, already when it is imported
        import mlflow.pyfunc
        from mlflow.models import Model, ModelSignature
        from mlflow.types import ColSpec, Schema

        signature = ModelSignature(
            inputs=Schema([ColSpec("binary", "image")]),
            outputs=Schema([ColSpec("float", "score"), ColSpec("boolean", "defect"), ColSpec("float", "threshold")]))
        mlflow.pyfunc.save_model(
            out, python_model=str(Path(__file__).with_name("pyfunc_model.py")), artifacts={"export": str(export)},
            code_paths=[str(export / "defect_model")], signature=signature, input_example=_example(side),
            pip_requirements=[f"{package}=={version(package).split('+')[0]}" for package in REQUIREMENTS],
            mlflow_model=Model(model_id=model_id))


def _example(side: int) -> pd.DataFrame:
    """One picture as the bytes of a PNG file."""
    import pandas as pd
    from PIL import Image

    file = io.BytesIO()
    Image.radial_gradient("L").resize((side, side)).save(file, "PNG")
    return pd.DataFrame({"image": [file.getvalue()]})


def _check(name: str, alias: str | None) -> None:
    if not name.strip() or re.search(r"[/:]", name):
        raise SpecError(f"--register {name!r}: a name without / and :")
    if alias is not None and not re.fullmatch(r"(?!(?i:v\d+|latest)$)[\w\-]+", alias):
        raise SpecError(f"--alias {alias!r}: letters, digits, - and _, not 'latest' and not v1, v2, …")
