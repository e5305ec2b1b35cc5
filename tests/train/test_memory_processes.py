"""One memory over several processes holds what one process holds, and a mistake is one sentence on every rank."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.memory import Memory
from tests.check import raises_sentence
from tests.processes import pool
from tests.train import memory_jobs as jobs
from tests.train.memory_jobs import Plan
from tests.train.memory_rows import rows

WORLDS = {1: (0,), 2: (0, 1), 4: (0, 1, 2, 3)}
POLICIES = ("reservoir", "ring", "class_balanced", "task_balanced", "herding", "priority", "weighted")


def calls(world, sizes, repeat=0):
    """Ids of every call and rank; the last ``repeat`` ids of a call come again in the next one, on another rank."""
    random = np.random.default_rng(3)
    order = random.permutation(300)
    start, planned = 0, []
    for call in range(6):
        parts = []
        for rank in range(world):
            n = sizes[(call + rank) % len(sizes)]
            parts.append(tuple(order[max(0, start - repeat) : start + n].tolist()) if n else ())
            start += n
        planned.append(tuple(parts))
    return tuple(planned)


def assert_all_equal(answers, truth):
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
        assert_equal(answer, truth)


def assert_equal(a, b):
    if isinstance(b, dict):
        assert list(a) == list(b)
        for name in b:
            assert_equal(a[name], b[name])
    elif isinstance(b, np.ndarray):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes() and a.shape == b.shape
    else:
        assert a == b


def run(job, world, *arguments):
    return pool().run(job, WORLDS[world], *[(*arguments, rank) for rank in range(world)])


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_rank_holds_what_one_process_holds(policy, world):
    plan = Plan(policy, calls(world, (5, 0, 17, 1), repeat=2))
    answers = run(jobs.on_rank, world, plan)
    assert_all_equal(answers, jobs.in_one_process(plan))
    assert len(answers[0]["index"]) == 9


@pytest.mark.parametrize("policy", ["reservoir", "ring", "class_balanced"])
def test_the_number_of_processes_does_not_matter(policy):
    whole = calls(4, (5, 0, 17, 1))
    fewer = tuple((parts[0] + parts[1], parts[2] + parts[3]) for parts in whole)
    four, two = Plan(policy, whole), Plan(policy, fewer)
    assert_all_equal(run(jobs.on_rank, 4, four), jobs.in_one_process(two))
    assert_all_equal(run(jobs.on_rank, 2, two), jobs.in_one_process(two))


@pytest.mark.parametrize("world", [2, 4])
def test_modalities_and_extras_that_only_some_ranks_have(world):
    # Modalities come in this order within a call, so one process has to be given them one rank after another.
    some = Plan(
        "reservoir",
        calls(world, (5, 3)),
        modalities=(("image", "text"), ("text", "sound")),
        memory=(("max_bytes", 900),),
    )
    answers = run(jobs.on_rank, world, some)
    memory = Memory(max_bytes=900, seed=5)
    for number, call in enumerate(some.calls):
        for rank, ids in enumerate(call):
            jobs.offer(memory, ids, some, number, rank)
    assert_all_equal(answers, jobs.content(memory))
    assert memory.nbytes <= 900 < memory.nbytes + memory.nbytes // len(memory)


def test_codecs_travel_as_codes():
    codecs = (("capacity", 9), ("codecs", {"image": "int8_channel", "logits": "fp16"}))
    plan = Plan("reservoir", calls(2, (5, 3)), memory=codecs)
    assert_all_equal(run(jobs.on_rank, 2, plan), jobs.in_one_process(plan))


@pytest.mark.parametrize("policy", ["priority", "reservoir"])
def test_updates_of_all_ranks_reach_all_ranks(policy):
    plan = Plan(policy, calls(4, (5, 0, 7, 1)), update=True)
    assert_all_equal(run(jobs.on_rank, 4, plan), jobs.in_one_process(plan))


@pytest.mark.parametrize("policy", ["reservoir", "ring", "class_balanced"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(policy):
    plan = Plan(policy, calls(2, (5, 0, 7)))
    assert_all_equal(run(jobs.resumed, 2, plan), jobs.in_one_process(plan))


def test_memory_maps_of_all_ranks_hold_the_same(tmp_path):
    plan = Plan("reservoir", calls(2, (5, 0, 7)))
    answers = pool().run(jobs.on_rank, (0, 1), (plan, 0, str(tmp_path)), (plan, 1, str(tmp_path)))
    truth = jobs.in_one_process(plan, str(tmp_path / "one"))
    for answer in answers:
        assert (
            answer["index"].tolist() == truth["index"].tolist() and answer["drawn"].tolist() == truth["drawn"].tolist()
        )
    assert len({answer["map"]["folder"] for answer in answers}) == 2


def test_ranks_without_rows_or_modalities():
    truth = jobs.nothing_to_offer(None, 0)
    assert_all_equal(run(jobs.nothing_to_offer, 4), truth)


MISTAKES = {
    "dtype": ("rank 1", "image", "same shape and dtype"),
    "new column": ("depth", "rank 0", "rank 1"),
    "extra": ("rank 1", "priority", "extras"),
    "codec": ("rank 1", "finite"),
    "length": ("rank 1", "expected 3 rows", "priority"),
    "update": ("rank 1", "priority", "float64"),
    "ids": ("rank 1", "integers", "bool"),
    "call": ("call", "add", "update"),
    "capacity": ("capacity", "4", "5"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_on_one_rank_is_a_sentence_on_all(kind):
    answers = pool().run(jobs.mistaken, WORLDS[4], *[(rank, kind) for rank in range(4)])
    sentences = set()
    for answer in answers:
        assert isinstance(answer["error"], InputError), answer
        sentences.add(str(answer["error"]))
        assert answer["before"] == answer["after"] and answer["end"] == answers[0]["end"]
    (text,) = sentences
    assert "\n" not in text and all(word in text for word in ("4 processes", *MISTAKES[kind])), text


def test_ranks_that_start_from_different_states_are_told():
    answers = pool().run(jobs.with_state_of_one, (0, 1), (0,), (1,))
    assert {str(a) for a in answers} == {str(answers[0])} and "number of rows" in str(answers[0])


def test_what_is_no_process_group():
    with raises_sentence(InputError, "process_group", "torch.distributed"):
        Memory(3, process_group=object())


class Mine:
    def rank(self, seed, batch):
        return batch.index

    def may_enter(self, keys, kept):
        return keys > kept[-1]

    def keep(self, candidates, capacity):
        return candidates.keys.argsort(descending=True)[:capacity]


def test_a_policy_of_ones_own_stays_in_one_process():
    memory = Memory(3, policy=Mine())
    memory.add(rows(range(9)))
    assert torch.equal(memory.index, torch.tensor([8, 7, 6]))
