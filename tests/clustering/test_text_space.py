"""Which nouns stay, by hand; how many centres; names of clusters."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import text_space
from pyfast_mmcl.clustering.text_bank import TextBank
from pyfast_mmcl.clustering.text_space import cluster_means, n_image_centers, name_clusters, select_nouns
from tests.check import raises_sentence


def angles(*degrees):
    turns = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([turns.cos(), turns.sin()], dim=1)


@pytest.mark.parametrize(
    ("N", "K", "expected"),
    [(50_000, 10, 167), (50_000, 20, 167), (5_000, 10, 17), (13_000, 10, 43), (19_500, 15, 65), (3_760, 47, 141),
     (9_537, 101, 303), (1_281_167, 1000, 4271), (20, 3, 9), (5, 3, 5), (1, 1, 1)],
)  # fmt: skip
def test_number_of_centers_is_that_of_the_paper(N, K, expected):
    """CIFAR-10 and -20, STL-10, ImageNet-10, -Dogs, DTD, UCF-101, ImageNet-1K; then sets too small for it."""
    assert n_image_centers(N, K) == expected


def test_nouns_by_hand():
    """Two centres at 0° and 90°. A text's probability grows with the difference of its cosines to them."""
    texts = angles(0, 44, -45, 91, 200, 46, 135)
    # To 0°: 0, 44 and −45. At 90°: 91, 46, 135 and 200. cos 200° − sin 200° = −0.6 still prefers the second.
    chosen = select_nouns(texts, angles(0, 90), 2)
    difference = texts @ (angles(0)[0] - angles(90)[0])
    assert [round(float(d), 2) for d in difference] == [1.0, 0.02, 1.41, -1.02, -0.6, -0.02, -1.41]
    assert chosen.tolist() == [[2, 0], [6, 3]]
    assert select_nouns(texts, angles(0, 90), 4).tolist() == [[2, 0, 1, -1], [6, 3, 4, 5]]


def test_nouns_are_those_of_the_formula(monkeypatch):
    texts, centers = (F.normalize(torch.randn(n, 6, dtype=torch.float64), dim=1) for n in (97, 9))
    kept = {k: [] for k in range(9)}
    for i, text in enumerate(texts):
        weights = [math.exp(float(text @ center)) for center in centers]
        best = max(range(9), key=weights.__getitem__)
        kept[best].append((-weights[best] / sum(weights), i))
    expected = [[i for _, i in sorted(kept[k])[:5]] for k in range(9)]
    expected = [row + [-1] * (5 - len(row)) for row in expected]
    assert select_nouns(texts, centers).tolist() == expected
    monkeypatch.setattr(text_space, "_BLOCK", 30)
    assert select_nouns(texts, centers).tolist() == expected


def test_equal_nouns_go_by_their_number():
    assert select_nouns(angles(10, 10, 10, 10), angles(0, 90), 3).tolist() == [[0, 1, 2], [-1, -1, -1]]
    assert select_nouns(angles(10), angles(0), 1).tolist() == [[0]]


def test_means_of_clusters():
    x = F.normalize(torch.randn(17, 4, dtype=torch.float64), dim=1)
    labels = torch.arange(17) % 3 * 2
    means = cluster_means(x, labels, 6)
    for k in range(6):
        inside = x[labels == k]
        expected = F.normalize(inside.mean(0), dim=0) if len(inside) else torch.zeros(4, dtype=torch.float64)
        torch.testing.assert_close(means[k], expected)


def test_names_tell_clusters_apart():
    """A word that fits every cluster names none of them before the words that fit one."""
    X = np.concatenate([np.eye(4)[k] + 0.1 * np.random.default_rng(k).normal(size=(10, 4)) for k in (0, 1, 3)])
    labels = np.repeat([0, 1, 3], 10)
    bank = TextBank(np.concatenate([np.eye(4), np.ones((1, 4))]), ["cat", "dog", "car", "tree", "thing"])
    names = name_clusters(X, labels, bank, top=1)
    assert names == [["cat"], ["dog"], [], ["tree"]]
    assert name_clusters(torch.from_numpy(X), torch.from_numpy(labels), bank, top=1) == names
    assert name_clusters(X, labels, bank.embeddings, bank.names, top=1) == names
    out = np.where(np.arange(30) < 10, -1, labels)
    assert name_clusters(X, out, bank, top=1) == [[], ["dog"], [], ["tree"]]


def test_bad_names_are_named():
    bank = TextBank(np.eye(4))
    with raises_sentence(InputError, "labels", "3 rows"):
        name_clusters(np.ones((3, 4)), [0, 1], bank)
    with raises_sentence(InputError, "labels"):
        name_clusters(np.ones((3, 4)), [-1, -1, -1], bank)
    with raises_sentence(InputError, "text_bank", "5"):
        name_clusters(np.ones((3, 5)), [0, 0, 0], bank)
    with raises_sentence(InputError, "top"):
        name_clusters(np.ones((3, 4)), [0, 0, 0], bank, top=0)
