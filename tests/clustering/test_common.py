"""One battery over every registered clustering estimator.

An estimator joins by being registered; what it needs to be quick here goes into ``QUICK``.
"""

import copy
import inspect
import pickle
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.clustering import inputs
from pyfast_mmcl.clustering.base import Estimator
from pyfast_mmcl.clustering.deep import DeepEstimator, Training
from pyfast_mmcl.clustering.saving import load_estimator, save_estimator
from pyfast_mmcl.train import engine
from pyfast_mmcl.train.checkpoint import save_checkpoint
from pyfast_mmcl.train.registry import estimators, get_estimator
from tests.check import assert_same_bits, assert_same_partition, raises_sentence
from tests.clustering.images import SHADES, as_images, bad_images, tiny_encoder


@dataclass(frozen=True)
class Texts:
    """Embeddings of M texts in any directions, of as many features as the rows have."""

    M: int

    def __call__(self, features: int) -> np.ndarray:
        return np.random.default_rng(0).normal(size=(self.M, features))


NAMES = sorted(estimators())
QUICK: dict[str, dict] = {
    "kmeans": {"max_iter": 20},
    "mini_batch_kmeans": {"max_iter": 20, "batch_size": 256},
    "balanced_kmeans": {"max_iter": 20},
    "constrained_kmeans": {"max_iter": 20},
    "abdc": {"widths": (16,), "code": 4, "pretrain_epochs": 10, "epochs": 4, "batch_size": 32, "n_init": 2},
    "den": {"widths": (16,), "pretrain_epochs": 8, "epochs": 4, "batch_size": 32, "n_init": 2, "neighbors": 5},
    "jule": {"widths": (32,), "code": 16, "epochs": 1, "batch_size": 32, "neighbors": 10, "lr": 1e-3},
    "party": {"widths": (16,), "code": 4, "epochs": 4, "batch_size": 32, "n_init": 2, "candidates": 5},
    "spectral_net": {"widths": (32,), "epochs": 15, "batch_size": 64, "n_init": 2, "neighbors": 5, "lr": 0.01},
    "iic": {"backbone": tiny_encoder, "augment": SHADES, "epochs": 8, "batch_size": 16, "lr": 0.01},
    "cc": {"backbone": tiny_encoder, "augment": SHADES, "projection": 8, "epochs": 12, "batch_size": 32, "lr": 0.005},
    "imsat": {"widths": (32,), "epochs": 12, "batch_size": 32},
    "rim": {"epochs": 10, "batch_size": 32},
    "vade": {"widths": (16,), "code": 4, "pretrain_epochs": 10, "epochs": 4, "batch_size": 32},
    "cluster_gan": {
        "widths": (32,),
        "latent": 4,
        "critic_steps": 2,
        "epochs": 3,
        "batch_size": 48,
        "n_init": 2,
        "lr": 0.003,
    },
    "dec": {"widths": (16,), "code": 4, "pretrain_epochs": 10, "epochs": 4, "batch_size": 32, "n_init": 2},
    "scan": {
        "widths": (32,),
        "heads": 2,
        "neighbors": 5,
        "epochs": 10,
        "batch_size": 64,
        "self_label_epochs": 2,
        "lr": 0.02,
    },
    "tac": {
        "text_bank": Texts(40),
        "width": 32,
        "neighbors": 5,
        "epochs": 12,
        "batch_size": 32,
        "n_init": 2,
        "lr": 0.01,
    },
}
# Estimators that learn a network: rows are compared on fewer and smaller sets, and a cluster may be lost on the way.
DEEP = [name for name in NAMES if issubclass(get_estimator(name).target, DeepEstimator)]

# Estimators of images [N, C, H, W]: rows become images that look like them.
IMAGES = [name for name in DEEP if get_estimator(name).target.takes_images]

# Estimators that share equal rows out among clusters, because the sizes of these are given.
GIVEN_SIZES = ["balanced_kmeans"]

# Checks of scikit-learn that are not for us, and why.
_CLASSIFIER = "takes whatever has predict_proba and sparse rows for a classifier; see test_sparse_rows"
NOT_FOR_US = {
    "check_estimator_sparse_array": _CLASSIFIER,
    "check_estimator_sparse_matrix": _CLASSIFIER,
    "check_dtype_object": "wants a TypeError for rows of dicts; every bad input here is an InputError (a ValueError)",
}


def make(name: str, n_clusters: int, **parameters):
    return get_estimator(name).target(n_clusters=n_clusters, **{"random_state": 0, **QUICK[name], **parameters})


