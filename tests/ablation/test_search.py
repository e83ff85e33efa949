"""What a search promises, on trials whose score is a formula; the real thing is in ``integration/test_search``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ablation
from ablation.candidates import OBJECTIVES
from ablation.errors import NothingMatched, PlanError, ServiceUnavailable
from ablation.plan import plan
from ablation.results import load_study
from tests.ablation.searches import EPOCHS, Bench, closeness, spec

CELLS = {"method": ["simclr", "byol"], "imbalance": [0.1, 0.2]}


def test_a_search_begins_with_the_recipe_and_ends_with_the_winner_on_fresh_seeds(tmp_path: Path) -> None:
    bench = Bench.of(spec(), tmp_path)
    bench.run()
    found = load_study("s", store=tmp_path)
    frame = found.search_dataframe()
    assert frame["number"].tolist() == list(range(6))
    assert frame["state"].eq("COMPLETE").all()
    assert frame["is_recipe"].tolist() == [True] + [False] * 5
    winner = frame.loc[frame["value"].idxmax()]
    assert frame.loc[frame["best"], "number"].tolist() == [winner["number"]]
    reported, recipe = found.reported_trials(), found.reported_trials("recipe")
    assert reported["seed"].tolist() == recipe["seed"].tolist() == [1000, 1001]
    assert reported["params.train.lr"].tolist() == [winner["set.train.lr"]] * 2
    assert not winner["is_recipe"]
    assert reported["state"].eq("FINISHED").all()
    assert recipe["state"].eq("FINISHED").all()
    assert set(found.trials_dataframe()["role"]) == {"candidate", "fresh"}
    assert bench.planned.search
    assert bench.planned.search.complete


def test_draws_do_not_depend_on_kills_and_the_number_of_trials_is_the_same(tmp_path: Path) -> None:
    study = spec(grid=CELLS, scheduler="asha", seeds=[0, 5])
    calm = Bench.of(study, tmp_path / "calm")
    calm.run()
    torn = tmp_path / "torn"
    for epochs in (3, 17, 30):
        Bench.of(study, torn).run(stop_after=epochs)
    Bench.of(study, torn).run()
    here, there = (load_study("s", store=folder) for folder in (tmp_path / "calm", torn))
    assert len(here.trials_dataframe()) == len(there.trials_dataframe()) > 24
    counts = there.search_dataframe().groupby(["method", "imbalance"]).size()
    assert counts.tolist() == [6] * 4
    assert there.search_dataframe()["state"].isin(["COMPLETE", "PRUNED"]).all()
    first = {(row.method, row.imbalance, row.number): row for row in here.search_dataframe().itertuples()}
    same = [(row, first[row.method, row.imbalance, row.number]) for row in there.search_dataframe().itertuples()]
    drawn = [(one._asdict()["keys"] == two._asdict()["keys"]) for one, two in same if one.number < 3]
    assert all(drawn)  # what is not modelled on scores is drawn alike


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_a_budget_of_epochs_is_spent_to_the_last_one(tmp_path: Path, seeds: list[int]) -> None:
    bench = Bench.of(spec(grid=CELLS, seeds=seeds, fresh_seeds=[9], num_samples=None, max_epochs=61,
                          scheduler="asha"), tmp_path)
    bench.run()
    found = load_study("s", store=tmp_path)
    spent = found.search_dataframe().groupby(["method", "imbalance"])["epochs"].sum()
    assert spent.tolist() == [61] * 4
    rows = found.trials_dataframe()
    trained = sum(len(found.store.read_history(key)) for key in rows.loc[rows["role"] == "candidate", "key"])
    assert trained == 4 * 61  # what was charged is what was trained


def test_a_budget_outlives_kills(tmp_path: Path) -> None:
    study = spec(num_samples=None, max_epochs=40, scheduler="asha")
    for epochs in (2, 13, 11):
        Bench.of(study, tmp_path).run(stop_after=epochs)
    Bench.of(study, tmp_path).run()
    assert load_study("s", store=tmp_path).search_dataframe()["epochs"].sum() == 40


def test_seconds_of_training_are_a_budget_too(tmp_path: Path) -> None:
    bench = Bench.of(spec(num_samples=None, gpu_seconds=20), tmp_path)  # an epoch of 100 images at 100 a second: 1 s
    bench.run()
    assert 20 <= load_study("s", store=tmp_path).search_dataframe()["seconds"].sum() <= 20 + bench.slots


def test_asha_spends_less_and_finds_the_same(tmp_path: Path) -> None:
    spent = {}
    for scheduler in (None, "asha", "median"):
        Bench.of(spec(str(scheduler).lower(), sampler="random", num_samples=18, scheduler=scheduler), tmp_path).run()
        frame = load_study(str(scheduler).lower(), store=tmp_path).search_dataframe()
        spent[scheduler] = frame["epochs"].sum(), frame.loc[frame["best"], "set.train.lr"].item()
        assert (frame["state"] == "PRUNED").any() == (scheduler is not None)
        assert frame.loc[frame["is_recipe"], "state"].item() == "COMPLETE"
    assert spent["asha"][0] < 0.6 * spent[None][0]
    assert spent["median"][0] < 0.9 * spent[None][0]
    assert spent["asha"][1] == spent["median"][1] == spent[None][1]


def test_searches_of_one_cell_begin_alike_and_share_their_trials(tmp_path: Path) -> None:
    bench = Bench.of(spec(metric=["probe/auroc", "label_free/rankme"], sampler="random"), tmp_path)
    bench.run()
    found = load_study("s", store=tmp_path)
    frame = found.search_dataframe()
    assert frame.groupby("metric").size().tolist() == [6, 6]
    assert frame["keys"].nunique() == 6
    assert len(bench.begun) == len(set(bench.begun)) == 6 + 4
    assert frame.groupby("metric")["epochs"].sum().tolist() == [6 * EPOCHS] * 2
    assert set(found.arms_dataframe()["arm"]) == {"recipe", "probe/auroc", "label_free/rankme"}


def test_a_shared_trial_goes_on_for_the_search_that_wants_it(tmp_path: Path) -> None:
    bench = Bench.of(spec(metric=["probe/auroc", "label_free/alpha_req"], sampler="random", scheduler="asha",
                          num_samples=9), tmp_path)
    bench.run()
    frame = load_study("s", store=tmp_path).search_dataframe()
    # The second objective is never reported: it prunes nothing, so every trial runs to its end for it, and fails there.
    assert frame.loc[frame["metric"] == "label_free/alpha_req", "reason"].eq("no label_free/alpha_req").all()
    assert (frame.loc[frame["metric"] == "probe/auroc", "state"] == "PRUNED").any()
    assert len(bench.warnings) == 1
    assert "no winner" in bench.warnings[0]


def test_several_seeds_are_judged_on_their_mean(tmp_path: Path) -> None:
    Bench.of(spec(seeds=[0, 1, 2]), tmp_path, score=lambda trial: closeness(trial) + trial.seed).run()
    frame = load_study("s", store=tmp_path).search_dataframe()
    recipe = frame[frame["is_recipe"]].iloc[0]
    assert recipe["value"] == pytest.approx(1 - abs(-2.5228787 + 3) / 2 + 1, abs=1e-6)  # recipe: 3e-3
    assert len(recipe["keys"].split(",")) == 3
    assert recipe["epochs"] == 3 * EPOCHS


def test_a_seed_that_fails_fails_its_candidate_and_is_not_averaged_away(tmp_path: Path) -> None:
    def diverges(trial: ablation.Trial) -> bool:
        return trial.seed == 1 and (trial.config.train.lr or 0) > 3e-3

    Bench.of(spec(seeds=[0, 1], fresh_seeds=[7]), tmp_path, fails=diverges).run()
    frame = load_study("s", store=tmp_path).search_dataframe()
    high = frame["set.train.lr"] > 3e-3
    assert high.any()
    assert frame.loc[high, "state"].eq("FAIL").all()
    assert frame.loc[~high, "state"].eq("COMPLETE").all()
    assert frame.loc[high, "reason"].eq("diverged").all()


def test_a_shared_trial_that_fails_fails_in_every_search(tmp_path: Path) -> None:
    bench = Bench.of(spec(metric=["probe/auroc", "label_free/rankme"], sampler="random"), tmp_path,
                     fails=lambda trial: (trial.config.train.lr or 0) > 3e-3)
    bench.run()
    frame = load_study("s", store=tmp_path).search_dataframe()
    assert frame.groupby("metric")["state"].apply(",".join).nunique() == 1
    assert set(frame["state"]) == {"COMPLETE", "FAIL"}
    assert len(bench.begun) == len(set(bench.begun))


def test_the_search_sees_nothing_of_the_test_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``probe/auroc`` of the bench says the opposite of ``validation/auroc``. Planting the leak turns the winner."""
    chosen = {}
    for name in ("honest", "leak"):
        if name == "leak":
            monkeypatch.setitem(OBJECTIVES, "probe/auroc", "probe/auroc")
        Bench.of(spec(name, sampler="random", scheduler="asha"), tmp_path).run()
        frame = load_study(name, store=tmp_path).search_dataframe()
        chosen[name] = closeness_of(float(frame.loc[frame["best"], "set.train.lr"].fillna(3e-3).item()))
    assert chosen["honest"] > chosen["leak"]
    monkeypatch.undo()
    assert not any(source.startswith(("probe", "knn", "detector", "sewer")) for source in OBJECTIVES.values())


