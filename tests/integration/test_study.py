"""From one command to a report: real Ray, real SQLite, real processes, on a study of seconds."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

import ablation as package
from ablation.store import Store
from ablation.tracking import Mirror
from tests.integration.studies import ablation, command, environment, free_port, wait_for, write_study

# One trial is made to fail: no float survives this learning rate.
FAILING = "overrides: [{where: {method: supervised}, set: {train.lr: 1.0e+30}}]"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder after ``ablation run`` of two good trials and one that fails."""
    folder = tmp_path_factory.mktemp("study")
    path = write_study(folder, ["simclr", "barlow_twins", "supervised"], epochs=2, more=FAILING)
    done = ablation(folder, "run", path, report=True)
    assert done.returncode == 3, done.stderr
    (folder / "first.out").write_text(done.stdout)
    (folder / "first.err").write_text(done.stderr)
    return folder


def client(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder / 'studies' / 'mlflow.db'}")


def runs(folder: Path) -> list[dict[str, str]]:
    mlflow = client(folder)
    experiment = mlflow.get_experiment_by_name("tiny")
    assert experiment is not None
    return [{**run.data.tags, "status": run.info.status, "name": run.info.run_name, "id": run.info.run_id}
            for run in mlflow.search_runs([experiment.experiment_id])]


def test_run_ends_with_scores_the_report_and_the_failure(study: Path) -> None:
    out, err = (study / "first.out").read_text(), (study / "first.err").read_text()
    report = study / "studies" / "tiny" / "report" / "report.html"
    assert f"report: {report}" in out
    assert "probe/auroc" in out
    assert "diverged" in err
    assert "[3/3]" in err
    assert "<svg" in report.read_text()
    assert "Traceback" not in err


def test_every_planned_trial_is_a_row_failed_ones_included(study: Path) -> None:
    frame = package.load_study("tiny", store=study / "studies").trials_dataframe()
    assert len(frame) == 3
    by_method = frame.set_index("method")
    assert by_method.loc["supervised", "state"] == "FAILED"
    assert by_method.loc["supervised", "reason"] == "diverged"
    assert (by_method.drop("supervised")["state"] == "FINISHED").all()
    assert by_method.drop("supervised")["metrics.probe/auroc"].between(0, 1).all()
    history = package.load_study("tiny", store=study / "studies").history()
    assert history[history["metric"] == "train/loss"].groupby("key").size().max() == 2


def test_mlflow_holds_one_parent_and_one_child_per_trial(study: Path) -> None:
    found = runs(study)
    parents = [run for run in found if "mlflow.parentRunId" not in run]
    children = [run for run in found if "mlflow.parentRunId" in run]
    assert len(parents) == 1
    assert {run["mlflow.parentRunId"] for run in children} == {parents[0]["id"]}
    assert sorted(run["status"] for run in children) == ["FAILED", "FINISHED", "FINISHED"]
    finished = next(run for run in children if run["method"] == "simclr")
    assert finished["name"].startswith("simclr-test_resnet-p0.1-s0-")
    factors = [finished[name] for name in ("backbone", "imbalance", "seed", "state")]
    assert factors == ["test_resnet", "0.1", "0", "FINISHED"]
    assert finished["provenance.torch"]
    mlflow = client(study)
    loss = mlflow.get_metric_history(finished["id"], "train/loss")
    assert [point.step for point in loss] == [1, 2, 2]  # two epochs, and the result's own value
    run = mlflow.get_run(finished["id"])
    assert "probe/auroc" in run.data.metrics
    assert len(run.data.metrics) <= 40
    names = {artifact.path for artifact in mlflow.list_artifacts(finished["id"])}
    assert {"config.json", "encoder.safetensors", "contact_sheet.png"} <= names
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"
    assert dataset.dataset.digest == run.data.tags["data_digest"]
    parent = mlflow.get_run(parents[0]["id"])
    assert "report" in {artifact.path for artifact in mlflow.list_artifacts(parents[0]["id"])}
    assert "| simclr | test_resnet |" in parent.data.tags["mlflow.note.content"]
    load = {name.rsplit("/", 1)[1] for name in parent.data.metrics if name.startswith("system/")}
    assert load == {"cpu_utilization_percentage", "system_memory_usage_percentage"}
    assert len(parent.data.metrics) <= 40


