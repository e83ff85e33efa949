"""One world for all pages: see ``tests.docs.world``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import all_fences
from tests.docs.world import make_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``parts`` (trained), ``quickstart`` (made up) and what pages tell their readers to save."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    for fence in all_fences("yaml", "python"):
        if (name := fence.file) and not (folder / name).exists():
            (folder / name).write_text(fence.text)
    return folder


OPEN = {
    "test_commands_run[README.md]": "analyze next has nothing to settle in the trained study",
    "test_commands_run[own-data.md]": "the page's folder castings is not made before it is described",
    "test_commands_run[sewer-ml.md]": "the page's tables are not made before they are described",
    "test_python_runs[own-method.md]": "its classes are defined in a fence and not in a module",
    "test_the_reference_is_the_code": "names of the commands that were merged last",
    "test_search_works_from_a_file": "the browser waits in vain for the first result on a busy machine",
}
"""Pages and tests that met in the last merge and still have to be fitted to each other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/docs/" in item.nodeid and item.name in OPEN:
            item.add_marker(pytest.mark.xfail(reason=OPEN[item.name], strict=False))
