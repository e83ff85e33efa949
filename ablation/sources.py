"""Where a study comes from: a YAML file, a Python function, or the name of a built-in."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

from ablation.errors import SpecError
from ablation.study_file import Document, read_yaml
from trainers.config import suggest
from trainers.python_file import PythonFileError, attribute

T = TypeVar("T")


def read_source(source: str | Path) -> Document:
    """Raises ``SpecError`` when ``source`` is none of the three."""
    text = str(source)
    if text.endswith((".yaml", ".yml")):
        return read_yaml(Path(text))
    path, _, function = text.rpartition(":")
    if function and path.endswith(".py"):
        return _document(python_function(Path(path), function), f"{Path(path).name}:{function}")
    if text.endswith((".py", ".py:")):
        path = text.rstrip(":")
        raise SpecError(f"{path}: name the function that returns the study: {path}:study")
    if Path(text).is_dir():
        raise SpecError(f"{text}: is a folder, not a study; 'ablation init study.yaml --data {text}' writes a study of "
                        "the pictures in it")
    names = builtin_studies()
    if text not in names:
        known = ", ".join(names) or "none installed"
        raise SpecError(f"'{text}' is neither a .yaml file, nor path.py:function, nor a built-in study "
                        f"({known}){suggest(text, names)}")
    module = importlib.import_module(f"search_spaces.{text.replace('-', '_')}")
    return _document(module.study, text)


def builtin_studies() -> dict[str, str]:
    """Name -> first line of the docstring, of every module of ``search_spaces`` that defines ``study``."""
    package = importlib.util.find_spec("search_spaces")
    folders = list(package.submodule_search_locations or ()) if package else []
    found = {}
    for path in sorted(path for folder in folders for path in Path(folder).glob("*.py")):
        tree = ast.parse(path.read_text(), str(path))
        if any(isinstance(node, ast.FunctionDef) and node.name == "study" for node in tree.body):
            found[path.stem.replace("_", "-")] = (ast.get_docstring(tree) or "").split("\n")[0]
    return found


def python_function(path: Path, function: str) -> Callable[..., Any]:
    """``function`` of a Python file. Raises ``SpecError`` when there is none."""
    try:
        make = attribute(path, function, "function")
    except PythonFileError as error:
        raise SpecError(str(error)) from error
    if not callable(make):
        raise SpecError(f"{path.name}: '{function}' is no function")
    return cast(Callable[..., Any], make)


def returned(make: Callable[[], Any], wanted: type[T], origin: str) -> T:
    """What a function returns. Raises ``SpecError`` that begins with ``origin`` when that is not ``wanted``."""
    try:
        made = make()
    except SpecError as error:
        raise SpecError([f"{origin}: {problem}" for problem in error.problems]) from None
    except (Exception, SystemExit) as error:
        raise SpecError(f"{origin}: raised {type(error).__name__}: {error}") from error
    if made is None:
        raise SpecError(f"{origin}: returned nothing; it must end with 'return' and a {wanted.__name__}")
    if not isinstance(made, wanted):
        raise SpecError(f"{origin}: returned {type(made).__name__}, expected a {wanted.__name__}")
    return made


def _document(make: Callable[[], Any], origin: str) -> Document:
    from ablation.spec import StudySpec

    spec = returned(make, StudySpec, origin)
    return Document(spec.to_dict(), origin, {(): origin})