def test_the_queries_of_the_documentation_find_what_they_say(study: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "mlflow.md").read_text()
    queries = dict(re.findall(r"^\| ([^|]+) \| `{1,2}(.+?)`{1,2} \|$", page.partition("## Find runs")[2], re.MULTILINE))
    queries["one kind of backbone"] = queries["one kind of backbone"].replace("'resnet", "'test_resnet")
    mlflow = client(study)
    experiment = mlflow.get_experiment_by_name("tiny")
    found = {wanted: mlflow.search_runs([experiment.experiment_id], query) for wanted, query in queries.items()}
    names = {wanted: {run.data.tags["method"] for run in hits} for wanted, hits in found.items()}
    every = {"simclr", "barlow_twins", "supervised"}
    assert names["trials of a method at a level"] == {"simclr"}
    assert names["what went wrong"] == {"supervised"}
    for wanted in ("all trials, without the run of the study", "one kind of backbone", "one setting"):
        assert names[wanted] == every
    assert names["good ones"] | names["without flags"] <= every - {"supervised"}
    for refused in ("tags.method = 'simclr' OR tags.seed = '0'", "tags.method IN ('simclr')", "params.seed < '1'"):
        with pytest.raises(MlflowException):
            mlflow.search_runs([experiment.experiment_id], refused)


@dataclass
class Page:
    """The web page that ``ablation ui`` serves."""

    base: str
    link: str
    """To the study, as the command has printed it."""


@pytest.fixture(scope="module")
def page(study: Path) -> Iterator[Page]:
    port = free_port()
    process = subprocess.Popen(command("ui", "--port", str(port)), cwd=study, env=environment(study),
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stderr is not None
    try:
        said = ""
        for said in process.stderr:
            if said.startswith("  tiny: "):
                break
        assert said.startswith(f"  tiny: http://127.0.0.1:{port}/#/experiments/"), said
        yield Page(f"http://127.0.0.1:{port}", said.split()[1])
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=40) == 0
    finally:
        if process.poll() is None:
            process.kill()