def blobs(N: int = 120, K: int = 3, D: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Groups ten standard deviations apart, in shuffled order."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(N) % K)
    centers = 10 * np.eye(K, D)
    return (centers[y] + rng.normal(scale=0.5, size=(N, D))).astype(np.float32), y


def input_of(name: str, X: np.ndarray) -> np.ndarray:
    """The rows as this estimator takes them."""
    return as_images(X) if name in IMAGES else X


def black_and_white(X: np.ndarray) -> np.ndarray:
    """Rows as images of zeros and ones, which every kind of number holds."""
    return (as_images(X) > 0.6).astype(np.float32)


def rows_for(name: str, N: int) -> int:
    """Fewer rows for estimators that train a network."""
    return N // 10 if name in DEEP else N


def noise(N: int = 1000, D: int = 17, seed: int = 0) -> np.ndarray:
    """No structure at all: the slightest difference in arithmetic shows in the labels."""
    return np.random.default_rng(seed).normal(size=(N, D)).astype(np.float32)


def as_array(value) -> np.ndarray:
    return value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


def fitted_state(model) -> dict[str, np.ndarray]:
    state = {name: v for name, v in vars(model).items() if name.endswith("_") and not name.startswith("_")}
    network, history = state.pop("network_", None), state.pop("history_", [])
    if network is not None:
        state |= {f"network_.{name}": x for name, x in network.state_dict().items()}
        state["history_"] = [value for epoch in history for value in epoch["terms"].values()]
    return {name: as_array(v) for name, v in state.items()}


def assert_same_state(a, b) -> None:
    a, b = fitted_state(a), fitted_state(b)
    assert a.keys() == b.keys()
    for name in a:
        assert_same_bits(a[name], b[name])


@pytest.fixture(params=NAMES)
def name(request) -> str:
    return request.param


def test_every_estimator_is_in_the_battery():
    assert set(QUICK) == set(NAMES)


def not_for_us(estimator) -> dict[str, str]:
    sparse = isinstance(estimator, DeepEstimator)
    return {check: why for check, why in NOT_FOR_US.items() if sparse or why != _CLASSIFIER}


def scikit_learn_checks():
    return parametrize_with_checks(
        [make(name, 8) for name in QUICK if name not in IMAGES],  # its checks make rows of two dimensions only
        expected_failed_checks=not_for_us,
    )


@scikit_learn_checks()
def test_scikit_learn(estimator, check):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        check(estimator)


def test_is_an_estimator_of_ours(name):
    assert issubclass(get_estimator(name).target, Estimator)


def test_constructor_only_stores(name):
    target = get_estimator(name).target
    parameters = [p for p in inspect.signature(target).parameters if p != "self"]
    values = {p: object() for p in parameters}
    model = target(**values)
    assert vars(model) == values
    assert all(vars(model)[p] is values[p] for p in parameters)


def test_clone_and_parameters(name):
    model = make(name, 3).fit(input_of(name, blobs()[0]))
    fresh = clone(model)
    assert fresh.get_params() == model.get_params()
    assert not fitted_state(fresh)
    assert fresh.set_params(n_clusters=4).get_params()["n_clusters"] == 4
    with pytest.raises(ValueError, match="Invalid parameter"):
        fresh.set_params(n_cluster=4)


def test_solves_known_structure(name):
    X, y = blobs()
    X = input_of(name, X)
    model = make(name, 3)
    assert model.fit(X) is model
    assert model.labels_.dtype == np.int64
    assert_same_partition(model.labels_, y)
    np.testing.assert_array_equal(model.labels_, make(name, 3).fit_predict(X))


def test_number_of_clusters_can_be_found(name):
    X, y = blobs(N=60)
    X = input_of(name, X)
    model = make(name, "auto").fit(X)
    assert model.n_clusters_ == 3 and model.get_params()["n_clusters"] == "auto"
    assert make(name, 4).fit(X).n_clusters_ == 4
    if name not in DEEP:
        assert_same_partition(model.labels_, y)


def test_refit_forgets(name):
    X1, X2 = (input_of(name, x) for x in (blobs()[0], blobs(N=90, K=4, D=10, seed=1)[0]))
    assert_same_state(make(name, 3).fit(X1).fit(X2), make(name, 3).fit(X2))


def test_input_is_left_alone(name):
    X = input_of(name, blobs()[0])
    X.flags.writeable = False
    before = X.copy()
    make(name, 3).fit(X)
    np.testing.assert_array_equal(X, before)


def test_torch_in_torch_out(name):
    X = input_of(name, blobs()[0])
    by_array, by_tensor = make(name, 3).fit(X), make(name, 3).fit(torch.from_numpy(X))
    assert isinstance(by_tensor.labels_, torch.Tensor) and isinstance(by_array.labels_, np.ndarray)
    assert_same_state(by_array, by_tensor)
    if hasattr(by_array, "predict"):
        assert_same_bits(by_array.predict(X), by_tensor.predict(torch.from_numpy(X)))
        assert isinstance(by_array.predict(torch.from_numpy(X)), torch.Tensor)
        assert isinstance(by_tensor.predict(X), np.ndarray)


@pytest.mark.gpu
def test_gpu_tensors(name):
    X = torch.from_numpy(input_of(name, blobs()[0]))
    model = make(name, 3).fit(X.cuda())
    assert model.labels_.is_cuda
    assert_same_partition(model.labels_, make(name, 3).fit(X).labels_)


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.int32, np.uint16, ">f4", "list", "strided"])
def test_kinds_of_numbers(name, kind):
    X = np.round(blobs()[0])  # whole numbers, the same in every kind
    X = X - X.min() if name not in IMAGES else black_and_white(X)
    if kind == "list" and name in IMAGES:
        pytest.skip(f"{name} takes no lists for images; see test_bad_images_are_named")
    if kind == "list":
        other = X.tolist()
    elif kind == "strided":
        other = np.repeat(X, 2, axis=-1)[::-1, ..., ::2][::-1]
    else:
        other = X.astype(kind)
    np.testing.assert_array_equal(make(name, 3).fit(other).labels_, make(name, 3).fit(X).labels_)