def closeness_of(lr: float) -> float:
    return 1 - abs(lr / 1e-3 - 1)


def test_a_lost_database_is_made_again_from_the_store(tmp_path: Path) -> None:
    Bench.of(spec(), tmp_path).run(stop_after=30)
    shutil.rmtree(tmp_path / "s" / "search")
    bench = Bench.of(spec(), tmp_path)
    run = bench.run()
    (sampler,) = run.samplers.values()
    assert len(load_study("s", store=tmp_path).search_dataframe()) == 6
    told = [trial.value for trial in sampler.study.get_trials()]
    assert len(told) == 6
    assert sorted(told) == sorted(load_study("s", store=tmp_path).search_dataframe()["value"])


def test_more_samples_go_on_and_another_length_begins_anew(tmp_path: Path) -> None:
    Bench.of(spec(), tmp_path).run()
    more = Bench.of(spec(num_samples=8), tmp_path)
    more.run()
    assert load_study("s", store=tmp_path).search_dataframe()["number"].tolist() == list(range(8))
    assert len(more.begun) in (2, 4)  # two candidates, and perhaps a new winner on two seeds
    Bench.of(spec(train={"epochs": 3}, num_samples=2), tmp_path).run()
    assert load_study("s", store=tmp_path).search_dataframe()["epochs"].tolist() == [3, 3]


