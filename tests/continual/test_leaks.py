"""What no recipe may do: answer a row by its batch-mates, look at test rows or at later tasks, know a hidden task id,
keep more than its budget."""

from dataclasses import replace

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import cat
from pyfast_mmcl.train import recipes
from pyfast_mmcl.train.examine import answer as examined
from pyfast_mmcl.train.parts import CrossEntropy
from tests.check import assert_same_bits
from tests.continual.battery import (
    SCENARIOS,
    TASKS,
    Bystander,
    Killed,
    fitted,
    home,
    images_kept,
    made,
    make_stream,
    memories,
    stream_for,
)

METHODS = sorted(recipes())

HOMES = [(method, scenario) for method in METHODS for scenario in SCENARIOS]
CAPACITY = 7


@pytest.fixture(autouse=True)
def one_thread(seeded):
    """Rows this small are not worth a second thread."""
    torch.set_num_threads(1)


def answer(learner, rows):
    """Everything that is said about the rows, {name: [B, …]}."""
    out = examined(learner, rows, learner.parts)
    said = {"scores": out.scores, **{f"heads {m}": x for m, x in out.heads.items()}}
    return {**said, **{f"side {m}": x for m, x in out.modalities.items()}}


def assert_same_answer(found, expected, rows):
    for name, x in found.items():
        y = expected[name][rows]
        # Classes that a head leaves out get the lowest number of the precision, which is no scale.
        size = float(y.masked_fill(y.abs() > 1e30, 0.0).abs().max()) if y.numel() else 0.0
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-5 * max(size, 1.0), msg=lambda text, n=name: f"{n}: {text}")


def trained(method, scenario):
    learner = fitted(method, scenario)
    if isinstance(learner, str):
        pytest.skip(f"refused: {learner}")
    return learner, stream_for(method, scenario)


def rows_at_test(stream, task):
    return stream.loader(task, "test", batch_size=64)[0]


def assert_rows_alone(learner, stream):
    """The answer for a row does not change when its mates are permuted, split, dropped or made wild."""
    first, second = (rows_at_test(stream, task) for task in range(TASKS))
    rows = cat([first, second])
    whole, n = answer(learner, rows), len(rows)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    assert_same_answer(answer(learner, rows.select(order)), whole, order)
    for part in (slice(0, 1), slice(1, len(first)), slice(len(first), n), torch.arange(0, n, 3), torch.arange(n) == 5):
        assert_same_answer(answer(learner, rows.select(part)), whole, part)
    # Mates as no test set has them: a rule of the whole batch, such as a vote or a norm, would follow them.
    wild = replace(
        second,
        inputs={m: 100 * x if x.is_floating_point() else x.roll(1, 0) for m, x in second.inputs.items()},
        present={m: torch.zeros_like(p) if m == "text" else p for m, p in second.present.items()},
    )
    kept = slice(0, len(first))
    for mates in (cat([wild, wild]), *of_one_mind(learner, rows)):
        found = {name: x[kept] for name, x in answer(learner, cat([first, mates])).items()}
        assert_same_answer(found, whole, kept)