def test_one_cluster(name):
    assert set(make(name, 1).fit(input_of(name, blobs(N=20)[0])).labels_) == {0}


def test_as_many_clusters_as_rows(name):
    if name in DEEP:
        pytest.skip(f"{name} may place two rows alike: its codes are learnt")
    X = 100 * noise(N=12, D=3)
    assert sorted(make(name, 12).fit(X).labels_) == list(range(12))


def test_fewer_distinct_rows_than_clusters(name):
    if name in GIVEN_SIZES:
        pytest.skip(f"{name} shares equal rows out; see test_sizes")
    points = np.array([[0, 0], [5, 0], [0, 5]], dtype=np.float32)
    X = input_of(name, np.repeat(points, 10, axis=0))
    with pytest.warns(ConvergenceWarning, match="distinct clusters \\(3\\) found smaller than n_clusters \\(5\\)"):
        # Thirty images are one or two steps of an epoch.
        model = make(name, 5, **({"epochs": 60} if name in IMAGES else {})).fit(X)
    assert_same_partition(model.labels_, np.repeat([0, 1, 2], 10))


def test_all_rows_equal(name):
    if name in GIVEN_SIZES:
        pytest.skip(f"{name} shares equal rows out; see test_sizes")
    with pytest.warns(ConvergenceWarning):
        model = make(name, 3).fit(input_of(name, np.ones((10, 4))))
    assert len(set(model.labels_)) == 1
    assert all(np.isfinite(value).all() for value in fitted_state(model).values())


def test_no_cluster_ends_empty_when_one_starts_empty(name):
    if "init" not in inspect.signature(get_estimator(name).target).parameters:
        pytest.skip(f"{name} takes no given centres, so none can start empty")
    X, y = blobs()
    start = np.stack([X[y == 0][0], X[y == 1][0], np.full(8, 1e4, dtype=np.float32)])
    assert_same_partition(make(name, 3, init=start).fit(X).labels_, y)


def test_order_of_rows_and_seed_only_rename(name):
    X, y = blobs(seed=3)
    X = input_of(name, X)
    order = np.random.default_rng(1).permutation(len(X))
    assert_same_partition(make(name, 3).fit(X[order]).labels_, y[order])
    assert_same_partition(make(name, 3, random_state=7).fit(X).labels_, y)


@pytest.mark.parametrize("seed", [0, np.int64(5)])
def test_same_seed_same_bits(name, seed):
    X = input_of(name, noise(rows_for(name, 1000)))
    assert_same_state(make(name, 20, random_state=seed).fit(X), make(name, 20, random_state=seed).fit(X))


def test_generators_as_random_state(name):
    X = input_of(name, noise(N=300))
    for fresh in (np.random.default_rng, np.random.RandomState):
        assert_same_state(make(name, 20, random_state=fresh(3)).fit(X), make(name, 20, random_state=fresh(3)).fit(X))


