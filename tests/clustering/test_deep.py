"""What all deep estimators refuse, and what they say when a training has diverged."""

import numpy as np
import pytest

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.train.terms import NonFiniteError
from tests.check import raises_sentence
from tests.clustering.test_common import DEEP, QUICK, blobs, input_of, make

BATCH_NORM = [("imsat", "batch_size"), ("cluster_gan", "batch_size"), ("tac", "batch_size"),
              ("scan", "self_label_batch_size")]  # fmt: skip
# One step of a rate that no network survives: nothing is left to notice it but the answers.
DIVERGING = {
    "abdc": {"pretrain_epochs": 0},
    "cc": {},
    "dec": {"pretrain_epochs": 0},
    "den": {"pretrain_epochs": 0},
    "iic": {},
    "imsat": {},
    "party": {},
    "scan": {"self_label_epochs": 0},
    "spectral_net": {},
    "tac": {},
    "vade": {"pretrain_epochs": 0},
}


@pytest.mark.parametrize(("name", "parameter"), BATCH_NORM)
def test_batches_of_one_row_have_no_statistics(name, parameter):
    with raises_sentence(InputError, parameter, "at least 2", "1"):
        make(name, 3, **{parameter: 1}).fit(blobs(N=20)[0])


@pytest.mark.parametrize("name", [name for name in DEEP if "widths" in QUICK[name]])
@pytest.mark.parametrize("widths", [5, "500"])
def test_widths_are_a_sequence(name, widths):
    with raises_sentence(InputError, "widths", "sequence", repr(widths)):
        make(name, 3, widths=widths).fit(blobs(N=20)[0])


@pytest.mark.parametrize("threads", [0, -1, 1.5])
def test_number_of_threads_is_checked(threads):
    with raises_sentence(InputError, "threads", repr(threads)):
        make("rim", 3, training=Training(threads=threads)).fit(blobs(N=20)[0])


@pytest.mark.parametrize("name", DIVERGING)
def test_answers_that_are_not_finite_are_an_error(name):
    how = {"epochs": 1, "batch_size": 1000, "lr": 1e30, **DIVERGING[name]}
    with raises_sentence(NonFiniteError, "diverged", "learning rate"):
        make(name, 3, **how).fit(input_of(name, blobs()[0]))


@pytest.mark.parametrize("views", [False, True], ids=["table", "views"])
def test_a_fit_that_fails_leaves_the_estimator_as_it_was(views):
    def given(rows):
        return {"a": rows[:, :3], "b": rows[:, 3:]} if views else rows

    X, other = blobs()[0], 50 + 9 * blobs(N=60, seed=1)[0]
    model, untouched = (make("rim", 3).fit(given(X)) for _ in range(2))
    with raises_sentence(NonFiniteError, "diverged"):
        model.set_params(lr=1e30).fit(given(other))
    np.testing.assert_array_equal(model.predict_proba(given(X)), untouched.predict_proba(given(X)))
    with raises_sentence(InputError, "n_clusters=3"):
        model.fit(given(other[:2]))
    np.testing.assert_array_equal(model.predict(given(X)), untouched.labels_)
    fresh = make("rim", 3, lr=1e30)
    with raises_sentence(NonFiniteError, "diverged"):
        fresh.fit(given(X))
    assert vars(fresh) == fresh.get_params()


def test_a_refit_forgets_what_other_parameters_left():
    X = blobs(N=30)[0]
    model = make("cluster_gan", 3).fit(X)
    assert hasattr(model, "cluster_centers_")
    assert not hasattr(model.set_params(assignment="argmax").fit(X), "cluster_centers_")


def test_numbers_of_numpy_are_numbers_to_a_checkpoint(tmp_path):
    X = blobs(N=30)[0]

    def epochs(n, **how):
        return len(make("rim", 3, epochs=n, training=Training(checkpoint_dir=tmp_path, **how)).fit(X).history_)

    assert epochs(np.int64(2)) == epochs(2, resume=True) == epochs(np.int32(2), resume=True) == 2
    with raises_sentence(CheckpointError, "another training"):
        epochs(np.int64(4), resume=True)
