"""ClusterGAN: its latent rows, its two players, what it finds among blobs, images."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.distribution.cluster_gan import ClusterGAN, Network
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import assert_same_bits, raises_sentence

SMALL = {"widths": (32,), "latent": 4, "epochs": 2, "batch_size": 32, "n_init": 2}
PICTURES = {"filters": 4, "latent": 4, "epochs": 1, "batch_size": 16, "n_init": 2}


def rows(N: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Three groups in six dimensions."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    return (4 * np.eye(3, 6)[y] + 0.3 * rng.normal(size=(N, 6))).astype(np.float32), y


def test_latent_rows_are_small_noise_and_one_cluster():
    z, cluster = Network((6,), 30, 5, (8,), 4).draw(4000, torch.device("cpu"))
    assert z.shape == (4000, 35) and cluster.dtype == torch.int64
    assert float(z[:, :30].std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(z[:, 30:].argmax(1), cluster) and torch.equal(z[:, 30:].sum(1), torch.ones(4000))
    assert int(torch.bincount(cluster, minlength=5).min()) > 700


def test_codes_are_numbers_and_probabilities():
    network = Network((6,), 4, 3, (8,), 4)
    x = torch.randn(9, 6)
    numbers, scores = network.encode(x)
    torch.testing.assert_close(network.codes(x), torch.cat([numbers, scores.softmax(1)], 1))
    assert network.judge(x).shape == (9,)


def test_each_player_moves_its_own_weights():
    X, _ = rows()
    model = ClusterGAN(3, **SMALL, random_state=0).fit(X)
    terms = set(model.history_[-1]["terms"])
    assert terms == {"critic.distance", "critic.slope", "generator.deception", "generator.numbers", "generator.cluster"}
    still = ClusterGAN(3, **{**SMALL, "epochs": 0}, random_state=0).fit(X).network_
    last = "critic.2.bias"  # a critic's scores count by their differences alone
    for name, weight in model.network_.named_parameters():
        assert torch.equal(weight, still.get_parameter(name)) == (name == last), name
    # With no weight on what the encoder finds, it learns nothing, and the critic and generator still play.
    blind = ClusterGAN(3, **SMALL, beta_n=0, beta_c=0, random_state=0).fit(X).network_
    for name, weight in blind.named_parameters():
        assert torch.equal(weight, still.get_parameter(name)) == (name.startswith("encoder") or name == last), name


def test_the_critic_takes_its_steps(monkeypatch):
    from pyfast_mmcl.clustering.distribution import cluster_gan

    calls = {"real": 0, "made": 0}
    plain = cluster_gan.wasserstein, cluster_gan.mse_loss

    def count(name, function):
        def called(*values):
            calls[name] += 1
            return function(*values)

        return called

    monkeypatch.setattr(cluster_gan, "wasserstein", count("real", plain[0]))
    monkeypatch.setattr(cluster_gan, "mse_loss", count("made", plain[1]))
    ClusterGAN(3, **SMALL, critic_steps=4, random_state=0).fit(rows()[0])
    assert calls == {"real": 2 * 3 * 4, "made": 2 * 3}


def test_groups_are_generated_and_found():
    X, y = rows(192)
    scaled = torch.from_numpy((X - X.mean(0)) / np.sqrt(X.var(0).mean())).float()
    far, found = [], []
    for epochs in (0, 80):
        how = {**SMALL, "epochs": epochs, "lr": 2e-3, "critic_steps": 2}
        model = ClusterGAN(3, **how, random_state=0).fit(X)
        with torch.no_grad():
            z, cluster = model.network_.draw(300, torch.device("cpu"))
            made = model.network_.generator(z)
            found.append(float((model.network_.encode(made)[1].argmax(1) == cluster).float().mean()))
            far.append(float(torch.cdist(made, scaled).min(1).values.median()))
    assert clustering_accuracy(y, model.labels_) > 0.95
    assert clustering_accuracy(y, model.network_.encode(scaled)[1].argmax(1).numpy()) > 0.95
    # The encoder finds the cluster that a row was generated from, and generated rows lie near the rows.
    assert found[1] > 0.95 > found[0]
    assert far[1] < 0.7 * far[0]


def test_most_probable_clusters_need_no_centres():
    X, _ = rows()
    model = ClusterGAN(3, **SMALL, assignment="argmax", random_state=0).fit(X)
    np.testing.assert_array_equal(model.labels_, model.transform(X)[:, 4:].argmax(1))
    np.testing.assert_array_equal(model.predict_proba(X), model.transform(X)[:, 4:])
    assert not hasattr(model, "cluster_centers_")
    assert ClusterGAN(3, **SMALL, random_state=0).fit(X).cluster_centers_.shape == (3, 7)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 9)])
def test_images_are_convolved(shape):
    images = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(np.uint8)
    model = ClusterGAN(3, **PICTURES, random_state=0).fit(images)
    assert isinstance(model.network_.critic[0], torch.nn.Conv2d)
    again = ClusterGAN(3, **PICTURES, random_state=0).fit(torch.from_numpy(images))
    assert_same_bits(model.predict_proba(images), again.predict_proba(images))
    assert model.transform(images).shape == (40, 7)
    with raises_sentence(InputError, "shape"):
        model.predict(images.reshape(40, -1))


@pytest.mark.parametrize(("bad", "words"), [
    ({"latent": 0}, "latent"), ({"critic_steps": 0}, "critic_steps"), ({"assignment": "gmm"}, "assignment"),
    ({"beta_c": -1}, "beta_c"), ({"widths": (0,)}, "widths"), ({"filters": 0}, "filters")])  # fmt: skip
def test_bad_parameters_are_named(bad, words):
    with raises_sentence(InputError, words):
        ClusterGAN(3, **{**SMALL, **bad}).fit(rows()[0])


def test_tiny_images_are_named():
    with raises_sentence(InputError, "4 pixels"):
        ClusterGAN(2, **PICTURES).fit(np.zeros((9, 1, 3, 3)))