def test_global_generators_are_not_touched(name):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    make(name, 3, random_state=None).fit(input_of(name, blobs()[0]))
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("shape", [(4000, 17), (5000, 1)])
def test_number_of_threads_does_not_matter(name, shape):
    X = input_of(name, noise(rows_for(name, shape[0]), shape[1]))
    models = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        models.append(make(name, 20).fit(X))
    assert_same_state(*models)


def test_pickle_and_copy(name):
    X = input_of(name, blobs()[0])
    model = make(name, 3)
    assert pickle.loads(pickle.dumps(model)).get_params() == model.get_params()
    model.fit(X)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert_same_state(model, twin)
        if hasattr(model, "predict"):
            assert_same_bits(model.predict(X), twin.predict(X))


def test_save_and_load(name, tmp_path):
    X = input_of(name, blobs()[0])
    model = make(name, 3).fit(X)
    save_estimator(model, tmp_path)
    given = {p: value for p, value in model.get_params().items() if callable(value)}
    before = torch.get_rng_state()
    twin = load_estimator(tmp_path, **given)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(twin) is type(model) and repr(twin.get_params()) == repr(model.get_params())
    assert_same_state(model, twin)
    new = X[::-1][:17] * np.float32(0.9)
    for answer in ("predict", "predict_proba", "transform"):
        if hasattr(model, answer):
            assert_same_bits(getattr(model, answer)(new), getattr(twin, answer)(new))
    assert_same_state(model, twin.fit(X))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i2"])
def test_memory_map(name, dtype, tmp_path, monkeypatch):
    X = 100 * noise(rows_for(name, 1000))
    if name in IMAGES:
        # Images of whole numbers are bytes.
        X = (255 * as_images(X)).astype("u1") if dtype == "i2" else as_images(X)
    X = X.astype(dtype if X.dtype != np.uint8 else "u1")
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = make(name, 20).fit(X)
    one_block = make(name, 20).fit(mapped)
    assert_same_state(whole, one_block)
    monkeypatch.setattr(inputs, "_BLOCK_BYTES", 8 * X.shape[1] * 129)
    in_blocks = make(name, 20).fit(mapped)
    np.testing.assert_array_equal(whole.labels_, in_blocks.labels_)


def test_sparse_rows(name):
    X = blobs()[0]
    X[X < 1] = 0
    if name in IMAGES:
        with raises_sentence(InputError, "sparse", "images"):
            make(name, 3).fit(csr_array(X))
        return
    if name not in DEEP:
        with raises_sentence(InputError, "sparse", "toarray"):
            make(name, 3).fit(csr_array(X))
        return
    dense, sparse = make(name, 3).fit(X), make(name, 3).fit(csr_array(X))
    assert_same_state(dense, sparse)
    np.testing.assert_array_equal(dense.predict(X[:7]), sparse.predict(csr_array(X[:7])))


@pytest.mark.parametrize("deep", DEEP)
def test_soft_assignments(deep):
    X = input_of(deep, blobs()[0])
    model = make(deep, 3).fit(X)
    soft = model.predict_proba(X)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(soft.argmax(1), model.predict(X))
    np.testing.assert_array_equal(model.predict(X), model.labels_)
    assert model.transform(X).shape == (len(X), len(model.get_feature_names_out()))


@pytest.mark.parametrize("deep", DEEP)
def test_batches_may_hold_fewer_rows_than_there_are_clusters(deep):
    X = input_of(deep, blobs(N=43, K=6)[0])  # the last batch is short as well
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = make(deep, 6, batch_size=5, epochs=2).fit(X)
    assert set(model.labels_) <= set(range(6))
    assert all(np.isfinite(value) for epoch in model.history_ for value in epoch["terms"].values())
    assert all(bool(torch.isfinite(weights).all()) for weights in model.network_.parameters())


@pytest.mark.parametrize("deep", DEEP)
def test_a_training_that_was_killed_goes_on_to_the_same_bits(deep, tmp_path, monkeypatch):
    X = input_of(deep, blobs(N=60)[0])
    whole = make(deep, 3).fit(X)
    saves = []

    def save(folder, state):
        saves.append(state)
        save_checkpoint(folder, state)
        if len(saves) == stop:
            raise KeyboardInterrupt

    monkeypatch.setattr(engine, "save_checkpoint", save)
    stop = 0
    make(deep, 3, training=Training(checkpoint_dir=tmp_path / "whole", checkpoint_every=1)).fit(X)
    places = np.random.default_rng(0).choice(len(saves) - 1, size=2, replace=False) + 1
    for stop in places:
        saves.clear()
        folder = tmp_path / str(stop)
        how = {"checkpoint_dir": folder, "checkpoint_every": 1}
        with pytest.raises(KeyboardInterrupt):
            make(deep, 3, training=Training(**how)).fit(X)
        stop = 0
        assert_same_state(whole, make(deep, 3, training=Training(**how, resume=True)).fit(X))
    with raises_sentence(CheckpointError, "another training", "parameters"):
        make(deep, 2, training=Training(**how, resume=True)).fit(X)
    with raises_sentence(InputError, "earlier run", "resume"):
        make(deep, 3, training=Training(**how)).fit(X)


