"""Fine-tuning keeps nothing, learns each task and forgets the ones before."""

import numpy as np

from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import run_continual


def test_it_learns_and_forgets():
    history = run_continual("finetune", digits_stream(), device="cpu", progress=False)
    matrix = history.accuracy_matrix
    assert np.diag(matrix).min() > 0.8 and matrix[-1, :-1].max() < 0.2
    assert history.kept_bytes == [0] * 5


def test_task_ids_make_forgetting_milder():
    history = run_continual("finetune", digits_stream("til"), device="cpu", progress=False)
    assert history.summary()["last_accuracy"] > 0.6
