"""Label-space rules, splits, task orders, missing modalities: who gets which row, decided by (seed, row) alone."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream

N = 400


def records(n=N, classes=8):
    g = torch.Generator().manual_seed(1)
    return Records({"a": torch.rand(n, 3, generator=g), "b": torch.rand(n, 2, generator=g)}, torch.arange(n) % classes)


def every_row(stream):
    return {
        split: torch.cat([stream.rows(t.id, split) for t in stream.tasks]) for split in ("train", "validation", "test")
    }


def test_disjoint_labels_deal_classes_evenly_and_only_once():
    stream = Stream.from_dataset(records(), n_tasks=3)
    assert [task.classes for task in stream.tasks] == [(0, 1, 2), (3, 4, 5), (6, 7)]
    for task in stream.tasks:
        for split in ("train", "test"):
            target = stream.gather(stream.rows(task.id, split))[2]
            assert set(target.tolist()) == set(task.classes)
    assert stream.task_classes.sum(0).tolist() == [1] * 8


def test_shared_labels_deal_domains_and_every_task_has_every_class():
    domains = torch.arange(N) // 8 % 3 + 5
    stream = Stream.from_dataset(records(), scenario="dil", domains=domains)
    assert len(stream.tasks) == 3 and all(task.classes == tuple(range(8)) for task in stream.tasks)
    assert all(bool(domains[stream.rows(t.id)].eq(5 + t.id).all()) for t in stream.tasks)


def test_task_id_is_shown_in_training_and_at_test_only_where_the_scenario_says_so():
    for scenario, shown in (("cil", False), ("til", True)):
        stream = Stream.from_dataset(records(), scenario=scenario, n_tasks=2, validation=0.1)
        assert stream.loader(1, "train")[0].task.eq(1).all()
        for split in ("validation", "test"):
            assert stream.loader(1, split)[0].task.eq(1 if shown else -1).all()


def test_splits_are_disjoint_complete_and_stratified():
    stream = Stream.from_dataset(records(), n_tasks=4, test=0.2, validation=0.25)
    rows = every_row(stream)
    assert torch.equal(torch.cat(list(rows.values())).sort().values, torch.arange(N))
    counts = {split: stream.gather(ids)[2].bincount().tolist() for split, ids in rows.items()}
    assert counts == {"train": [30] * 8, "validation": [10] * 8, "test": [10] * 8}


def test_the_split_depends_on_the_seed():
    rows = [Stream.from_dataset(records(), n_tasks=2, seed=seed).rows(0, "test") for seed in (0, 0, 1)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_chosen_test_rows_are_kept_as_chosen():
    mask = torch.arange(N) % 5 == 0
    for test in (mask, mask.nonzero().flatten(), mask.nonzero().flatten().tolist()):
        stream = Stream.from_dataset(records(), n_tasks=2, test=test, validation=0.5)
        rows = every_row(stream)
        assert torch.equal(rows["test"].sort().values, mask.nonzero().flatten())
        assert len(rows["validation"]) == len(rows["train"]) == N * 4 // 10


def test_chosen_validation_rows_are_kept_as_chosen():
    mask = torch.arange(N) % 10 == 3
    for validation in (mask, mask.nonzero().flatten().tolist()):
        rows = every_row(
            Stream.from_dataset(records(), n_tasks=2, test=torch.arange(N) % 10 == 0, validation=validation)
        )
        assert torch.equal(rows["validation"].sort().values, mask.nonzero().flatten())
        assert len(rows["test"]) == N // 10 and len(rows["train"]) == N * 8 // 10
    with pytest.raises(InputError, match="keep the two apart"):
        Stream.from_dataset(records(), n_tasks=2, test=mask, validation=mask)
    with pytest.raises(InputError, match="validation: expected"):
        Stream.from_dataset(records(), n_tasks=2, validation="some")


def test_pairs_of_one_target_are_on_one_side_in_every_task():
    data = Records({"a": torch.rand(N, 3), "b": torch.rand(N, 2)}, torch.arange(N) % 100)
    stream = Stream.from_dataset(
        data, scenario="dil", domains=torch.arange(N) // 100, objective="pairs", test=0.3, validation=0.5
    )
    rows = every_row(stream)
    sides = {split: set(stream.gather(ids)[2].tolist()) for split, ids in rows.items()}
    assert {split: len(s) for split, s in sides.items()} == {"train": 35, "validation": 35, "test": 30}
    assert not sides["train"] & sides["test"] and not sides["validation"] & (sides["train"] | sides["test"])
    assert all(len(stream.rows(t, "test")) == 30 for t in range(4))


def test_a_second_dataset_serves_as_test():
    lists = [[{"a": torch.rand(3), "b": torch.rand(2), "target": i % 8} for i in range(n)] for n in (80, 16)]
    for first, second in ((records(80), records(16)), lists, (records(80), lists[1])):
        stream = Stream.from_dataset(first, n_tasks=2, test=second)
        rows = every_row(stream)
        assert rows["test"].tolist() == sorted(rows["test"].tolist(), key=lambda r: (stream.task_of[r], r))
        assert set(rows["test"].tolist()) == set(range(80, 96)) and len(rows["train"]) == 80
        assert stream.gather(torch.tensor([81]))[2].tolist() == [1]


def test_task_order_moves_classes_and_names_together():
    stream = Stream.from_dataset(records(), n_tasks=4, task_order=[2, 0, 3, 1], task_names=list("wxyz"))
    assert [(t.name, t.classes) for t in stream.tasks] == [("y", (4, 5)), ("w", (0, 1)), ("z", (6, 7)), ("x", (2, 3))]


def test_explicit_classes_may_leave_some_out():
    stream = Stream.from_dataset(records(), classes=[[7, 1], [3]])
    assert [t.classes for t in stream.tasks] == [(1, 7), (3,)]
    assert sum(t.n_train for t in stream.tasks) == 120


def test_missing_modalities_keep_at_least_one_and_hit_the_share():
    stream = Stream.from_dataset(records(4000), n_tasks=2, missing={"a": 0.5, "b": 0.3})
    inputs, present, _ = stream.gather(torch.arange(4000))
    assert (present["a"] | present["b"]).all()
    # A row that would lose both keeps "a": 0.5 − 0.5·0.3 of the rows lack "a".
    assert (~present["a"]).double().mean().item() == pytest.approx(0.35, abs=0.03)
    assert (~present["b"]).double().mean().item() == pytest.approx(0.3, abs=0.03)
    assert inputs["a"][~present["a"]].eq(0).all() and inputs["a"][present["a"]].ne(0).any(1).all()


def test_seen_rows_are_the_union_of_the_tasks_so_far():
    stream = Stream.from_dataset(records(), n_tasks=4)
    union = torch.cat([stream.rows(t) for t in range(3)]).sort().values
    assert torch.equal(stream.rows(2, seen=True), union)
    assert torch.equal(stream.loader(2, seen=True, batch_size=1000)[0].task, stream.task_of[union])


def test_fingerprint_changes_with_everything_that_matters():
    base = {"n_tasks": 2, "seed": 0}
    prints = {
        Stream.from_dataset(data, **{**base, **change}).fingerprint()
        for data, change in (
            (records(), {}),
            (records(), {"seed": 1}),
            (records(), {"n_tasks": 4}),
            (records(), {"scenario": "til"}),
            (records(), {"missing": {"b": 0.5}}),
            (records(), {"task_order": [1, 0]}),
            (Records({"a": torch.rand(N, 3), "b": torch.rand(N, 2)}, torch.arange(N) % 8), {}),
        )
    }
    assert len(prints) == 7
    assert Stream.from_dataset(records(), **base).fingerprint() == Stream.from_dataset(records(), **base).fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "either n_tasks or classes"),
        ({"n_tasks": 2, "classes": [[0], [1]]}, "either n_tasks or classes"),
        ({"n_tasks": 9}, "number of classes"),
        ({"n_tasks": 0}, "number of classes"),
        ({"classes": [[0], [0]]}, "another task has it"),
        ({"classes": [[0], [99]]}, "no row has it"),
        ({"scenario": "dil"}, "give domains"),
        ({"scenario": "dil", "domains": [0, 1]}, "one per row"),
        ({"scenario": "dil", "domains": torch.arange(N) % 2, "n_tasks": 3}, "number of domains"),
        ({"n_tasks": 2, "test": 1.5}, "share in"),
        ({"n_tasks": 2, "test": 0.0}, "no test rows"),
        ({"n_tasks": 2, "validation": -0.1}, "share in"),
        ({"n_tasks": 2, "test": torch.ones(3, dtype=torch.bool)}, "row numbers"),
        ({"n_tasks": 2, "test": [5000]}, "row numbers from 0"),
        ({"n_tasks": 2, "test": torch.ones(N, dtype=torch.bool)}, "no train rows"),
        ({"n_tasks": 2, "task_order": [0, 0]}, "permutation"),
        ({"n_tasks": 2, "task_names": ["one"]}, "task_names: expected 2, one per task"),
        ({"n_tasks": 2, "class_names": ["one"]}, "expected 8 names"),
        ({"n_tasks": 2, "missing": {"a": 2.0}}, "share in"),
        ({"n_tasks": 2, "missing": {"c": 0.5}}, "unknown modality"),
        ({"n_tasks": 2, "test": Records({"a": torch.ones(1, 3)}, [0])}, "expected modalities"),
    ],
)
def test_contradictory_choices_are_refused_in_a_sentence(change, words):
    with pytest.raises(InputError, match=words):
        Stream.from_dataset(records(), **change)


def test_unknown_split_and_task():
    with pytest.raises(InputError, match="expected 0 to 1, got 2"):
        Stream.from_dataset(records(), n_tasks=2).loader(2)
    with pytest.raises(UnknownNameError, match="test"):
        Stream.from_dataset(records(), n_tasks=2).rows(0, "tests")
