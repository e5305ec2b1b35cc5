"""GDumb trains the given weights on a balanced memory, and on nothing else, for every task anew."""

import copy

import torch
from torch.nn.functional import cross_entropy

from pyfast_mmcl.train import Learner, Part, default_model
from tests.check import assert_same_bits
from tests.continual.replay.truth import Grow, fitted, flat, make, memory_part, small_stream


class Record(Part):
    """Batches that the loss sees, and the weights that each task starts and ends with."""

    def __init__(self):
        self.batches, self.starts, self.ends = [], [], []

    def before_task(self, learner, task):
        self.batches.append([])
        self.starts.append(flat(learner))

    def loss(self, learner, batch, out):
        self.batches[-1].append(batch)

    def after_task(self, learner, task, loader):
        self.ends.append(flat(learner))


def test_every_task_is_plain_training_of_the_first_weights_on_the_memory():
    stream, record = small_stream(), Record()
    learner = make(stream, "gdumb", record, capacity=30, epochs=3, optimizer="sgd", lr=0.1)
    model = copy.deepcopy(learner.model)
    learner.fit(stream)
    torch.set_num_threads(1)
    first = copy.deepcopy(model.state_dict())
    for start, batches, end in zip(record.starts, record.batches, record.ends, strict=True):
        model.load_state_dict(first)
        assert_same_bits(start, torch.cat([p.detach().flatten() for p in model.parameters()]))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for batch in batches:
            optimizer.zero_grad()
            cross_entropy(model(batch).scores, batch.target).backward()
            optimizer.step()
        assert_same_bits(end, torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert not torch.equal(record.starts[0], record.ends[0])


def test_batches_are_of_the_memory_and_the_memory_is_balanced():
    stream, record = small_stream(), Record()
    counts = []

    class Look(Part):
        def before_task(self, learner, task):
            memory = memory_part(learner).memory_
            kept = memory.all()
            counts.append(torch.bincount(kept.target, minlength=6).tolist())
            self.ids = kept.index

        def loss(self, learner, batch, out):
            assert batch.fresh == 0 and len(batch) == 16 and torch.isin(batch.index, self.ids).all()
            assert batch.index.unique().numel() == 16

    fitted(stream, "gdumb", record, Look(), capacity=24, epochs=2)
    assert counts == [[12, 12, 0, 0, 0, 0], [6, 6, 6, 6, 0, 0], [4] * 6]
    # As many steps as the task would take another method.
    assert [len(batches) for batches in record.batches] == [4, 4, 4]


def test_rows_sets_the_batch():
    seen = []

    class Look(Part):
        def loss(self, learner, batch, out):
            seen.append(len(batch))

    fitted(small_stream(), "gdumb", Look(), capacity=24, rows=5)
    assert set(seen) == {5}


def test_buffers_and_grown_heads_start_afresh_too():
    stream, heads = small_stream(), []

    class Look(Part):
        def before_task(self, learner, task):
            heads.append(learner.model.head.linear.weight.detach().clone())

    class Normed(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.norm, self.head = inner, torch.nn.BatchNorm1d(6), inner.head

        def forward(self, batch):
            out = self.inner(batch)
            counts.append(int(self.norm.num_batches_tracked)) if self.training else None
            out.scores = self.norm(out.scores)
            return out

    counts = []
    model = Normed(default_model(stream, width=8))
    Learner(model, "gdumb", epochs=2, batch_size=16, device="cpu", progress=False).fit(stream)
    assert counts == [0, 1, 2, 3] * 3
    learner = make(stream, [Grow(), *make(stream, "gdumb").parts, Look()])
    learner.fit(stream)
    assert [len(head) for head in heads] == [2, 4, 6]
    assert torch.equal(heads[1][:2], heads[0]) and torch.equal(heads[2][:4], heads[1])
