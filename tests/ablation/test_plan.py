"""A plan resolves every cell, keeps its keys, and names every problem with its numbers before anything is trained."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ablation
from ablation.errors import DataError, PlanError, SpecError
from ablation.plan import Plan, plan
from ablation.spec import StudySpec
from ablation.store import Store, TrialState, TrialStatus


def spec(**changes: Any) -> StudySpec:
    raw: dict[str, Any] = {
        "name": "study",
        "data": {"dataset": "digits", "image_size": 32},
        "imbalance": {"total": 400},
        "grid": {
            "method": ["simclr", "mae"],
            "backbone": "resnet18",
            "imbalance": [0.05, 0.1, "natural"],
            "seed": [0, 1],
        },
        "train": {"epochs": 2, "batch_size": 64},
    }
    for path, value in changes.items():
        target = raw
        *parents, leaf = path.split("__")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[leaf] = value
    return StudySpec.from_dict(raw)


def keys(**changes: Any) -> list[str]:
    return [trial.key for trial in plan(spec(**changes)).trials]


def test_trials_are_the_full_factorial_in_grid_order() -> None:
    trials = plan(spec()).trials
    cells = [(trial.method, trial.imbalance, trial.seed) for trial in trials]
    assert cells == [(m, p, s) for m in ("simclr", "mae") for p in (0.05, 0.1, "natural") for s in (0, 1)]
    assert (trials[0].num_defects, trials[0].num_normals) == (20, 380)
    assert re.fullmatch(r"simclr-resnet18-p0\.05-s0-[0-9a-f]{8}", trials[0].key)
    assert re.fullmatch(r"mae-resnet18-natural-s1-[0-9a-f]{8}", trials[-1].key)


def test_the_same_seed_gives_every_method_the_same_subset() -> None:
    digests = {(trial.imbalance, trial.seed): set() for trial in plan(spec()).trials}
    for trial in plan(spec()).trials:
        assert trial.subset is not None
        digests[trial.imbalance, trial.seed].add(trial.subset.digest)
    assert all(len(found) == 1 for found in digests.values())


def test_adding_seeds_methods_or_levels_keeps_every_key() -> None:
    before = set(keys())
    more = keys(
        grid__method=["byol", "simclr", "mae"], grid__seed=[0, 1, 2], grid__imbalance=[0.2, 0.05, 0.1, "natural"]
    )
    assert before < set(more)
    assert len(more) == len(set(more)) == 36


def test_what_cannot_change_the_numbers_does_not_change_the_key() -> None:
    same = keys(allow_tiny=True, retries=7, resources={"num_workers": 2}, train__lr=1)
    assert same == keys(train__lr=1.0)
    assert keys(grid__imbalance=[0.50 / 10, 1e-1, "natural"]) == keys()
    assert keys(data__cache_size=36) == keys()  # what image_size 32 resolves to


@pytest.mark.parametrize(
    "changes",
    [
        {"train__epochs": 3},
        {"data__image_size": 48},
        {"imbalance__total": 401},
        {"evaluation__knn_neighbors": 5},
        {"data__options": {"anomaly": 3}},
    ],
)
def test_what_changes_the_numbers_changes_every_key(changes: dict[str, Any]) -> None:
    assert not set(keys(**changes)) & set(keys())


def test_a_key_depends_on_the_data_not_on_their_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for split, label, count in (
            ("train", "good", 30),
            ("train", "crack", 25),
            ("test", "good", 30),
            ("test", "crack", 30),
        ):
            folder = tmp_path / name / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")

    def planned(root: str) -> list[str]:
        raw = spec(
            data__dataset="folder",
            data__root=root,
            imbalance__total=None,
            train__batch_size=8,
            grid__imbalance=["natural"],
        )
        return [trial.key for trial in plan(raw).trials]

    first = planned(str(tmp_path / "a"))
    assert first == planned(str(tmp_path / "b"))
    (tmp_path / "b" / "train" / "good" / "0.png").unlink()
    assert first != planned(str(tmp_path / "b"))


def test_a_null_total_becomes_the_largest_that_all_levels_can_meet() -> None:
    trials = plan(spec(imbalance__total=None)).trials
    totals = {trial.config.subset.total for trial in trials}
    assert len(totals) == 1
    total = totals.pop()
    assert total is not None
    with pytest.raises(PlanError, match="needs"):
        plan(spec(imbalance__total=total + 10))


def test_overrides_apply_in_order_to_the_cells_they_name() -> None:
    overrides = [
        {"where": {"method": "mae"}, "set": {"train.batch_size": 32, "train.options.mask_ratio": 0.5}},
        {"where": {"method": "mae", "imbalance": [0.1]}, "set": {"train.batch_size": 16, "data.image_size": 64}},
    ]
    trials = {(t.method, t.imbalance): t.config for t in plan(spec(overrides=overrides)).trials}
    assert trials["simclr", 0.1].train.batch_size == 64
    assert trials["mae", 0.05].train.batch_size == 32
    assert trials["mae", 0.05].train.options == {"mask_ratio": 0.5}
    assert trials["mae", 0.1].train.batch_size == 16
    assert trials["mae", 0.1].data.resolved_cache_size == 73
    assert trials["simclr", 0.1].train.options == {}


def problems(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(PlanError) as caught:
        plan(spec(**changes))
    assert caught.value.exit_code == 2
    assert isinstance(caught.value.plan, Plan)
    assert caught.value.plan.problems == caught.value.problems
    return caught.value.problems


def test_every_problem_is_told_once_with_its_numbers() -> None:
    found = problems(grid__imbalance=[0.01, 0.05, 0.5], train__batch_size=450, resources={"num_workers": 4})
    assert found == (
        "imbalance 0.01: only 4 defects among 400 images, fewer than 20 say little; use more images or a higher level, "
        "or pass --allow-tiny",
        "train.batch_size: 450 cannot be divided by resources.num_workers 4 (method simclr)",
        "train.batch_size: 450 is more than the 400 images of imbalance 0.05, so an epoch has no full step; lower it "
        "to 400 or less, or raise imbalance.total",
        found[3],
        "train.batch_size: 450 cannot be divided by resources.num_workers 4 (method mae)",
    )
    assert re.match(
        r"imbalance 0\.5: needs 200 defects and 200 normal images, the train split has \d+ and \d+;", found[3]
    )


def test_the_plan_of_an_error_still_shows_the_table() -> None:
    with pytest.raises(PlanError) as caught:
        plan(spec(grid__imbalance=[0.01, 0.05]))
    table = caught.value.plan
    assert isinstance(table, Plan)
    counts = table.level_counts().set_index("imbalance")
    assert counts.loc[0.05].to_dict() == {"trials": 4, "images": 400, "defects": 20, "normals": 380}
    assert counts.loc[0.01].isna().tolist() == [False, True, True, True]
    assert table.to_frame()["num_defects"].isna().sum() == 4


def test_allow_tiny_lets_small_levels_through() -> None:
    assert plan(spec(grid__imbalance=[0.01]), allow_tiny=True).trials[0].num_defects == 4
    assert plan(spec(grid__imbalance=[0.01], allow_tiny=True)).trials[0].config.allow_tiny


def test_an_option_that_a_method_does_not_have_is_a_problem() -> None:
    found = problems(train__options={"temperatur": 0.1}, grid__method=["simclr"])
    assert found == (
        "train.options.temperatur: unknown field (did you mean 'temperature'?) (method simclr; options of one "
        "method belong into overrides)",
    )


def test_an_override_that_breaks_a_cell_is_a_problem() -> None:
    found = problems(data__cache_size=40, overrides=[{"where": {"method": "mae"}, "set": {"data.image_size": 64}}])
    assert found == ("data.cache_size: must be at least image_size (64), got 40",)


def test_ranks_of_one_trial_cannot_share_a_gpu() -> None:
    assert problems(resources={"num_workers": 2, "gpus_per_worker": 0.5})[0].startswith(
        "resources.gpus_per_worker: 0.5"
    )


def test_data_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        plan(spec(data__dataset="folder", data__root=str(tmp_path / "none")))
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    assert "none" in str(caught.value)
    with pytest.raises(SpecError, match=r"^data\.root: 'folder' needs"):
        plan(spec(data__dataset="folder"))


def test_saving_writes_what_a_worker_and_a_reader_need(tmp_path: Path) -> None:
    made = ablation.plan(spec(), store=tmp_path)
    made.save()
    store = Store(tmp_path).study("study")
    assert StudySpec.load(made.study_dir / "study.yaml") == made.spec
    assert store.planned_keys() == [trial.key for trial in made.trials]
    record = store.read_trial(made.trials[0].key)
    assert record["config"] == json.loads(json.dumps(made.trials[0].config.to_dict()))
    assert record["subset"]["num_defects"] == 20
    assert sum(record["subset"]["counts"].values()) == 20
    before = (store.trial_dir(made.trials[0].key) / "trial.json").stat().st_mtime_ns
    made.save()
    assert (store.trial_dir(made.trials[0].key) / "trial.json").stat().st_mtime_ns == before


def test_planning_alone_writes_nothing(tmp_path: Path) -> None:
    plan(spec(), store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_pending_is_what_has_no_result(tmp_path: Path) -> None:
    made = plan(spec(), store=tmp_path)
    made.save()
    done, failed = made.trials[0].key, made.trials[1].key
    made.store.write_result(done, {"metrics": {"probe/auroc": 0.9}})
    made.store.write_state(failed, TrialStatus(state=TrialState.FAILED))
    assert [trial.key for trial in made.pending()] == [trial.key for trial in made.trials[1:]]
    assert made.to_frame()["state"].tolist()[:3] == ["FINISHED", "FAILED", "PENDING"]


def test_a_smaller_plan_keeps_the_results_of_the_larger_one(tmp_path: Path) -> None:
    large, small = plan(spec(), store=tmp_path), plan(spec(grid__method=["mae"]), store=tmp_path)
    large.save()
    large.store.write_result(large.trials[0].key, {"metrics": {"probe/auroc": 0.9}})
    small.save()
    assert set(small.store.planned_keys()) < set(small.store.keys_on_disk())
    large.save()
    assert len(large.pending()) == len(large.trials) - 1


def test_250_trials_cut_each_subset_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import trainers.data.imbalance as imbalance

    calls = []
    original = imbalance.select_subset
    monkeypatch.setattr(imbalance, "select_subset", lambda *args: calls.append(args[1:3]) or original(*args))
    made = plan(
        spec(
            grid__method=["simclr", "barlow_twins", "byol", "dino", "mae"],
            grid__backbone=["resnet18", "vit_tiny"],
            grid__imbalance=[0.05, 0.1, 0.15, 0.2, 0.25],
            grid__seed=list(range(5)),
        )
    )
    assert len({trial.key for trial in made.trials}) == 250
    assert len(calls) == len(set(calls)) == 25
