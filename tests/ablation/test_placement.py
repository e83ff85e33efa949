"""How many CPUs and which share of a GPU a trial gets, on clusters of any size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

import ablation
from ablation.errors import PlanError
from ablation.placement import WAVE_TRIALS, Machines, Node, Placement, kind, share
from ablation.plan import Plan
from ablation.spec import Grid, Resources
from ablation.store import StudyStore
from trainers.config import DataConfig, EvaluationConfig, ImbalanceConfig, OptimConfig


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    spec = ablation.StudySpec(
        name="packed", data=DataConfig(dataset="digits", image_size=16), allow_tiny=True,
        imbalance=ImbalanceConfig(total=96),
        evaluation=EvaluationConfig(max_images=100, fixed_labelled=40, view_images=8, views_per_image=2),
        grid=Grid(method=("simclr", "byol"), backbone=("resnet18",), imbalance=(0.1,), seed=tuple(range(6))),
        train=OptimConfig(epochs=1, batch_size=32))
    return ablation.plan(spec, store=tmp_path)


def finish(study: StudyStore, key: str, peak_mb: float, device: str = "cuda:H100") -> None:
    study.write_result(key, {"metrics": {"memory/peak_mb": peak_mb}, "provenance": {"device": device}, "flags": []})


def sizes(resources: Resources, machines: Machines, plan: Plan) -> list[tuple[int, float]]:
    return [(cpus, gpus) for _, cpus, gpus in Placement(resources, machines, plan.store).wave(plan.trials, plan.trials)]


@pytest.mark.parametrize(("nodes", "resources", "expected"), [
    ([Node(2)], {}, (1, 0.0)),
    ([Node(64)], {}, (5, 0.0)),  # 12 trials at once
    ([Node(16, 1)], {}, (16, 1.0)),  # one at a time: it may have all CPUs
    ([Node(16, 4)], {}, (4, 1.0)),
    ([Node(16, 1)], {"gpus_per_worker": 0.25}, (4, 0.25)),
    ([Node(4), Node(2)], {"num_workers": 3}, (1, 0.0)),  # two trials at once
    ([Node(8, 2), Node(8)], {"num_workers": 2}, (4, 1.0)),  # the node without a GPU helps nobody
])
def test_every_rank_has_a_place(plan: Plan, nodes: list[Node], resources: dict[str, object],
                                expected: tuple[int, float]) -> None:
    machines = Machines(tuple(nodes))
    given = sizes(Resources.model_validate(resources), machines, plan)
    assert set(given) == {expected}
    assert machines.num_ranks(*expected) >= Resources.model_validate(resources).num_workers


@pytest.mark.parametrize(("nodes", "resources", "message"), [
    ([Node(4)], {"gpus_per_worker": 1}, "resources.gpus_per_worker: 1 x 1 rank"),
    ([Node(4, 1), Node(4, 1)], {"gpus_per_worker": 2}, "resources.gpus_per_worker: 2 x 1 rank"),  # on one node: never
    ([Node(4), Node(2)], {"num_workers": 2, "cpus_per_worker": 3}, "resources.num_workers: 2 rank"),  # 6 CPUs in all
    ([Node(2)], {"num_workers": 3}, "resources.num_workers: 3 rank"),
])
def test_what_can_never_be_placed_is_refused_instead_of_waiting_for_ever(
        plan: Plan, nodes: list[Node], resources: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        sizes(Resources.model_validate(resources), Machines(tuple(nodes)), plan)


def test_cards_are_shared_as_measured(plan: Plan) -> None:
    machines = Machines((Node(16, 1),), card_mb=80_000)
    placement = Placement(Resources(), machines, plan.store)
    first = placement.wave(plan.trials, plan.trials)
    assert [(trial.method, gpus) for trial, _, gpus in first] == [("simclr", 1.0), ("byol", 1.0)]  # one of each kind
    for (trial, _, _), peak in zip(first, (11_000, 50_000), strict=True):
        finish(plan.store, trial.key, peak)
    second = placement.wave(plan.pending(), plan.trials)
    assert len(second) == 10
    assert {(trial.method, gpus, cpus) for trial, cpus, gpus in second} == {("simclr", 0.1666, 2), ("byol", 1.0, 16)}


def test_a_measurement_lets_no_card_wait(plan: Plan) -> None:
    wave = Placement(Resources(), Machines((Node(16, 8),), card_mb=80_000), plan.store).wave(plan.trials, plan.trials)
    assert len(wave) == 8
    assert {gpus for _, _, gpus in wave} == {1.0}


@pytest.mark.parametrize("machines", [Machines((Node(16, 1),)), Machines((Node(16, 1),), card_mb=80_000)])
def test_what_a_cpu_took_says_nothing_of_a_card(plan: Plan, machines: Machines) -> None:
    for trial in plan.trials[:6]:
        finish(plan.store, trial.key, 300, device="cpu:x86")
    wave = Placement(Resources(), machines, plan.store).wave(plan.pending(), plan.trials)
    assert {gpus for _, _, gpus in wave} == {1.0}


@pytest.mark.parametrize(("peak", "card", "expected"), [
    (2_000, 80_000, 0.125), (11_000, 80_000, 0.1666), (23_000, 80_000, 0.3333), (35_000, 80_000, 0.5),
    (36_000, 80_000, 1.0), (90_000, 80_000, 1.0), (100, 1_000, 1.0),
])
def test_share_of_a_card(peak: float, card: float, expected: float) -> None:
    assert share(peak, card) == expected
    assert int(1 / expected) * expected <= 1


def test_kinds_differ_by_what_takes_memory_only(plan: Plan) -> None:
    one, other = plan.trials[0], plan.trials[1]
    assert kind(one) == kind(other)  # another seed
    longer = dataclasses.replace(one.config, train=dataclasses.replace(one.config.train, epochs=9))
    larger = dataclasses.replace(one.config, train=dataclasses.replace(one.config.train, batch_size=64))
    assert kind(dataclasses.replace(one, config=longer)) == kind(one)
    assert kind(dataclasses.replace(one, config=larger)) != kind(one)


def test_tune_gets_long_studies_in_waves(plan: Plan) -> None:
    many = list(plan.trials) * 100
    assert len(Placement(Resources(), Machines((Node(2),)), plan.store).wave(many, many)) == WAVE_TRIALS
