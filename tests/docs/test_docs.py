"""Nothing in README or docs is invented: fences are run, or parsed where the page says why they are not."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

import ablation
from ablation import cli
from ablation.analyze_commands import in_order
from ablation.plan import plan
from ablation.results import StudyResults
from ablation.spec import StudySpec
from tests.conftest import Call
from tests.docs.pages import (
    PAGES,
    ROOT,
    RUN,
    SHOWN,
    Fence,
    all_fences,
    fences,
    in_folder,
    inline_commands,
    lines,
    words_of,
)
from tests.docs.world import finish

MOST_NOT_RUN = 23
"""Fences with a reason why they are not carried out. Raise it only for what needs a cluster, Docker or an hour."""
SMALL = {"train.epochs=5": "train.epochs=1",
         "train.epochs=2": "train.epochs=1 imbalance.total=100 evaluation.max_images=100 evaluation.view_images=8"}
"""The first as the trained study has it."""
HELD_ELSEWHERE = {"report": "tests/ablation/test_report.py draws reports, for ten seconds each"}
"""Commands that are parsed only."""
MAY_FIND_NOTHING = ("analyze", "next")
HARMLESS = ("printf",)


def place(fence: Fence) -> str:
    return fence.place


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def to_run(page: Path) -> list[Fence]:
    return [fence for fence in fences(page) if fence.language in ("sh", "python") and not fence.not_run]


@functools.cache
def root_command() -> Any:
    return typer.main.get_command(cli.complete())


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The Typer command that these words call, and its own arguments."""
    command, rest = root_command(), in_order(words)
    while rest and rest[0] in getattr(command, "commands", {}):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def test_every_fence_has_a_known_language_and_few_are_not_run() -> None:
    unknown = [fence.place for page in PAGES for fence in fences(page) if fence.language not in (*RUN, *SHOWN)]
    assert unknown == []
    left_out = [fence.place for fence in all_fences(*RUN) if fence.not_run]
    assert len(left_out) <= MOST_NOT_RUN, left_out


@pytest.mark.parametrize("fence", all_fences("yaml"), ids=place)
def test_study_files_and_their_parts_are_valid(fence: Fence) -> None:
    content = yaml.safe_load(fence.text)
    StudySpec.from_dict({"name": "fragment"} | content)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_exists_with_its_options(page: Path) -> None:
    for fence in fences(page):
        for line in lines(fence) if fence.language == "sh" else []:
            if words := words_of(line):
                command, rest = command_of(words)
                assert not hasattr(command, "commands") or not rest, line
                if not hasattr(command, "commands"):
                    command.make_context(words[0], list(rest))
    for words in inline_commands(page):
        command, rest = command_of(words)
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert command.name != "ablation" or not rest, words
        assert {word for word in rest if re.match("--?[a-z]", word)} <= known | {"--help"}, words


@pytest.mark.parametrize("page", [page for page in PAGES if to_run(page)], ids=name_of)
def test_page_runs(page: Path, world: Path, call: Call) -> None:
    """All commands and Python blocks of a page one after the other, as its reader would."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    variables: dict[str, str] = {}
    with in_folder(world):
        for fence in to_run(page):
            fence = dataclasses.replace(fence, text=functools.reduce(
                lambda text, pair: text.replace(*pair), SMALL.items(), fence.text))
            if fence.language == "python":
                exec(compile("\n" * fence.line + fence.text, str(page), "exec"), namespace)
            for line in lines(fence) if fence.language == "sh" else ():
                if not (words_of(line) and words_of(line)[0] in HELD_ELSEWHERE):
                    carry_out(re.sub(r"\$(\w+)", lambda name: variables[name[1]], line), fence, variables, call)


def carry_out(line: str, fence: Fence, variables: dict[str, str], call: Call) -> None:
    """One line as a shell would, but ``ablation`` in this process: starting it anew takes seconds."""
    words = words_of(line)
    if not words:
        assert line.split()[0] in HARMLESS, f"{fence.place}: say why this is not run: {line}"
        subprocess.run(["bash", "-ec", line], check=True)
        return
    if words[0] == "run":  # without Ray, which takes longer to start than these trials
        finish(plan(StudySpec.load(words[1], words[2:])), Path("cache"))
    code, out, err = call(*words)
    assert code == 0 or (code == 4 and tuple(words[:2]) == MAY_FIND_NOTHING), f"{fence.place}: {line}: {out}{err}"
    _, piped, pipe = line.partition(" | ")
    if piped:
        out = subprocess.run(["bash", "-ec", pipe.rstrip(")")], input=out, text=True, check=True,
                             capture_output=True).stdout
    if assigned := re.match(r"(\w+)=\$\(", line):
        variables[assigned[1]] = out.strip()
    if " > " in line:
        Path(line.rsplit(" > ", 1)[1]).write_text(out)


@pytest.mark.parametrize("fence", [fence for fence in all_fences("python") if fence.not_run], ids=place)
def test_python_that_is_not_run_names_what_exists(fence: Fence) -> None:
    assert names_that_do_not_exist(fence.text) == []


def names_that_do_not_exist(code: str) -> list[str]:
    """``ablation.x`` and ``results.x`` of a block that is not run."""
    homes = {"ablation": ablation, "results": StudyResults}
    used = [(node.value.id, node.attr) for node in ast.walk(ast.parse(code))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in homes]
    return [f"{home}.{name}" for home, name in used if not hasattr(homes[home], name)]


def test_links_of_the_readme_lead_somewhere() -> None:
    for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name}: {target}"