def test_the_page_is_for_this_machine_only(page: Page) -> None:
    with urllib.request.urlopen(f"{page.base}/health", timeout=10) as reply:
        assert reply.status == 200
    stranger = urllib.request.Request(f"{page.base}/", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(stranger, timeout=10)


@pytest.fixture(scope="module")
def tab(page: Page) -> Iterator[Any]:
    """A browser tab that has seen MLflow's greeting before."""
    playwright_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make install-dev")
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed: apt-get install chromium")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1300, "height": 1200})
        tab.add_init_script("if (window === top && location.protocol === 'http:') "
                            "localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true')")
        tab.set_default_timeout(90_000)
        yield tab
        browser.close()


@contextmanager
def opened(tab: Any, address: str) -> Iterator[None]:
    """Raises ``AssertionError`` for complaints of the page that are not about MLflow's own files."""
    complaints: list[str] = []

    def hear(said: Any) -> None:
        if said.type == "error" and not re.search(r"/static-files/|/users/current$", said.location["url"]):
            complaints.append(f"{said.text} {said.location['url']}")

    tab.on("console", hear)
    tab.goto("about:blank")  # the same page with another fragment would not load anew
    tab.goto(address)
    yield
    tab.remove_listener("console", hear)
    assert complaints == []


def test_mlflow_opens_on_curves_and_scores_by_method(page: Page, tab: Any) -> None:
    with opened(tab, page.link):
        for method in ("simclr", "barlow_twins", "supervised"):
            tab.get_by_text(f"Group: {method}").wait_for()
        tab.get_by_text("simclr-test_resnet-p0.1-s0-").first.wait_for()
        cards = tab.get_by_test_id("experiment-view-compare-runs-card")
        loss, score = (cards.filter(has_text=title).first for title in ("train/loss", "probe/auroc"))
        loss.get_by_text("barlow_twins (train/loss)").wait_for()
        loss.locator(".scatterlayer .js-line").first.wait_for(state="attached")
        wait_for(lambda: score.locator(".barlayer .point").count() == 2)  # the failed trial has no score
        tab.get_by_role("button", name="Methods").click()
        tab.get_by_test_id("saved-views-item-cells").wait_for()


def test_mlflow_tells_of_a_study_on_its_run(page: Page, tab: Any) -> None:
    """Study, its trials below it, the description with a table of scores, and the report without leaving the page."""
    training = "?workflowType=machine_learning"
    with opened(tab, page.link.partition("?")[0] + training):
        row = tab.get_by_role("row").filter(has=tab.get_by_role("link", name="tiny", exact=True))
        row.get_by_role("button").first.click()
        tab.get_by_role("link", name="supervised-test_resnet-p0.1-s0-").wait_for()
        row.get_by_role("link", name="tiny", exact=True).click()
        tab.get_by_text("About this run").wait_for()
        tab.get_by_text("2 FINISHED, 1 FAILED").wait_for()
        assert tab.get_by_role("cell", name="barlow_twins").count() == 1
        report = tab.get_by_role("link", name="Report", exact=True).get_attribute("href")
    with opened(tab, f"{page.base}/{report}"):
        tab.frame_locator("iframe").get_by_role("heading", name="tiny", exact=True).wait_for()


def test_mlflow_shows_the_pictures_of_a_trial(study: Path, page: Page, tab: Any) -> None:
    trial = next(run["id"] for run in runs(study) if run.get("method") == "simclr")
    with opened(tab, f"{page.link.partition('/runs')[0]}/runs/{trial}/artifacts/contact_sheet.png"):
        sheet = tab.locator("img[src^='blob:']").first
        sheet.wait_for()
        assert sheet.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_copying_to_mlflow_again_adds_nothing(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = runs(study)
    store = Store(study / "studies")
    attached: list[str] = []
    monkeypatch.setattr(Mirror, "_attach", lambda self, run, key, names: attached.append(key))
    Mirror(store, store.study("tiny")).finish(store.study("tiny").path / "report")
    assert attached == []  # a new driver does not send the encoders of finished trials again
    after = runs(study)
    assert {run["id"] for run in after} == {run["id"] for run in before}
    identity = next(run["id"] for run in after if run.get("method") == "simclr")
    assert len(client(study).get_metric_history(identity, "train/loss")) == 3


def test_a_new_seed_runs_only_what_is_new(study: Path) -> None:
    store = Store(study / "studies").study("tiny")
    before = {key: (store.trial_dir(key) / "result.json").stat().st_mtime_ns for key in store.planned_keys()
              if (store.trial_dir(key) / "result.json").exists()}
    done = ablation(study, "run", study / "study.yaml", "grid.method=[simclr,barlow_twins]", "grid.seed=[0,1]")
    assert done.returncode == 0, done.stderr
    assert "4 trials, 2 to run" in done.stderr
    assert "start    simclr-test_resnet-p0.1-s0" not in done.stderr
    after = {key: (store.trial_dir(key) / "result.json").stat().st_mtime_ns for key in before}
    assert after == before
    begun = time.monotonic()
    again = ablation(study, "run", study / "study.yaml", "grid.method=[simclr,barlow_twins]", "grid.seed=[0,1]")
    assert again.returncode == 0
    assert "4 trials, 0 to run" in again.stderr
    assert "starting a local Ray" not in again.stderr
    assert time.monotonic() - begun < 60  # a hang, not a speed claim


@pytest.mark.parametrize("format", ["json", "csv", "md", "table"])
def test_read_commands_speak_every_format(study: Path, format: str) -> None:
    done = ablation(study, "results", "tiny", "--format", format)
    assert done.returncode == 0, done.stderr
    if format == "json":
        assert all(row["key"] for row in json.loads(done.stdout))
    elif format == "csv":
        assert "metrics.probe/auroc" in done.stdout.splitlines()[0]
    else:
        assert "probe/auroc" in done.stdout


def test_status_best_report_and_gate(study: Path) -> None:
    assert "tiny" in ablation(study, "status").stdout
    assert "FINISHED" in ablation(study, "status", "tiny").stdout
    best = ablation(study, "best", "tiny", "--by", "imbalance", "--format", "json")
    assert len(json.loads(best.stdout)) == 1
    report = ablation(study, "report", "tiny", "--out", study / "again")
    assert Path(report.stdout.strip()).is_file()
    assert pd.read_csv(study / "again" / "tables" / "trials.csv").shape[0] >= 3
    gate = ablation(study, "run", study / "study.yaml", "grid.method=[simclr]", "--fail-under", "probe/auroc=1.1")
    assert gate.returncode == 5, gate.stderr
    missing = ablation(study, "results", "tiny", "--where", "seed == 99")
    assert missing.returncode == 4
    unknown = ablation(study, "results", "tinny")
    assert unknown.returncode == 4
    assert "did you mean 'tiny'" in unknown.stderr
