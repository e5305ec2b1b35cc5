"""Orders, missing modalities and long tails: what each knob does to which rows, and that nothing else changes."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.data.imbalance import rotating_sets

N = 4000


def records(n=N, classes=8):
    g = torch.Generator().manual_seed(1)
    return Records({"a": torch.rand(n, 3, generator=g), "b": torch.rand(n, 2, generator=g)}, torch.arange(n) % classes)


def lacking(stream, modality, task, split):
    """Share of the rows of a split of a task without the modality."""
    return float((~stream.gather(stream.rows(task, split))[1][modality]).double().mean())


def test_shares_of_missing_rows_may_differ_by_task_and_follow_the_order():
    shares = [0.0, 0.2, 0.9, 1.0]
    for order in (None, [2, 0, 3, 1], "reversed"):
        stream = Stream.from_dataset(records(), n_tasks=4, missing={"a": shares}, task_order=order)
        first = [task.classes[0] // 2 for task in stream.tasks]
        for task, was in enumerate(first):
            for split in ("train", "test"):
                assert lacking(stream, "a", task, split) == pytest.approx(shares[was], abs=0.07)
    assert stream.tasks[0].modalities == ("b",), "nobody of the first task trains with the other modality"


def test_a_modality_may_be_missing_at_test_alone_and_the_training_rows_do_not_notice():
    plain = Stream.from_dataset(records(), n_tasks=2, validation=0.1)
    blind = Stream.from_dataset(records(), n_tasks=2, validation=0.1, missing_at_test={"a": 1.0})
    for split in ("train", "validation"):
        rows = blind.rows(0, split)
        assert torch.equal(rows, plain.rows(0, split)) and lacking(blind, "a", 0, split) == 0
        assert torch.equal(blind.gather(rows)[0]["a"], plain.gather(rows)[0]["a"])
    assert lacking(blind, "a", 0, "test") == 1 and blind.gather(blind.rows(1, "test"))[0]["a"].eq(0).all()
    whole = Stream.from_dataset(records(), n_tasks=2, missing={"a": 0.5}, missing_at_test={})
    assert lacking(whole, "a", 0, "train") == pytest.approx(0.5, abs=0.05) and lacking(whole, "a", 0, "test") == 0


def test_a_row_without_anything_left_keeps_its_first_modality():
    stream = Stream.from_dataset(records(), n_tasks=2, missing_at_test={"a": 1.0, "b": 1.0})
    assert lacking(stream, "a", 0, "test") == 0 and lacking(stream, "b", 0, "test") == 1


def test_a_long_tail_keeps_an_exponential_share_of_the_training_rows():
    stream = Stream.from_dataset(records(), n_tasks=4, long_tail=100.0)
    plain = Stream.from_dataset(records(), n_tasks=4)
    counts = torch.cat([stream.gather(stream.rows(t))[2] for t in range(4)]).bincount(minlength=8)
    expected = torch.tensor([round(400 * 100 ** (-r / 7)) for r in range(8)])
    assert torch.equal(counts.sort(descending=True).values, expected) and not torch.equal(counts, expected)
    for task in range(4):
        assert torch.equal(stream.rows(task, "test"), plain.rows(task, "test"))
        assert set(stream.rows(task).tolist()) < set(plain.rows(task).tolist())
        assert stream.tasks[task].n_train == len(stream.rows(task))


def test_shares_of_classes_are_kept_as_given_in_every_task_and_never_empty_a_class():
    share = [1.0, 0.5, 0.25, 0.001] * 2
    stream = Stream.from_dataset(records(), scenario="dil", domains=torch.arange(N) // 8 % 2, long_tail=share)
    for task in range(2):
        assert stream.gather(stream.rows(task))[2].bincount().tolist() == [200, 100, 50, 1] * 2


def test_orders_by_name():
    reversed_, shuffled = (Stream.from_dataset(records(), n_tasks=4, task_order=o) for o in ("reversed", "shuffled"))
    assert [t.classes for t in reversed_.tasks] == [(6, 7), (4, 5), (2, 3), (0, 1)]
    assert sorted(t.classes for t in shuffled.tasks) == [(0, 1), (2, 3), (4, 5), (6, 7)]
    orders = {tuple(t.classes for t in Stream.from_dataset(records(), n_tasks=4, task_order="shuffled", seed=s).tasks)
              for s in (0, 0, 1, 2, 3)}  # fmt: skip
    assert 2 <= len(orders) <= 4, "the seed decides, and the same seed decides alike"


def test_classes_may_be_shuffled_before_they_are_dealt():
    stream = Stream.from_dataset(records(), n_tasks=4, class_order="shuffled")
    dealt = [c for task in stream.tasks for c in task.classes]
    assert sorted(dealt) == list(range(8)) and [t.classes for t in stream.tasks] != [(0, 1), (2, 3), (4, 5), (6, 7)]
    chosen = Stream.from_dataset(records(), n_tasks=2, class_order=[7, 1, 0, 2, 3, 4, 5, 6])
    assert chosen.tasks[0].classes == (0, 1, 2, 7)


def test_sets_rotate_through_every_modality_and_all_of_them():
    assert rotating_sets("ab", 4) == [("a",), ("b",), ("a", "b"), ("a",)]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"missing": {"a": [0.5]}}, InputError, "one share or 2"),
        ({"missing": {"a": [0.5, 2]}}, InputError, "share in"),
        ({"missing": {"a": "half"}}, InputError, "share in"),
        ({"missing": {"a": None}}, InputError, "share in"),
        ({"missing": 3}, InputError, "got 3"),
        ({"missing_at_test": ["a"]}, InputError, r"got \['a'\]"),
        ({"missing_at_test": {"c": 0.5}}, UnknownNameError, "modality"),
        ({"missing_at_test": {"a": -0.5}}, InputError, "missing_at_test: expected a share"),
        ({"long_tail": 0.5}, InputError, "ratio of at least 1"),
        ({"long_tail": [0.5, 1.0]}, InputError, "each of 8 classes"),
        ({"long_tail": [0.0] * 8}, InputError, "each of 8 classes"),
        ({"task_order": "random"}, UnknownNameError, "shuffled"),
        ({"task_order": [0.0, 1.0]}, InputError, "permutation"),
        ({"task_order": 3.5}, InputError, "task_order"),
        ({"class_order": [0, 0]}, InputError, "class_order: expected a permutation"),
    ],
)
def test_impossible_knobs_are_refused_in_a_sentence(change, error, words):
    with pytest.raises(error, match=words):
        Stream.from_dataset(records(80), n_tasks=2, **change)


def test_knobs_that_contradict_the_labels_are_refused():
    with pytest.raises(InputError, match="leave one of the two out"):
        Stream.from_dataset(records(80), classes=[[0], [1]], class_order="shuffled")
    answers = Records({"q": torch.arange(40).reshape(20, 2)}, torch.arange(40).reshape(20, 2))
    with pytest.raises(InputError, match="no classes to be rare"):
        Stream.from_dataset(answers, scenario="gdil", domains=torch.arange(20) // 10, long_tail=10.0)
    with pytest.raises(InputError, match=r"token ids \[N, S\]"):
        Stream.from_dataset(records(80), scenario="gdil", domains=torch.arange(80) // 40)
    with pytest.raises(InputError, match="a list of modalities per task"):
        Stream.from_dataset(records(80), scenario="mdtil", n_tasks=2, task_modalities=["a", ["b"]])
