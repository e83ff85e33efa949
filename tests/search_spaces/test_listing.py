"""``ablation methods`` lists as ever; ``ablation methods show NAME`` prints recipe and space."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ablation.distributions import KINDS, settings
from ablation.spaces import load_space
from tests.conftest import Call
from trainers.methods import METHODS
from trainers.recipes import recipe


def test_the_list_is_as_before(call: Call) -> None:
    code, text, _ = call("methods", "--format", "json")
    assert code == 0
    rows = json.loads(text)
    assert [row["method"] for row in rows] == list(METHODS)
    assert list(rows[0]) == ["method", "family", "summary", "paper", "labels", "recipe_resnet", "recipe_vit", "options",
                             "from"]
    assert {row["from"] for row in rows} == {"built in"}
    code, text, _ = call("methods")
    assert code == 0
    assert text.split()[:3] == ["method", "family", "summary"]


@pytest.mark.parametrize("words", [("methods", "--help"), ("methods", "show", "--help")])
def test_help_ends_with_an_example(call: Call, words: tuple[str, ...]) -> None:
    code, text, _ = call(*words)
    assert code == 0
    assert text.strip().splitlines()[-1].strip().startswith("Example: ablation methods")


@pytest.mark.parametrize("method", METHODS)
def test_show_prints_every_setting_with_recipe_and_range(call: Call, method: str) -> None:
    code, text, _ = call("methods", "show", method, "--format", "json")
    assert code == 0
    rows = json.loads(text)
    assert all(list(row) == ["parameter", "backbone", "distribution", "recipe_value", "source"] for row in rows)
    assert all(row["source"] for row in rows)
    cells = [(row["parameter"], kind) for row in rows for kind in row["backbone"].split(", ")]
    assert sorted(cells) == sorted((path, kind) for path in settings(method) for kind in KINDS)
    found = {cell: row for row in rows for cell in ((row["parameter"], kind) for kind in row["backbone"].split(", "))}
    for kind in KINDS:
        space = load_space(method)
        for parameter in space.for_backbone(kind):
            row = found[parameter.path, kind]
            assert (row["distribution"], row["source"]) == (str(parameter.distribution), parameter.source)
            assert row["recipe_value"] == space.centre(kind)[parameter.path]
        fixed = set(settings(method)) - set(space.centre(kind))
        assert {found[path, kind]["distribution"] for path in fixed} == {"fixed"}
        assert found["train.optimizer", kind]["recipe_value"] == recipe(method, kind).optimizer


def test_the_format_may_stand_before_the_command(call: Call) -> None:
    _, after, _ = call("methods", "show", "simclr", "--format", "csv")
    code, before, _ = call("methods", "--format", "csv", "show", "simclr")
    assert (code, before) == (0, after)
    row = next(row for row in csv.DictReader(io.StringIO(after)) if row["parameter"] == "train.batch_size")
    assert (row["recipe_value"], row["backbone"]) == ("null", "resnet, vit")


def test_the_table_is_read_by_people(call: Call) -> None:
    _, text, _ = call("methods", "show", "mae")
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["parameter", "backbone", "distribution", "recipe_value", "source"]
    assert ["train.options.decoder_depth", "vit", "log-integer", "1", "to", "8", "2"] in [line[:7] for line in lines]
    assert ["train.options.decoder_depth", "resnet", "fixed", "2"] in [line[:4] for line in lines]


def test_mistakes_are_one_line_and_exit_2(call: Call) -> None:
    code, text, error = call("methods", "show", "simclrr")
    assert (code, text) == (2, "")
    assert error.startswith("error: unknown method 'simclrr' (did you mean 'simclr'?); there are simclr, ")
    code, _, error = call("methods", "show", "simclr", "--space", "defualt")
    assert code == 2
    assert "(did you mean 'default'?)" in error
