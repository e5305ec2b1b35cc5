"""Progressive networks: earlier tasks' answers keep their bits, laterals carry something, and a kill loses nothing."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.models import ProgressiveColumns
from pyfast_mmcl.train import Learner, Part, default_model, run_continual
from tests.check import assert_same_bits, raises_sentence
from tests.continual.regularization.truth import OWN_MODALITIES, small_stream


class Answers(Part):
    """The scores of every task's test rows after each task."""

    def __init__(self, stream):
        self.stream, self.kept = stream, []

    def after_task(self, learner, task, loader):
        rows = [learner.predict(self.stream.loader(t, "test", batch_size=99)[0]) for t in range(self.stream.n_tasks)]
        self.kept.append([x.clone() for x in rows])


def run(stream, **settings):
    chosen = {"epochs": 2, "batch_size": 8, "lr": 0.02, "device": "cpu", "progress": False, **settings}
    learner = Learner(default_model(stream, "progressive", width=8), "progressive", **chosen)
    learner.parts.append(Answers(stream))
    learner.fit(stream)
    return learner


MODALITY_SETS = [["a"], ["b"], ["a", "b"]]


@pytest.mark.parametrize("scenario", ["til", "mdtil"])
def test_answers_to_earlier_tasks_keep_their_bits(scenario):
    sets = MODALITY_SETS if scenario == "mdtil" else None
    stream = small_stream(OWN_MODALITIES if sets else "til", task_modalities=sets, missing={} if sets else None)
    learner = run(stream)
    kept = learner.parts[-1].kept
    assert isinstance(learner.model, ProgressiveColumns) and len(learner.model.columns) == 3
    for after in range(1, 3):
        for task in range(after):
            assert_same_bits(kept[after][task], kept[task][task])
        assert not torch.equal(kept[after][after], kept[after - 1][after])


def test_laterals_learn_and_their_width_is_the_recipe_s():
    learner = run(small_stream("til"), hyper={"lateral": 3})
    assert [column["lateral"] for column in learner.model.structure()] == [16, 3, 3]
    last = learner.model.columns[2]
    assert [lateral.reduce.out_features for lateral in last.head_laterals] == [3, 3]
    assert all(float(lateral.alpha.detach()) != 1.0 for lateral in last.head_laterals)
    trained = {name for name, p in learner.model.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("columns.2.") for name in trained)


def test_digits_are_learnt_and_nothing_is_forgotten():
    stream = digits_stream("til", 3, modalities=("image",))
    history = run_continual("progressive", stream, epochs=5, lr=0.003, progress=False, device="cpu")
    matrix = history.accuracy_matrix
    assert history.summary()["last_accuracy"] > 0.9
    assert all(matrix[after, task] == matrix[task, task] for task in range(3) for after in range(task, 3))


def test_mistakes_are_named():
    with raises_sentence(InputError, "task id", "til"):
        run_continual("progressive", small_stream("dil"), progress=False)
    stream = small_stream("til")
    with raises_sentence(InputError, "progressive", "ProgressiveColumns"):
        run_continual("progressive", stream, model=default_model(stream), progress=False)
    with raises_sentence(InputError, "lateral"):
        run_continual("progressive", stream, lateral=0, progress=False)
