"""The rules of docs/architecture.md that a machine can hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("ablation", "trainers", "search_spaces")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BENCHMARKS = ROOT / "benchmarks"
ALL_PYTHON = SOURCES + sorted(path for path in BENCHMARKS.rglob("*.py") if BENCHMARKS / "out" not in path.parents)
SERVICES = {"ray": {"ablation/driver.py", "ablation/worker.py"}, "mlflow": {
    "ablation/tracking.py", "ablation/model_registry.py",  # the view of the store, and what a person registers
    "ablation/pyfunc_model.py"},  # run by MLflow itself, from a copy of the file
            "optuna": {"ablation/sampler.py", "ablation/analysis/importance.py"}}
STANDALONE = ROOT / "trainers" / "inference"
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_LOOP_LINES = 350, 60, 120


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def top(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    modules, package = imported(path), path.relative_to(ROOT).parts[0]
    names = top(modules)
    if package == "trainers":
        assert not names & {"ablation", "search_spaces", "ray", "mlflow", "pandas", "optuna", "pydantic"}
    if package == "search_spaces":
        ours = {module for module in modules if module.split(".")[0] in PACKAGES}
        allowed = ("ablation.spec", "ablation.distributions", "trainers.config")
        assert all(module.startswith(allowed) for module in ours), ours
        assert not names & {"ray", "torch", "mlflow"}
    assert package == "search_spaces" or "search_spaces" not in names


@pytest.mark.parametrize("service", SERVICES)
def test_an_outside_service_lives_in_its_own_files(service: str) -> None:
    assert {name_of(path) for path in SOURCES if service in top(imported(path))} == SERVICES[service]


@pytest.mark.parametrize("path", [*STANDALONE.glob("*.py"), ROOT / "ablation" / "pyfunc_model.py"], ids=name_of)
def test_what_is_copied_into_exports_stands_alone(path: Path) -> None:
    outside = top(imported(path)) - set(sys.stdlib_module_names)
    assert outside <= {"torch", "timm", "numpy", "PIL", "safetensors", "mlflow", "pandas", "defect_model"}, outside


def test_torch_distributed_lives_in_one_file() -> None:
    users = {name_of(path) for path in SOURCES if any(m.startswith("torch.distributed") for m in imported(path))}
    assert users == {"trainers/distributed.py"}


@pytest.mark.parametrize("path", ALL_PYTHON, ids=name_of)
def test_files_and_functions_stay_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            is_the_loop = name_of(path) == "trainers/train.py" and node.name == "train"
            most = MAX_LOOP_LINES if is_the_loop else MAX_FUNCTION_LINES
            assert lines <= most, f"{node.name} has {lines} lines"


def test_no_drawer_for_everything() -> None:
    names = {part.removesuffix(".py") for path in ALL_PYTHON for part in path.relative_to(ROOT).parts}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_docker_folder_never_shadows_the_docker_package() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()


def test_every_test_folder_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert all((folder / "__init__.py").exists() for folder in folders), folders


def test_locks_hold_hashes_and_no_addresses() -> None:
    for path in ROOT.glob("requirements*.lock"):
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "index-url" not in text
    assert not (ROOT / "uv.lock").exists() or "uv.lock" in (ROOT / ".gitignore").read_text()


@pytest.mark.parametrize("command", [["-c", "import ablation"], ["-m", "ablation.cli", "--help"]], ids=" ".join)
def test_light_start(command: list[str]) -> None:
    """``import ablation`` and ``ablation --help`` load none of the heavy packages."""
    code = "import sys, runpy\n"
    code += "import ablation\n" if command[0] == "-c" else (
        "sys.argv = ['ablation', '--help']\n"
        "try: runpy.run_module('ablation.cli', run_name='__main__')\n"
        "except SystemExit: pass\n")
    code += "print('LOADED', *sorted({'torch', 'ray', 'mlflow', 'pandas', 'timm', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1].split() == ["LOADED"]


def test_runtime_dependencies_are_explained() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text()
    for requirement in project["dependencies"]:
        name = requirement.split("[")[0].split(">")[0].split("=")[0].strip()
        assert f"`{name}" in text, f"docs/dependencies.md says nothing of {name}"


def test_names_without_torch_equal_the_registries() -> None:
    from trainers.backbones import BACKBONES
    from trainers.data import DATASETS
    from trainers.methods import METHODS
    from trainers.names import BACKBONE_NAMES, DATASET_NAMES, METHOD_NAMES

    assert tuple(METHODS) == METHOD_NAMES
    assert tuple(DATASETS) == DATASET_NAMES
    assert tuple(BACKBONES) == BACKBONE_NAMES


def test_every_builtin_study_resolves() -> None:
    from ablation.sources import builtin_studies
    from ablation.spec import StudySpec

    names = builtin_studies()
    assert {"quickstart", "paper", "paper-supervised"} <= set(names)
    for name in names:
        spec = StudySpec.load(name)
        assert spec == StudySpec.from_dict(spec.to_dict())


def test_the_paper_study_has_250_trials() -> None:
    from ablation.spec import StudySpec

    grid = StudySpec.load("paper").grid
    assert len(grid.method) * len(grid.backbone) * len(grid.imbalance) * len(grid.seed) == 250
