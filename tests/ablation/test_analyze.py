"""``ablation analyze``, ``compare`` and ``init`` as a user calls them, on a store with a synthetic study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablation import cli
from ablation.results import load_study
from ablation.spec import StudySpec
from tests.ablation.synthetic_study import write_study


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store")
    write_study(path / "demo")
    return path


def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    """Exit code, and stdout as JSON (or stderr where nothing came out)."""
    monkeypatch.setattr("sys.argv", ["ablation", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(shown.out) if shown.out.startswith("[") else shown.err


def test_tables_are_those_of_the_results(store: Path, monkeypatch: pytest.MonkeyPatch,
                                         capsys: pytest.CaptureFixture[str]) -> None:
    results, metric = load_study("demo", store=store), "probe/auroc"
    expected = {
        ("analyze", "correlate"): results.correlate("label_free/rankme", metric),
        ("analyze", "regret"): results.regret(metric=metric),
        ("analyze", "variance"): results.variance(metric),
        ("analyze", "ranks"): results.compare(metric),
        ("analyze", "drop"): results.drop(metric),
        ("analyze", "curves"): results.curves(),
        ("analyze", "claims"): results.claims(metric),
        ("compare",): results.compare(metric),
    }
    for words, frame in expected.items():
        code, rows = call(monkeypatch, capsys, *words, "demo", "--store", str(store), "--format", "json")
        assert code == 0
        assert rows == json.loads(frame.to_json(orient="records", double_precision=15)), words


def test_the_study_may_come_first(store: Path, monkeypatch: pytest.MonkeyPatch,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    usual, other = (call(monkeypatch, capsys, "analyze", *words, "--by", "backbone", "--store", str(store), "--format",
                         "json") for words in (("ranks", "demo"), ("demo", "ranks")))
    assert usual == other
    assert usual[0] == 0


def test_next_prints_a_study_that_runs_and_reasons_beside_it(store: Path, monkeypatch: pytest.MonkeyPatch,
                                                             capsys: pytest.CaptureFixture[str],
                                                             tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["ablation", "analyze", "next", "demo", "--store", str(store), "--max-more", "999"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    shown = capsys.readouterr()
    (tmp_path / "more.yaml").write_text(shown.out)
    grown = StudySpec.load(str(tmp_path / "more.yaml"))
    assert grown.name == "demo"
    assert grown.grid.seed[:4] == (0, 1, 2, 3)
    assert "would settle a difference of this size" in shown.err
    code, pairs = call(monkeypatch, capsys, "analyze", "next", "demo", "--store", str(store), "--format", "json")
    assert (code, len(pairs)) == (0, 10)


def test_next_of_a_settled_study_matches_nothing(store: Path, monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    write_study(store / "settled", methods=["simclr", "mae"], epochs=1, num_test=4)
    code, text = call(monkeypatch, capsys, "analyze", "next", "settled", "--store", str(store))
    assert code == 4
    assert "1 of 1 pairs of methods are settled." in text
    assert "no further trial is worth running" in text


def test_groups_are_comma_separated(store: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = call(monkeypatch, capsys, "analyze", "correlate", "demo", "--within", "method, backbone",
                      "--store", str(store), "--format", "json")
    assert code == 0
    assert rows[0]["num_groups"] == 12


def test_an_unknown_metric_is_named(store: Path, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    code, text = call(monkeypatch, capsys, "analyze", "variance", "demo", "-m", "probe/aurok", "--store", str(store))
    assert code == 4
    assert "probe/auroc" in text


@pytest.mark.parametrize("words", [("regret", "demo", "--within", ""), ("variance", "demo", "--factors", ","),
                                   ("correlate", "demo", "--within", "")])
def test_empty_lists_are_usage_errors(words: tuple[str, ...], store: Path, monkeypatch: pytest.MonkeyPatch,
                                      capsys: pytest.CaptureFixture[str]) -> None:
    code, text = call(monkeypatch, capsys, "analyze", *words, "--store", str(store))
    assert code == 2
    assert "at least one column" in text


@pytest.mark.parametrize("name", ["2024.yaml", "true.yaml", "Prüfung äöü.yaml", f"{'x' * 90}.yaml"])
def test_init_gives_any_file_a_valid_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / name
    assert call(monkeypatch, capsys, "init", str(path), "--data", 'a "quoted" \\ place')[0] == 0
    assert StudySpec.load(str(path)).data.root == 'a "quoted" \\ place'


@pytest.mark.parametrize(("data", "dataset"), [(None, "sewer-sim"), ("/data/parts", "folder"), ("t.CSV", "table")])
def test_init_writes_a_valid_study_once(data: str | None, dataset: str, tmp_path: Path,
                                        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "My parts.yaml"
    options = ["--data", data] if data else []
    code, text = call(monkeypatch, capsys, "init", str(path), *options)
    assert code == 0, text
    spec = StudySpec.load(str(path))
    assert (spec.name, spec.data.dataset, spec.data.root) == ("my-parts", dataset, data)
    before = path.read_text()
    code, text = call(monkeypatch, capsys, "init", str(path))
    assert code == 2
    assert "exists already" in text
    assert path.read_text() == before
