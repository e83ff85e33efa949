"""Subsets: sizes, nesting, independence of file order; evaluation sets that are equal for all trials."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from trainers.config import ConfigError, EvaluationConfig, ImbalanceConfig
from trainers.data.imbalance import largest_total, select_evaluation_sets, select_subset
from trainers.data.index import DataError, Index
from trainers.seeding import hash_ids

MakeIndex = Callable[..., Index]
LEVELS = [0.01, 0.02, 0.05, 0.15, 0.5]


def plain_index(normals: int, defects: int) -> Index:
    ids = np.array([f"{n}.png" for n in range(normals + defects)])
    labels = np.repeat(np.array([0, 1], dtype=np.int8), [normals, defects])
    return Index(ids=ids, labels=labels, splits=np.full(len(ids), "train"), groups=ids,
                 defect_types=np.where(labels == 1, "RB", ""))


@settings(deadline=None, max_examples=60)
@given(normals=st.integers(1, 400), defects=st.integers(1, 400), data=st.data())
def test_largest_total_fits_every_level_and_one_more_does_not(normals: int, defects: int, data: st.DataObject) -> None:
    levels = data.draw(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4))
    index = plain_index(normals, defects)
    total = largest_total(index, list(levels))

    def fits(images: int) -> bool:
        return all(round(p * images) <= defects and images - round(p * images) <= normals for p in levels)

    assert fits(total)
    assert not fits(total + 1)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), total=st.integers(40, 400))
def test_levels_are_nested_per_seed(seed: int, total: int) -> None:
    index = plain_index(400, 200)
    config = ImbalanceConfig(total=total)
    cuts = [select_subset(index, level, seed, config, allow_tiny=True).positions for level in (0.05, 0.15, 0.5)]
    for fewer, more in itertools.pairwise(cuts):
        assert set(fewer[index.labels[fewer] == 1]) <= set(more[index.labels[more] == 1])
        assert set(more[index.labels[more] == 0]) <= set(fewer[index.labels[fewer] == 0])
    assert {len(cut) for cut in cuts} == {total}


def test_fixed_total_has_the_asked_prevalence_and_says_what_it_took(make_index: MakeIndex) -> None:
    index = make_index(train=(3000, 2000), val=(10, 10))
    for level in LEVELS:
        subset = select_subset(index, level, 0, ImbalanceConfig(total=2000))
        assert (subset.num_defects, subset.num_normals) == (round(level * 2000), 2000 - round(level * 2000))
        assert sum(subset.counts.values()) == subset.num_defects
        assert set(index.splits[subset.positions]) == {"train"}
        assert (np.diff(subset.positions) > 0).all()


def test_fixed_normals_keeps_the_normals_and_scales_the_defects(make_index: MakeIndex) -> None:
    index = make_index(train=(2000, 3000))
    one = select_subset(index, 0.05, 3, ImbalanceConfig(policy="fixed_normals", normals=1000))
    assert (one.num_defects, one.num_normals) == (53, 1000)
    everything = select_subset(index, 0.5, 3, ImbalanceConfig(policy="fixed_normals"))
    assert (everything.num_defects, everything.num_normals) == (2000, 2000)


def test_natural_takes_all_or_a_part_regardless_of_class(make_index: MakeIndex) -> None:
    index = make_index(train=(300, 100))
    assert len(select_subset(index, "natural", 0, ImbalanceConfig(policy="natural")).positions) == 400
    part = select_subset(index, "natural", 0, ImbalanceConfig(total=200))
    assert len(part.positions) == 200
    assert 30 < part.num_defects < 70
    with pytest.raises(ConfigError, match="policy natural"):
        select_subset(index, 0.5, 0, ImbalanceConfig(policy="natural"))


def test_a_subset_depends_on_seed_and_ids_only(make_index: MakeIndex) -> None:
    index = make_index(train=(400, 200))
    order = np.random.default_rng(0).permutation(len(index))
    shuffled = Index(**{field.name: getattr(index, field.name)[order] for field in dataclasses.fields(index)
                        if field.name != "codes"})
    config = ImbalanceConfig(total=100)
    one, two = select_subset(index, 0.5, 7, config), select_subset(shuffled, 0.5, 7, config)
    assert one.digest == two.digest
    assert sorted(index.ids[one.positions]) == sorted(shuffled.ids[two.positions])
    assert select_subset(index, 0.5, 8, config).digest != one.digest


def test_the_order_is_blake2b_of_seed_and_id() -> None:
    index = plain_index(50, 50)
    subset = select_subset(index, 0.5, 11, ImbalanceConfig(total=60))
    defects = index.ids[50:]
    first = defects[np.argsort(hash_ids(defects, "11"))][:30]
    assert set(index.ids[subset.positions]) & set(defects) == set(first)


def test_too_few_defects_and_impossible_levels_say_the_numbers(make_index: MakeIndex) -> None:
    index = make_index(train=(1000, 50))
    with pytest.raises(DataError, match=r"0.01: only 5 defects among 500 images, fewer than 20.*--allow-tiny"):
        select_subset(index, 0.01, 0, ImbalanceConfig(total=500))
    assert select_subset(index, 0.01, 0, ImbalanceConfig(total=500), allow_tiny=True).num_defects == 5
    with pytest.raises(DataError, match=r"needs 250 defects and 250 normal images, .* 50 and 1000; lower .* 10\d or"):
        select_subset(index, 0.5, 0, ImbalanceConfig(total=500))
    with pytest.raises(DataError, match=r"lower imbalance.normals to 50"):
        select_subset(index, 0.5, 0, ImbalanceConfig(policy="fixed_normals"))
    with pytest.raises(DataError, match="natural: needs 2000 images, the train split has 1050"):
        select_subset(index, "natural", 0, ImbalanceConfig(total=2000))


def test_two_labelled_hold_outs_are_validation_and_test(make_index: MakeIndex) -> None:
    index = make_index(train=(300, 100), val=(60, 40), test=(90, 30))
    sets = select_evaluation_sets(index, EvaluationConfig(fixed_labelled=100))
    assert set(index.splits[sets.validation]) == {"val"}
    assert len(sets.validation) == 100
    assert set(index.splits[sets.test]) == {"test"}
    assert index.labels[sets.test].tolist().count(1) == index.labels[sets.test].tolist().count(0) == 30
    assert index.labels[sets.fixed_labelled].mean() == 0.5
    assert len(sets.fixed_labelled) == 100
    assert len(sets.level_free) == 400


def test_one_labelled_hold_out_is_split_by_group(make_index: MakeIndex) -> None:
    index = make_index(train=(50, 50), val=(400, 400), group_size=4)
    sets = select_evaluation_sets(index, EvaluationConfig(test_prevalence=None))
    assert set(index.groups[sets.validation]) & set(index.groups[sets.test]) == set()
    assert len(sets.validation) + len(sets.test) == 800
    assert 120 < len(sets.validation) < 280


def test_prevalence_and_size_of_the_test_set(make_index: MakeIndex) -> None:
    index = make_index(train=(50, 50), val=(500, 500), test=(500, 500))
    rare = select_evaluation_sets(index, EvaluationConfig(test_prevalence=0.1)).test
    assert ((index.labels[rare] == 0).sum(), index.labels[rare].sum()) == (500, 56)
    capped = select_evaluation_sets(index, EvaluationConfig(max_images=100))
    assert [len(s) for s in (capped.validation, capped.test, capped.level_free)] == [100, 100, 100]


def test_unlabelled_or_one_sided_hold_outs_are_not_used_or_refused(make_index: MakeIndex) -> None:
    index = make_index(train=(50, 50), val=(50, 0), test=(200, 200))
    sets = select_evaluation_sets(index, EvaluationConfig())
    assert set(index.splits[sets.validation]) == set(index.splits[sets.test]) == {"test"}
    with pytest.raises(DataError, match=r"both classes \(val: 50 normal, 0 defect, test: 0 normal, 0 defect\)"):
        select_evaluation_sets(make_index(train=(50, 50), val=(50, 0)), EvaluationConfig())
    with pytest.raises(DataError, match="too few for a validation and a test set"):
        select_evaluation_sets(make_index(train=(50, 50), val=(1, 1)), EvaluationConfig())
