"""SCAN: neighbours, heads and self-labels on vectors; its own pretext task on images."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.neighborhood.scan import SCAN, corrupt
from pyfast_mmcl.clustering.neighbors import neighbors_of
from pyfast_mmcl.losses.information import marginal_entropy
from pyfast_mmcl.losses.neighborhood import neighbor_consistency
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import assert_same_bits, raises_sentence
from tests.clustering.sets import digits

X, Y = digits()
SMALL = {"widths": (256,), "heads": 3, "epochs": 10, "self_label_epochs": 3, "batch_size": 200, "lr": 3e-3}
PICTURES = {"pretext_epochs": 2, "heads": 2, "epochs": 2, "self_label_epochs": 1, "neighbors": 5}


def pictures(N: int = 40, channels: int = 1) -> np.ndarray:
    """Bright bars, upright or lying, with noise: bytes [N, channels, 12, 12]."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 60, (N, channels, 12, 12))
    for i, place in enumerate(rng.integers(2, 9, N)):
        images[(i, slice(None), place) if i % 2 else (i, slice(None), slice(None), place)] += 190
    return images.astype(np.uint8)


def test_vectors_lose_some_features_and_are_moved():
    x = torch.ones(400, 50)
    out = corrupt(x, 0.5, 0.2, torch.Generator().manual_seed(0))
    lost = out == 0
    assert float(lost.float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float(out[~lost].mean()) == pytest.approx(1, abs=0.02)
    assert float(out[~lost].std()) == pytest.approx(0.5, abs=0.02)
    assert_same_bits(out, corrupt(x, 0.5, 0.2, torch.Generator().manual_seed(0)))
    assert torch.equal(corrupt(x, 0.0, 0.0, torch.Generator()), x)


def test_digits_are_found_better_than_by_k_means():
    model = SCAN(10, **SMALL, random_state=0).fit(X)
    assert clustering_accuracy(Y, model.labels_) > clustering_accuracy(Y, KMeans(10, random_state=0).fit(X).labels_)
    assert [epoch["phase"] for epoch in model.history_] == ["clustering"] * 10 + ["self-labelling"] * 3
    assert set(model.history_[0]["terms"]) == {"consistency", "balance"}
    assert set(model.history_[-1]["terms"]) == {"certain"}
    assert model.history_[-1]["terms"]["certain"] < model.history_[10]["terms"]["certain"]


def test_neighbours_are_mined_and_the_head_with_the_lowest_loss_is_kept():
    rows = (X[:300] + np.random.default_rng(0).normal(size=(300, 64))).astype(np.float32)
    model = SCAN(10, **{**SMALL, "epochs": 2, "self_label_epochs": 0}, neighbors=7, random_state=0).fit(rows)
    np.testing.assert_array_equal(model.network_.neighbors, neighbors_of(rows, 7))
    scaled = torch.from_numpy((rows - rows.mean(0)) / np.sqrt(rows.var(0).mean())).float()
    with torch.no_grad():
        log_p = model.network_(scaled).log_softmax(2)
    # All neighbours of all rows, where fit has drawn one of each row: the losses are close.
    losses = torch.stack([
        sum(neighbor_consistency(log_p[:, h], log_p[model.network_.neighbors[:, j], h]) for j in range(7)) / 7
        - 5 * marginal_entropy(log_p[:, h].exp()) for h in range(3)])  # fmt: skip
    assert float(losses[model.network_.best] - losses.min()) < 0.02
    np.testing.assert_allclose(model.predict_proba(rows), log_p[:, model.network_.best].exp(), atol=1e-4)


@pytest.mark.parametrize("metric", ["l2", "cosine", "ip"])
def test_neighbours_are_those_of_the_rows_as_they_are(metric):
    rows = 3 + np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)  # far from mean 0
    model = SCAN(3, **{**SMALL, "epochs": 0, "self_label_epochs": 0}, neighbors=5, metric=metric, random_state=0)
    np.testing.assert_array_equal(model.fit(rows).network_.neighbors, neighbors_of(rows, 5, metric=metric))


