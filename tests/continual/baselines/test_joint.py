"""Joint training sees all tasks so far, and fills the whole accuracy matrix."""

import numpy as np
import torch

from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import Learner, Part, default_model


class Watch(Part):
    def __init__(self):
        self.tasks = []

    def before_task(self, learner, task):
        self.tasks.append(set())

    def loss(self, learner, batch, out):
        self.tasks[-1] |= set(batch.task.tolist())
        assert batch.fresh == len(batch)


def test_stage_t_trains_on_tasks_one_to_t():
    stream, watch = digits_stream(n_tasks=3), Watch()
    learner = Learner(default_model(stream), "joint", epochs=1, device="cpu", progress=False)
    learner.parts.append(watch)
    history = learner.fit(stream)
    assert watch.tasks == [{0}, {0, 1}, {0, 1, 2}]
    sizes = [task.n_train for task in stream.tasks]
    assert [entry["steps"] for entry in history.losses] == [-(-sum(sizes[: t + 1]) // 32) for t in range(3)]
    assert np.isfinite(history.accuracy_matrix).all()
    assert learner.parts[0].state_dict() == {} and history.kept_bytes == [0, 0, 0]


def test_it_remembers_the_first_task():
    stream = digits_stream(n_tasks=2)
    history = Learner(default_model(stream), "joint", epochs=3, device="cpu", progress=False).fit(stream)
    assert history.accuracy_matrix[1, 0] > 0.85 and torch.tensor(history.accuracy[1]).min() > 0.85
