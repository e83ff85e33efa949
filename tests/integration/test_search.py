"""Two searches on real Ray, killed three times: nothing repeated, nothing forgotten, every epoch accounted."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest

import ablation as library
from ablation.results import StudyResults, load_study
from ablation.store import Store
from tests.integration.drivers import drivers
from tests.integration.studies import ablation, environment, wait_for, write_study

EPOCHS, SAMPLES, BUDGET = 4, 5, 10
SEARCH = """\
search: {{num_samples: {samples}, max_epochs: {budget}, scheduler: asha, reduction_factor: 2, n_startup: 2,
         metric: [probe/auroc, label_free/rankme]}}
"""


@dataclass
class Storm:
    folder: Path
    results: StudyResults
    kills: list[int]
    """Trials that the plan had after each kill."""


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Storm:
    folder = tmp_path_factory.mktemp("search")
    file = study_file(folder, samples=SAMPLES, budget="null")
    study = Store(folder / "studies").study("tiny")
    kills = []
    with drivers(folder) as start:
        for _ in range(3):
            before = epochs(study.path)
            process = start(file)

            def is_getting_on(least: int = before + 4, running: object = process) -> bool:
                assert running.poll() is None, running.stdout.read()  # type: ignore[attr-defined]
                return epochs(study.path) >= least

            wait_for(is_getting_on, seconds=300)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills.append(len(study.planned_keys()))
    done = ablation(folder, "run", file, report=True)
    assert done.returncode == 0, done.stderr
    return Storm(folder, load_study("tiny", store=folder / "studies"), kills)


def study_file(folder: Path, **settings: object) -> Path:
    file = write_study(folder, seeds=[0], epochs=EPOCHS, more=SEARCH.format(**settings))
    file.write_text(file.read_text().replace("views_per_image: 2}", "views_per_image: 2, every: 1}"))
    return file


def epochs(study: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in study.glob("trials/*/history.jsonl"))


def test_killed_three_times_it_ends_with_as_many_trials_as_undisturbed(storm: Storm) -> None:
    frame = storm.results.search_dataframe()
    assert frame.groupby("metric").size().tolist() == [SAMPLES] * 2
    assert frame["state"].isin(["COMPLETE", "PRUNED"]).all()
    assert frame.groupby("metric")["number"].apply(list).tolist() == [list(range(SAMPLES))] * 2
    assert storm.kills == sorted(storm.kills)
    assert storm.kills[0] < len(storm.results.trials_dataframe())
    # Each candidate one trial on the tuning seed, then recipe and winners on one fresh seed.
    keys = set(frame["keys"])
    fresh = storm.results.arms_dataframe()
    assert fresh["arm"].tolist() == ["recipe", "probe/auroc", "label_free/rankme"]
    assert set(storm.results.trials_dataframe()["key"]) == keys | set(fresh["key"])
    assert fresh["state"].eq("FINISHED").all()


def test_what_asha_ended_says_so_and_keeps_no_checkpoint(storm: Storm) -> None:
    frame = storm.results.trials_dataframe()
    pruned = frame[frame["state"] == "STOPPED"]
    assert len(pruned)
    assert pruned["reason"].eq("pruned").all()
    for key in pruned["key"]:
        assert not list(storm.results.store.trial_dir(key).glob("checkpoint*"))


def test_mlflow_groups_study_search_trial(storm: Storm) -> None:
    client = mlflow.MlflowClient(f"sqlite:///{storm.folder / 'studies' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("tiny")
    runs = {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}
    by_name = {run.info.run_name: run for run in runs.values()}
    searches = {name: run for name, run in by_name.items() if name.startswith("search ")}
    assert set(searches) == {f"search simclr-test_resnet-p0.1/{metric}"
                             for metric in ("probe/auroc", "label_free/rankme")}
    parents = {run.data.tags["mlflow.parentRunId"] for run in searches.values()}
    assert parents == {by_name["tiny"].info.run_id}
    roles = storm.results.trials_dataframe().set_index("key")["role"]
    for key, role in roles.items():
        parent = runs[by_name[key].data.tags["mlflow.parentRunId"]]
        assert parent.info.run_name.startswith("search " if role == "candidate" else "tiny")
    assert {run.info.status for run in searches.values()} == {"FINISHED"}


def test_the_winner_is_a_study_file_that_runs_accept(storm: Storm) -> None:
    file = storm.results.study_dir / "search" / "tuned-probe-auroc.yaml"
    done = ablation(storm.folder, "validate", file)
    assert done.returncode == 0, done.stderr
    spec = library.StudySpec.load(file)
    best = storm.results.search_dataframe().query("best and metric == 'probe/auroc'").iloc[0]
    assert best["is_recipe"] or spec.overrides[0].set["train.lr"] == best["set.train.lr"]


def test_optuna_reads_the_storage(storm: Storm) -> None:
    import optuna

    storage = f"sqlite:///{storm.results.study_dir / 'search' / 'optuna.db'}"
    frame = storm.results.search_dataframe()
    for summary in optuna.study.get_all_study_summaries(storage):
        mine = frame[frame["metric"] == summary.study_name.split("/", 2)[2].rsplit("/", 1)[0]]
        told = optuna.load_study(study_name=summary.study_name, storage=storage).trials
        values = [trial.value for trial in told if trial.state.is_finished()]
        assert sorted(value for value in values if value is not None) == pytest.approx(sorted(mine["value"].dropna()))


def test_a_budget_is_exact_to_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    spec = library.StudySpec.load(study_file(tmp_path, samples="null", budget=BUDGET))
    results = library.search(spec)
    frame = results.search_dataframe()
    assert frame.groupby("metric")["epochs"].sum().tolist() == [BUDGET] * 2
    trained = {key: len(results.store.read_history(key)) for key in set(frame["keys"])}
    charged = frame.groupby("keys")["epochs"].max()
    assert {key: int(charged[key]) for key in trained} == trained
