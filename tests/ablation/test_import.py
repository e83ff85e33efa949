"""Importing the package is instant; its public names appear when they are used."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import ablation

HEAVY = ("torch", "ray", "mlflow", "pandas", "numpy", "pydantic", "scipy")


def _loaded(code: str) -> set[str]:
    code += f"; import sys; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_loads_nothing_heavy() -> None:
    assert _loaded("import ablation") == set()


def test_reading_a_study_and_the_store_load_neither_torch_nor_pandas() -> None:
    code = "import ablation; ablation.StudySpec.load('quickstart'); ablation.Store('x').studies()"
    assert _loaded(code) <= {"pydantic", "numpy"}


def test_planning_does_not_load_torch() -> None:
    code = (
        "import ablation; spec = ablation.StudySpec(name='a', data={'dataset': 'digits', 'image_size': 16}, "
        "grid={'method': 'simclr', 'imbalance': 0.05}, train={'batch_size': 64}); assert ablation.plan(spec).trials"
    )
    assert not _loaded(code) & {"torch", "ray", "mlflow"}


def test_plan_stays_callable_after_its_module_was_imported() -> None:
    import ablation.plan as module
    from ablation.plan import Plan

    assert callable(ablation.plan)
    assert module.Plan is Plan is ablation.Plan


def test_all_public_names_resolve() -> None:
    for name in ablation.__all__:
        assert getattr(ablation, name) is not None
        assert name in dir(ablation)


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).resolve().parents[2] / "pyproject.toml").read_text())
    assert ablation.__version__ == project["project"]["version"]
