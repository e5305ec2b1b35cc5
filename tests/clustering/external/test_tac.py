"""TAC: both forms, what the text does for images that alone do not tell, names, resuming and storing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.clustering.deep import Training
from pyfast_mmcl.clustering.external.tac import TAC
from pyfast_mmcl.clustering.kmeans import KMeans
from pyfast_mmcl.clustering.saving import load_estimator, save_estimator
from pyfast_mmcl.clustering.text_bank import TextBank
from pyfast_mmcl.clustering.text_space import select_nouns
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from tests.check import assert_same_bits, raises_sentence

QUICK = {"neighbors": 10, "epochs": 20, "batch_size": 64, "n_init": 3, "lr": 5e-3, "random_state": 0}
FORMS = pytest.mark.parametrize("training_free", [True, False], ids=["training-free", "heads"])


def images_and_nouns(N: int = 240, K: int = 4, d: int = 24) -> tuple[np.ndarray, np.ndarray, TextBank]:
    """Images whose classes lie near each other beside a larger difference that is none of them (a style).

    The nouns lie along the classes and say nothing of styles, as words do not.
    """
    rng = np.random.default_rng(0)
    y, style = np.arange(N) % K, rng.integers(0, 4, N)
    axes = np.linalg.qr(rng.normal(size=(d, d)))[0]
    X = 1.0 * axes[y] + 1.3 * axes[K + style] + 0.06 * rng.normal(size=(N, d))
    nouns = np.concatenate([axes[k] + 0.15 * rng.normal(size=(12, d)) @ np.diag([0.3] * d) for k in range(K)])
    return X.astype(np.float32), y, TextBank(nouns, [f"{'abcd'[k]}{i}" for k in range(K) for i in range(12)])


@FORMS
def test_text_helps_where_images_alone_mislead(training_free):
    X, y, bank = images_and_nouns()
    alone = KMeans(4, spherical=True, n_init=10, random_state=0).fit(X)
    model = TAC(4, text_bank=bank, training_free=training_free, **QUICK).fit(X)
    assert clustering_accuracy(y, alone.labels_) < 0.7
    assert clustering_accuracy(y, model.labels_) > 0.95
    # Every cluster is named by the nouns of its class, and by those alone.
    classes = ["abcd"[np.bincount(y[model.labels_ == k]).argmax()] for k in range(4)]
    for name, found in zip(classes, model.cluster_names(top=2), strict=True):
        assert len(found) == 2 and all(noun.startswith(name) for noun in found)


def test_products_in_bfloat16_find_the_classes_too():
    X, y, bank = images_and_nouns()
    model = TAC(4, text_bank=bank, **QUICK, training=Training(precision="bf16")).fit(X)
    assert clustering_accuracy(y, model.labels_) > 0.95


def test_training_free_is_kmeans_of_images_beside_their_texts():
    X, _, bank = images_and_nouns()
    model = TAC(4, text_bank=bank, training_free=True, **QUICK).fit(X)
    v = F.normalize(torch.from_numpy(X), dim=1)
    nouns = bank.embeddings[torch.from_numpy(model.nouns_)]
    t = F.normalize((v @ nouns.T / 0.005).softmax(1) @ nouns, dim=1)
    codes = torch.from_numpy(model.transform(X))
    torch.testing.assert_close(codes, torch.cat([v, t], dim=1) / 2**0.5, rtol=0, atol=1e-6)
    centers = model.network_.centers.detach()
    np.testing.assert_array_equal((codes @ centers.T).argmax(1), model.labels_)
    means = torch.stack([codes[torch.from_numpy(model.labels_) == k].mean(0) for k in range(4)])
    torch.testing.assert_close(F.normalize(means, dim=1), centers, rtol=0, atol=1e-5)


def test_nouns_are_those_of_some_image_centers():
    X, _, bank = images_and_nouns()
    model = TAC(4, text_bank=bank, training_free=True, rows_per_center=30, nouns_per_center=2, **QUICK).fit(X)
    kept = model.network_.noun_index.view(8, 2)
    assert set(model.nouns_.tolist()) == set(kept[kept >= 0].tolist())
    assert len(model.nouns_) == len(set(model.nouns_.tolist())) > 4
    # The surest nouns of centres that k-means finds: the same call by hand on a centre of each pair of class and style.
    v = F.normalize(torch.from_numpy(X), dim=1)
    centers = F.normalize(torch.stack([v[i::16].mean(0) for i in range(16)]), dim=1)
    assert set(select_nouns(bank.embeddings, centers, 12).flatten().tolist()) - {-1} >= set(model.nouns_.tolist())


@FORMS
def test_a_stored_model_answers_and_names_with_the_same_bits(training_free, tmp_path):
    X, _, bank = images_and_nouns()
    model = TAC(4, text_bank=bank, training_free=training_free, **QUICK).fit(X)
    save_estimator(model, tmp_path / "model")
    again = load_estimator(tmp_path / "model")
    assert_same_bits(again.predict_proba(X), model.predict_proba(X))
    assert again.cluster_names() == model.cluster_names()
    assert again.text_bank.fingerprint == bank.fingerprint


def test_the_file_of_a_bank_will_do(tmp_path):
    X, _, bank = images_and_nouns()
    bank.save(tmp_path / "nouns.safetensors")
    by_file = TAC(4, text_bank=str(tmp_path / "nouns.safetensors"), **QUICK).fit(X)
    by_array = TAC(4, text_bank=bank.embeddings.numpy(), names=bank.names, **QUICK).fit(X)
    assert_same_bits(by_file.labels_, by_array.labels_)
    assert by_file.cluster_names(5) == by_array.cluster_names(5)


def test_other_texts_do_not_resume(tmp_path):
    X, _, bank = images_and_nouns(N=60)
    how = {"training": Training(checkpoint_dir=tmp_path, resume=True)}
    first = TAC(4, text_bank=bank, **QUICK, training=Training(checkpoint_dir=tmp_path)).fit(X)
    assert_same_bits(TAC(4, text_bank=bank.embeddings, names=bank.names, **QUICK, **how).fit(X).labels_, first.labels_)
    with raises_sentence(CheckpointError, "texts"):
        TAC(4, text_bank=TextBank(bank.embeddings.flip(0), bank.names), **QUICK, **how).fit(X)


def test_a_killed_training_free_run_starts_again(tmp_path):
    X, _, bank = images_and_nouns(N=60)
    how = {"text_bank": bank, "training_free": True, **QUICK}
    whole = TAC(4, **how).fit(X)
    for resume in (False, True):
        model = TAC(4, **how, training=Training(checkpoint_dir=tmp_path, resume=resume)).fit(X)
        assert_same_bits(model.predict_proba(X), whole.predict_proba(X))


def test_the_paper_s_settings_go_by_the_number_of_clusters():
    assert TAC()._how(100) == (0.5, 20, 512)
    assert TAC()._how(101) == (5.0, 100, 8192)
    assert TAC(contrast_temperature=1, epochs=0, batch_size=7)._how(101) == (1.0, 0, 7)


@FORMS
def test_fewer_nouns_than_names(training_free):
    X, _, _ = images_and_nouns(N=40)
    model = TAC(3, text_bank=np.eye(24)[:2], names=["cat", "dog"], training_free=training_free, **QUICK).fit(X)
    assert model.cluster_nouns_.shape == (3, 5)
    assert all(len(names) == 2 or not names for names in model.cluster_names(5))
    assert {name for names in model.cluster_names() for name in names} <= {"cat", "dog"}


def test_a_failed_fit_leaves_no_texts_behind():
    X, _, bank = images_and_nouns(N=60)
    model = TAC(4, text_bank=bank, **{**QUICK, "lr": 1e30})
    with pytest.raises(ValueError, match="diverged"):
        model.fit(X)
    other = TextBank(bank.embeddings.flip(0), bank.names[::-1])
    model.set_params(text_bank=other, lr=QUICK["lr"]).fit(X)
    assert_same_bits(model.labels_, TAC(4, text_bank=other, **QUICK).fit(X).labels_)


BAD = [
    ({"text_bank": None}, "embed_nouns"),
    ({"text_bank": np.eye(5)}, "24"),
    ({"names": ["cat"]}, "name"),
    ({"neighbors": 0}, "neighbors"),
    ({"temperature": 0}, "temperature"),
    ({"balance": -1}, "balance"),
    ({"width": 0}, "width"),
    ({"epochs": -1}, "epochs"),
    ({"batch_size": 0}, "batch_size"),
    ({"contrast_temperature": 0.0}, "contrast_temperature"),
    ({"training_free": 1}, "training_free"),
]


@pytest.mark.parametrize(("bad", "words"), BAD, ids=[next(iter(bad)) + " " + words for bad, words in BAD])
def test_bad_parameters_are_named(bad, words):
    X, _, _ = images_and_nouns(N=40)
    with raises_sentence(InputError, words):
        TAC(3, **{**QUICK, "text_bank": np.eye(24), **bad}).fit(X)