@pytest.mark.parametrize("sampler", ["grid", "cmaes"])
def test_other_samplers(tmp_path: Path, sampler: str) -> None:
    (tmp_path / "narrow.py").write_text(
        "from ablation.distributions import Categorical, LogUniform, Parameter, Space\n"
        "def space(method):\n"
        "    return Space(method, (Parameter('train.lr', LogUniform(1e-4, 1e-2), source='test'),\n"
        "                          Parameter('train.weight_decay', LogUniform(1e-3, 1e-1), source='test'),\n"
        "                          Parameter('train.options.hidden_dim', Categorical((64, 128)), source='test')))\n")
    Bench.of(spec(sampler=sampler, space=f"{tmp_path}/narrow.py:space", num_samples=20), tmp_path).run()
    frame = load_study("s", store=tmp_path).search_dataframe()
    assert len(frame) == (18 if sampler == "grid" else 20)
    if sampler == "grid":
        assert frame["keys"].nunique() == 18
        assert sorted(set(frame["set.train.lr"])) == pytest.approx([1e-4, 1e-3, 1e-2])
    assert frame.loc[frame["best"], "value"].item() > 0.9


def test_a_second_objective_is_a_cost(tmp_path: Path) -> None:
    Bench.of(spec(cost="time/train", num_samples=12), tmp_path).run()
    frame = load_study("s", store=tmp_path).search_dataframe()
    front = frame[frame["pareto"]]
    assert frame["best"].sum() == 1
    assert frame.loc[frame["best"], "pareto"].all()
    assert len(front) < len(frame)
    for row in frame[~frame["pareto"]].itertuples():
        assert ((front["value"] >= row.value) & (front["cost"] <= row.cost)).any()