def test_rows_are_predicted_independently(name):
    model = make(name, 8).fit(input_of(name, noise(100 if name in IMAGES else 1000).astype(np.float64)))
    if not hasattr(model, "predict"):
        pytest.skip(f"{name} predicts no new rows")
    new = input_of(name, np.concatenate([noise(N=30, seed=1), [[1e6] * 17]]).astype(np.float64))
    together = model.predict(new)
    assert [int(model.predict(row[None])[0]) for row in new] == together.tolist()


def bad(value):
    X = blobs(N=20)[0]
    X[7, 2] = value
    return X


BAD_X = [
    (bad(np.nan), "row 7"),
    (torch.from_numpy(bad(np.inf)), "row 7"),
    (np.zeros(5), "two-dimensional"),
    (np.zeros((2, 3, 4)), "two-dimensional"),
    (np.zeros((0, 4)), "empty"),
    (np.zeros((4, 0)), "0 feature(s)"),
    (np.zeros((9, 2), dtype=complex), "Complex"),
    (torch.zeros(9, 2, dtype=torch.complex64), "Complex"),
    ([["a", "b"]] * 9, "numbers"),
    ([[1.0, 2.0], [3.0]], "table"),
    (torch.zeros(9, 2).to_sparse(), "to_dense"),
    (np.full((9, 2), 1e200), "rescale"),
]


@pytest.mark.parametrize(("X", "words"), BAD_X, ids=[words for _, words in BAD_X])
def test_bad_rows_are_named(name, X, words):
    if name in IMAGES:
        pytest.skip(f"{name} takes images; see test_bad_images_are_named")
    with raises_sentence(InputError, words):
        make(name, 3).fit(X)


@pytest.mark.parametrize("images", IMAGES)
@pytest.mark.parametrize(("X", "words"), bad_images(), ids=[words for _, words in bad_images()])
def test_bad_images_are_named(images, X, words):
    with raises_sentence(InputError, words):
        make(images, 3).fit(X)


@pytest.mark.parametrize("images", IMAGES)
def test_bytes_are_parts_of_255(images):
    X = (255 * input_of(images, blobs()[0])).astype(np.uint8)
    by_bytes = make(images, 3).fit(X)
    assert_same_state(by_bytes, make(images, 3).fit(X.astype(np.float32) / 255))
    assert_same_bits(by_bytes.predict(X), by_bytes.predict(torch.from_numpy(X)).numpy())


@pytest.mark.parametrize("K", [0, -1, 2.0, True, "3", None])
def test_bad_number_of_clusters(name, K):
    with raises_sentence(InputError, "n_clusters", repr(K)):
        make(name, K).fit(input_of(name, blobs(N=20)[0]))


def test_more_clusters_than_rows(name):
    with raises_sentence(InputError, "n_clusters=21", "n_samples=20"):
        make(name, 21).fit(input_of(name, blobs(N=20)[0]))


@pytest.mark.parametrize("seed", [-1, "zero", 1.5])
def test_bad_random_state(name, seed):
    with raises_sentence(InputError, "random_state", repr(seed)):
        make(name, 3, random_state=seed).fit(input_of(name, blobs(N=20)[0]))


def test_unfitted_and_wrong_width(name):
    X = input_of(name, blobs(N=20)[0])
    model = make(name, 3)
    if not hasattr(model, "predict"):
        pytest.skip(f"{name} predicts no new rows")
    with pytest.raises(NotFittedError, match="not fitted"):
        model.predict(X)
    model.fit(X)
    words = ("(1, 4, 9)", "(1, 6, 6)") if name in IMAGES else ("5 features", "8")
    narrow = X.reshape(20, 1, 4, 9) if name in IMAGES else X[:, :5]
    for other in (narrow, torch.from_numpy(narrow.copy())):
        with raises_sentence(InputError, *words):
            model.predict(other)