def of_one_mind(learner, rows):
    """For every answer that rows of noise are given, many of those that are given it: a vote would go their way."""
    g = torch.Generator().manual_seed(3)
    drawn = torch.randint(len(rows), (4 * len(rows),), generator=g)
    noise = rows.select(drawn)
    noise = replace(
        noise,
        inputs={
            m: 5 * torch.randn(x.shape, generator=g) if x.is_floating_point() else x for m, x in noise.inputs.items()
        },
    )
    # Asked of the model alone: a method that votes would have them all of one mind already.
    scores = examined(learner, noise, []).scores
    if scores.shape[-1] == 0:
        return  # a CLIP asked for pairs scores no class
    best = scores.argmax(-1).reshape(len(noise), -1)[:, 0]
    for label in best.unique():
        mine = (best == label).nonzero().flatten()
        yield noise.select(mine.repeat(-(-2 * len(rows) // len(mine))))


def assert_inputs_alone(learner, stream):
    """The label and the id of a test row could be anything, and so could its task where the scenario hides it."""
    rows = cat([rows_at_test(stream, task) for task in range(TASKS)])
    assert bool(((rows.task >= 0) == stream.scenario.task_id_at_test).all())
    whole = answer(learner, rows)
    # Turned round, every row has the id of one of another task.
    for index in (rows.index.flip(0), rows.index + 1000):
        others = replace(rows, target=rows.target.flip(0), index=index, fresh=0)
        for name, x in answer(learner, others).items():
            assert_same_bits(x, whole[name])


def assert_given_its_task(stream, *, seen):
    """Every row that the stream gave while a hook of the method was asking is a training row of the task."""
    for asker, rows in stream.given:
        if asker == "learner":
            continue
        hook, task = asker
        assert hook != "predict", "a prediction reads the stream"
        assert torch.isin(rows, stream.rows(task, seen=seen)).all(), f"{hook} in task {task} was given other rows"


@pytest.mark.parametrize(("method", "scenario"), HOMES)
def test_the_answer_for_a_row_does_not_depend_on_its_batch(method, scenario):
    assert_rows_alone(*trained(method, scenario))


@pytest.mark.parametrize(("method", "scenario"), HOMES)
def test_an_answer_follows_from_the_inputs_alone(method, scenario):
    assert_inputs_alone(*trained(method, scenario))


@pytest.mark.parametrize(("method", "scenario"), HOMES)
def test_no_part_is_given_a_row_that_is_not_its_task_s(method, scenario):
    _, stream = trained(method, scenario)
    assert_given_its_task(stream, seen=recipes()[method].trains_on == "seen")


@pytest.mark.parametrize("method", METHODS)
def test_the_model_is_asked_about_test_rows_without_label_or_hidden_task(method):
    scenario = home(method)
    stream = stream_for(method, scenario)
    learner, shown = made(method, stream), []
    test = torch.cat([stream.rows(task, "test") for task in range(TASKS)])

    def look(module, args):
        rows = args[0]
        mine = torch.isin(rows.index, test)
        shown.append(int(mine.sum()))
        if mine.any():
            assert not module.training and bool(mine.all())
            assert bool((rows.target == -1).all()), "the label of a test row reaches the model"
            assert stream.scenario.task_id_at_test or bool((rows.task == -1).all()), "a hidden task id does"

    learner.model.register_forward_pre_hook(look)
    learner.fit(stream)
    # Before the first task and after each, or as often as the history holds numbers for.
    assert sum(shown) >= (TASKS + 1) * len(test)


def learnt_beside_other_test_rows(method, scenario):
    """What a run leaves behind whose test rows have other inputs and labels."""
    stream, clean = stream_for(method, scenario, "test"), stream_for(method, scenario)
    rows = clean.rows(0, "test")
    assert not torch.equal(clean.gather(rows)[0]["image"], stream.gather(rows)[0]["image"])
    run = made(method, stream)
    run.fit(stream)
    return run.parts[-1].kept[-1]


def learnt_before_other_tasks(method, scenario):
    """What the first task leaves behind where the rows of the second one are others."""
    stream = stream_for(method, scenario, "later")
    run = made(method, stream, Bystander(task=0))
    with pytest.raises(Killed):
        run.fit(stream)
    return run.parts[-1].kept[0]


@pytest.mark.parametrize("method", METHODS)
def test_what_is_learnt_does_not_depend_on_test_rows(method):
    """With other test rows, model and parts come out the same to the bit."""
    whole = fitted(method, home(method)).parts[-1].kept[-1]
    assert_same_state(learnt_beside_other_test_rows(method, home(method)), whole)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_learnt_does_not_depend_on_later_tasks(method):
    """After the first task, model and parts are the same to the bit whatever the rows of the second one are."""
    whole = fitted(method, home(method)).parts[-1].kept[0]
    assert_same_state(learnt_before_other_tasks(method, home(method)), whole)


def assert_same_state(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_same_bits(ours[name], theirs[name])


@pytest.mark.parametrize("method", METHODS)
def test_memories_keep_their_budget_of_rows(method):
    """In every step and after every task; a method without a capacity keeps no rows at all."""
    stream, defaults = stream_for(method, home(method)), recipes()[method].defaults
    if "capacity" not in defaults:
        learner = fitted(method, home(method))
        assert not memories(learner) and images_kept(learner, stream) == 0
        return
    learner = made(method, stream, hyper={"capacity": CAPACITY})
    learner.fit(stream)
    sizes = learner.parts[-1].sizes
    rows = [sum(n for n, _ in step) for step in sizes]
    assert max(rows) == CAPACITY and len(sizes) == learner.step + TASKS
    assert images_kept(learner, stream) == CAPACITY
    kept = memories(learner)[0].all()
    assert torch.isin(kept.index, torch.cat([stream.rows(task) for task in range(TASKS)])).all()


BYTES = [name for name in METHODS if "max_bytes" in recipes()[name].defaults]


@pytest.mark.parametrize("method", BYTES)
@pytest.mark.parametrize("budget", [300, 3000])
def test_memories_keep_their_budget_of_bytes(method, budget):
    """Columns, presence, ids and keys together; what a checkpoint would hold of them is no more."""
    stream = stream_for(method, home(method))
    learner = made(method, stream, hyper={"capacity": None, "max_bytes": budget})
    try:
        learner.fit(stream)
    except InputError as refusal:
        assert budget == 300 and "bytes" in str(refusal)
        return
    sizes = [sum(n for _, n in step) for step in learner.parts[-1].sizes]
    assert budget / 2 < max(sizes) <= budget
    for memory in memories(learner):
        held = memory.all()
        columns = [*held.inputs.values(), *held.present.values(), held.target, held.task, held.index]
        assert sum(x.numel() * x.element_size() for x in columns) <= memory.nbytes <= budget


def test_some_method_has_a_budget_of_bytes():
    assert "er" in BYTES


class Cheat(CrossEntropy):
    """Fine-tuning that does what it must not."""

    def __init__(self, how):
        super().__init__()
        self.how, self.peeked = how, torch.zeros(())

    def predict(self, learner, batch, out):
        """Answers that follow the mean of the batch or its vote for a task, or the id of the row or its task by it."""
        if self.how == "mates":
            return out.scores - out.scores.mean(0)
        first, half = out.scores.new_zeros(out.scores.shape[1]), out.scores.shape[1] // TASKS
        first[half:] = 100
        if self.how == "vote":
            votes = (out.scores.argmax(1) < half).float().mean()
            return out.scores - first if votes > 0.5 else out.scores + first
        if self.how == "task":
            second = torch.isin(batch.index, learner._stream.rows(1, "test"))
            return torch.where(second.unsqueeze(1), out.scores + first, out.scores - first)
        return out.scores + batch.index.unsqueeze(1) if self.how == "id" else None

    def after_task(self, learner, task, loader):
        """A look at test rows, or at the rows of a later task."""
        if self.how == "test":
            self.peeked = learner._stream.loader(task.id, "test")[0].inputs["image"][0]
        if self.how == "later" and task.id == 0:
            self.peeked = learner._stream.loader(1)[0].inputs["image"][0]

    def state_dict(self):
        return {"peeked": self.peeked}


def cheating(how, spoiled=None, bystander=None):
    stream = make_stream("cil", spoiled=spoiled)
    learner = made([Cheat(how)], stream, bystander)
    learner.fit(stream)
    return learner, stream


def test_the_guards_catch_who_cheats():
    """A guard that lets everything through would be worth nothing."""
    honest = cheating("not")
    assert_rows_alone(*honest)
    assert_inputs_alone(*honest)
    assert_given_its_task(honest[1], seen=False)
    with pytest.raises(AssertionError):
        assert_rows_alone(*cheating("mates"))
    with pytest.raises(AssertionError):
        assert_rows_alone(*cheating("vote"))
    for how in ("id", "task"):
        with pytest.raises(AssertionError):
            assert_inputs_alone(*cheating(how))
    for how in ("test", "later"):
        learner, stream = cheating(how)
        with pytest.raises(AssertionError, match="other rows"):
            assert_given_its_task(stream, seen=False)
        other, _ = cheating(how, spoiled=how)
        with pytest.raises(AssertionError):
            assert_same_state(other.parts[-1].kept[0], learner.parts[-1].kept[0])