def test_finished_trials_of_another_study_warm_the_sampler(tmp_path: Path) -> None:
    Bench.of(spec("before"), tmp_path).run()
    bench = Bench.of(spec("after", warm_start=["recipe", "before"], seed=1), tmp_path)
    (sampler,) = bench.run().samplers.values()
    told = [trial.user_attrs.get("source") for trial in sampler.study.get_trials()]
    assert sum(source is not None for source in told) >= 6
    assert len(load_study("after", store=tmp_path).search_dataframe()) == 6  # they are known, not searched


def test_winners_are_a_study_that_plans_to_the_same_settings(tmp_path: Path) -> None:
    Bench.of(spec(grid=CELLS), tmp_path).run()
    found = load_study("s", store=tmp_path)
    tuned = found.best_recipes()
    assert tuned.search is None
    assert tuned.name == "s-tuned"
    again = {(t.method, t.imbalance): t.config.train for t in plan(tuned, store=tmp_path).trials}
    best = found.search_dataframe().query("best")
    for row in best[~best["is_recipe"]].to_dict("records"):
        assert again[row["method"], row["imbalance"]].lr == row["set.train.lr"]
    (tmp_path / "t.yaml").write_text(tuned.to_yaml())
    assert ablation.StudySpec.load(tmp_path / "t.yaml") == tuned
    with pytest.raises(NothingMatched, match="no search by 'label_free/rankme'; there are probe/auroc"):
        found.best_recipes("label_free/rankme")


def test_what_the_study_sets_is_not_searched(tmp_path: Path) -> None:
    planned = plan(spec(train={"lr": 1e-3, "options": {"temperature": 0.1}}), store=tmp_path)
    assert planned.search
    paths = [parameter.path for parameter in planned.search.searches[0].parameters]
    assert "train.weight_decay" in paths
    assert not {"train.lr", "train.options.temperature"} & set(paths)
    (batch,) = [p.distribution for p in planned.search.searches[0].parameters if p.path == "train.batch_size"]
    assert str(batch) == "one of 32, 64"  # a subset of 100 images


@pytest.mark.parametrize(("search", "train", "said"), [
    ({"fresh_seeds": None, "seeds": [1000]}, {}, "search.fresh_seeds: 1000 is among search.seeds too"),
    ({"scheduler": "asha", "grace_epochs": 9}, {}, "search.grace_epochs: 9 leaves no rung below train.epochs 9"),
    ({"warm_start": ["gone"]}, {}, "search.warm_start: there is no study 'gone'"),
    ({"space": "nowhere.py:space"}, {}, "search.space: "),
])
def test_problems_are_told_when_planned(tmp_path: Path, search: dict[str, object], train: dict[str, object],
                                        said: str) -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(train=train, **search), store=tmp_path)
    assert said in str(caught.value)


def test_an_unreachable_optuna_storage_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLATION_OPTUNA_STORAGE", "postgresql+psycopg2://me:secret@127.0.0.1:1/optuna")
    with pytest.raises(ServiceUnavailable) as caught:
        Bench.of(spec(), tmp_path).run()
    assert "Optuna storage" in str(caught.value)
    assert "secret" not in str(caught.value)