def test_self_labels_leave_the_kept_head_where_it_is_and_make_rows_certain():
    short = {**SMALL, "epochs": 6, "threshold": 0.8}
    before = SCAN(10, **{**short, "self_label_epochs": 0}, random_state=0).fit(X[:600])
    after = SCAN(10, **{**short, "self_label_epochs": 20}, random_state=0).fit(X[:600])
    assert int(after.network_.best) == int(before.network_.best)
    sure = [(model.predict_proba(X[:600]).max(1) > 0.8).mean() for model in (before, after)]
    assert sure[0] < sure[1]


def test_self_labels_learn_at_a_rate_of_their_own():
    short = {**SMALL, "epochs": 2, "threshold": 0.5, "random_state": 0}
    before = SCAN(10, **{**short, "self_label_epochs": 0}).fit(X[:400]).network_
    moved = []
    for rate in (1e-12, 1e-4, 3e-3):
        after = SCAN(10, **short, self_label_lr=rate).fit(X[:400]).network_
        moved.append(float((after.heads.weight - before.heads.weight).abs().max()))
    assert moved[0] < 1e-6 < moved[1] < moved[2]


@pytest.mark.parametrize("channels", [1, 3])
def test_images_learn_their_features_first(channels):
    images = pictures(channels=channels)
    model = SCAN(2, **PICTURES, random_state=0).fit(images)
    phases = [epoch["phase"] for epoch in model.history_]
    assert phases == ["pretext"] * 2 + ["clustering"] * 2 + ["self-labelling"]
    mined = SCAN(2, **{**PICTURES, "epochs": 0, "self_label_epochs": 0}, random_state=0).fit(images).network_
    with torch.no_grad():
        codes = mined.eval().project(torch.from_numpy(images).float() / 255)
    torch.testing.assert_close(codes.norm(dim=1), torch.ones(40))
    assert torch.equal(mined.neighbors, neighbors_of(codes, 5, metric="cosine"))
    again = SCAN(2, **PICTURES, random_state=0).fit(torch.from_numpy(images))
    assert_same_bits(again.predict_proba(images), model.predict_proba(images))
    assert model.transform(images).shape == (40, len(model.get_feature_names_out()))
    with raises_sentence(InputError, "shape", f"({channels}, 12, 12)"):
        model.predict(images.reshape(40, -1))


def test_policies_change_what_is_learnt():
    images = pictures()
    plain = SCAN(2, **PICTURES, augment="none", strong="none", random_state=0).fit(images)
    changed = SCAN(2, **PICTURES, augment="none", strong="geometry", random_state=0).fit(images)
    contrast = [[epoch["terms"] for epoch in model.history_[:2]] for model in (plain, changed)]
    assert contrast[0] == contrast[1]  # the same pretext task
    assert plain.history_[2]["terms"] != changed.history_[2]["terms"]


@pytest.mark.parametrize(("bad", "error", "words"), [
    ({"neighbors": 0}, InputError, "neighbors"), ({"heads": 0}, InputError, "heads"),
    ({"dropout": 1}, InputError, "dropout"), ({"threshold": 1.0}, InputError, "threshold"),
    ({"entropy": -1}, InputError, "entropy"), ({"widths": ()}, InputError, "widths"),
    ({"lr": 0}, InputError, "lr"), ({"self_label_lr": 0}, InputError, "self_label_lr"),
    ({"metric": "l3"}, UnknownNameError, "metric")])  # fmt: skip
def test_bad_parameters_are_named(bad, error, words):
    with raises_sentence(error, words):
        SCAN(3, **{**SMALL, **bad}).fit(X[:50])


@pytest.mark.parametrize(("bad", "words"), [({"augment": "simclear"}, "policy"), ({"strong": 3}, "augment"),
                                            ({"backbone": "large"}, "backbone")])  # fmt: skip
def test_bad_parameters_of_images_are_named(bad, words):
    with raises_sentence(InputError, words):
        SCAN(2, **{**PICTURES, **bad}).fit(pictures())
