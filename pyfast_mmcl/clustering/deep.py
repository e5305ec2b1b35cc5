"""`DeepEstimator`: estimators that train a network, each a file of its own with a network, phases and assignments."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering.base import Estimator, check_n_clusters, generator, number_in, whole_number
from pyfast_mmcl.clustering.codes import DIVERGED
from pyfast_mmcl.clustering.samples import IMAGE_DIMS, Samples, read_samples
from pyfast_mmcl.clustering.shared import first_seed, together
from pyfast_mmcl.train.engine import Engine
from pyfast_mmcl.train.identity import flat, told
from pyfast_mmcl.train.isolate import choose_device, isolated, seed_torch
from pyfast_mmcl.train.phases import Phase
from pyfast_mmcl.train.terms import NonFiniteError

if TYPE_CHECKING:
    from accelerate import Accelerator

_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Training:
    """How a deep estimator trains, apart from what it learns.

    device          "cpu", "cuda:0", …; default: where a CUDA tensor X lies, else CUDA where there is one, else the CPU
    threads         CPU threads; the default 1 makes the numbers independent of the machine's cores, None keeps torch's
    precision       "no", or "bf16" for products in bfloat16
    checkpoint_dir  folder for checkpoints: after every epoch and every ``checkpoint_every`` steps
    resume          go on from the checkpoint there, if there is one; the result has the bits of an uninterrupted run
    progress        draw a progress bar when on a terminal
    accelerator     an accelerate.Accelerator of several processes, which are all given the same rows
    """

    device: str | None = None
    threads: int | None = 1
    precision: str = "no"
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None
    resume: bool = False
    progress: bool = False
    accelerator: Accelerator | None = None


class DeepEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator, ABC):
    """What deep estimators share: reading rows, training by phases, answering row by row.

    A subclass has the parameters ``n_clusters``, ``random_state`` and ``training`` beside its own, and says

    - ``_network(samples, K)``: the module that holds everything learnt, its weights drawn from torch's generator;
    - ``_phases(network, samples, K)``: how it is trained (``train.phases``);
    - ``_assign(network, x)``: soft assignments [b, K] of rows x [b, …], and ``_codes(network, x)``: their codes [b, d].

    ``takes_images``: rows are images [C, H, W]; None: what X is; False: vectors, into which images are flattened.
    Vectors are shifted to mean 0 and divided by one number, so that their variance is 1 on average over the features.

    Fitted: ``labels_`` int64 [N], ``network_``, ``history_`` (one entry per epoch: {"phase", "epoch", "steps",
    "terms"}), ``n_features_in_``. Equal seeds give equal bits on the CPU, after a resume too.
    """

    takes_images: bool | None = False
    least_rows = 1  # 2 where statistics of a batch, or a mixture of the codes, are needed
    n_clusters: Any
    random_state: Any
    training: Training | None

    @abstractmethod
    def _network(self, samples: Samples, K: int) -> nn.Module: ...

    @abstractmethod
    def _phases(self, network: Any, samples: Samples, K: int) -> list[Phase]: ...

    @abstractmethod
    def _assign(self, network: Any, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _codes(self, network: Any, x: Tensor) -> Tensor: ...

    def _scale(self, samples: Samples) -> tuple[Tensor, float] | None:
        """Shift and factor of the rows (``Samples.scaling``)."""
        return None if samples.is_image else samples.measure()

    def _keep(self, samples: Samples) -> None:
        """Set further fitted attributes."""

    def fit(self, X: Any, y: Any = None) -> Any:
        """Cluster the rows of X; ``y`` is ignored. A fit that fails or is stopped leaves the estimator as it was."""
        before = dict(vars(self))
        try:
            for name in [name for name in before if name.endswith("_")]:
                delattr(self, name)
            found = self._train(X)
        except BaseException:
            # An old network with the new rows' scaling would give answers, and wrong ones.
            self.__dict__ = before
            raise
        self._warn_empty(found, self.n_clusters_)
        return self

    def _train(self, X: Any) -> int:
        """Learn from X and set what is fitted; how many clusters have rows."""
        how, samples, rng, seed = self._begin(X)
        self._shape, self._scaling = samples.shape, self._scale(samples)
        samples.scaling = self._scaling
        K = self._count_clusters(samples, rng)
        with isolated(samples.device, how.threads):
            seed_torch(samples.device, seed)
            network = self._network(samples, K).to(samples.device)
        engine = Engine(
            network,
            seed=seed,
            device=samples.device,
            threads=how.threads,
            precision=how.precision,
            accelerator=how.accelerator,
            checkpoint_dir=how.checkpoint_dir,
            checkpoint_every=how.checkpoint_every,
            progress=how.progress,
            # It reads every row, which only a checkpoint is worth.
            identity=None if how.checkpoint_dir is None else self._identity(samples),
        )
        engine.run(self._phases(network, samples, K), resume=how.resume)
        self.network_, self.history_ = network.eval(), engine.history
        soft = self._collect(samples, self._assign)
        if not bool(torch.isfinite(soft).all()):
            raise NonFiniteError(DIVERGED)
        found = soft.argmax(1)
        self.labels_ = samples.give(found)
        self._keep(samples)
        return len(found.unique())

    def _begin(self, X: Any) -> tuple[Training, Samples, np.random.Generator, int]:
        """What the training starts from, checked: the same in all processes that share it."""

        def ready() -> tuple[Training, Samples, np.random.Generator, dict[str, Any]]:
            how, samples = self._training(), self._samples(X, reset=True)
            if how.resume and self.random_state is None:
                raise InputError("resume: a run whose random_state is None cannot be told from others; give a number.")
            if not isinstance(self.n_clusters, str):
                check_n_clusters(self.n_clusters, len(samples))
            if len(samples) < self.least_rows:
                raise InputError(
                    f"{name} needs at least {self.least_rows} rows, got n_samples={len(samples)}; pass more."
                )
            identity = {} if processes is None else flat(self._identity(samples))
            return how, samples, generator(self.random_state), identity

        name, accelerator = type(self).__name__, getattr(self.training, "accelerator", None)
        processes = "all" if accelerator is not None and accelerator.num_processes > 1 else None
        how, samples, rng, identity = together(ready, processes, {}, name)
        seed = int(rng.integers(_LARGEST_SEED))
        if processes is not None:
            together(lambda: None, processes, identity, name)
            if not isinstance(self.random_state, int | np.integer):
                # Every process has drawn a seed of its own.
                seed = first_seed(seed, processes)
                rng = np.random.default_rng(seed)
        return how, samples, rng, seed

    def predict(self, X: Any) -> Any:
        """Cluster of every row: int64 [N]."""
        samples = self._new_samples(X)
        return samples.give(self._collect(samples, self._assign).argmax(1))

    def predict_proba(self, X: Any) -> Any:
        """Soft assignments [N, K], rows that sum to 1."""
        samples = self._new_samples(X)
        return samples.give(self._collect(samples, self._assign))

    def transform(self, X: Any) -> Any:
        """Codes [N, d] that the rows are clustered by."""
        samples = self._new_samples(X)
        return samples.give(self._collect(samples, self._codes))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = not self.takes_images
        tags.transformer_tags.preserves_dtype = []  # codes are float32
        return tags

    @property
    def _n_features_out(self) -> int:
        return int(self._collect_one(self._codes).shape[1])

    def _demand(
        self,
        *,
        counts: Sequence[str] = (),
        batches: Sequence[str] = (),
        epochs: Sequence[str] = (),
        widths: Sequence[str] = (),
        above_zero: Sequence[str] = (),
        from_zero: Sequence[str] = (),
    ) -> None:
        """Raise InputError for a parameter that is not what its list says: whole from 1, whole from 2 (rows that batch
        normalisation takes statistics of), whole from 0, a sequence of whole numbers from 1, a number above 0, a number
        from 0."""
        for name in counts:
            whole_number(getattr(self, name), name)
        for name in batches:
            whole_number(getattr(self, name), name, least=2)
        for name in epochs:
            whole_number(getattr(self, name), name, least=0)
        for name in widths:
            found = getattr(self, name)
            if isinstance(found, str) or not isinstance(found, Sequence | np.ndarray):
                raise InputError(f"{name} must be a sequence of whole numbers such as (500, 500), got {found!r}.")
            for width in found:
                whole_number(width, name)
        for name in above_zero:
            number_in(getattr(self, name), name, above=True)
        for name in from_zero:
            number_in(getattr(self, name), name)

    def _training(self) -> Training:
        how = Training() if self.training is None else self.training
        if not isinstance(how, Training):
            raise InputError(f"training must be a Training or None, got {how!r}; pass Training(device=…, …).")
        if how.threads is not None:
            whole_number(how.threads, "threads")
        return how

    def _samples(self, X: Any, *, reset: bool) -> Samples:
        how = self._training()
        X = self._joined(X, reset=reset)
        on_gpu = isinstance(X, Tensor) and X.is_cuda and how.device is None
        device = X.device if on_gpu else choose_device(how.device)
        images = len(getattr(X, "shape", ())) == IMAGE_DIMS if self.takes_images is None else self.takes_images
        samples = read_samples(X, device, images=images)
        named = hasattr(X, "columns") or hasattr(X, "__dataframe__")
        try:
            validate_data(
                self,
                X if named else np.zeros((1, int(np.prod(samples.shape)))),
                reset=reset,
                skip_check_array=True,
            )
        except ValueError as error:
            raise InputError(str(error)) from error
        return samples

    def _new_samples(self, X: Any) -> Samples:
        check_is_fitted(self)
        samples = self._samples(X, reset=False)
        if samples.shape != self._shape:
            raise InputError(
                f"expected rows of shape {self._shape} as in fit, got {samples.shape}; give them that shape."
            )
        samples.scaling = self._scaling
        samples.device = next(self.network_.parameters()).device
        return samples

    def _collect(self, samples: Samples, what: Any) -> Tensor:
        """``what(network, x)`` of all rows, in order."""
        with isolated(samples.device, self._training().threads), torch.no_grad():
            return torch.cat([what(self.network_, x).float() for _, x in samples.blocks()])

    def _collect_one(self, what: Any) -> Tensor:
        device = next(self.network_.parameters()).device
        with torch.no_grad():
            return what(self.network_, torch.zeros(1, *self._shape, device=device))

    def _identity(self, samples: Samples) -> dict[str, Any]:
        """What a checkpoint must agree with: parameters and a hash of the rows."""
        own = {name: value for name, value in self.get_params(deep=False).items() if name != "training"}
        plain = {name: told(value) for name, value in own.items() if name != "random_state"}
        return {"estimator": type(self).__name__, "parameters": plain, "rows": samples.fingerprint()}

    def _warn_empty(self, found: int, K: int) -> None:
        if found < K:
            warnings.warn(
                f"Number of distinct clusters ({found}) found smaller than n_clusters ({K}): the others have lost "
                "their rows, or X has few different ones; train for more epochs, try another random_state, or ask for "
                "fewer.",
                ConvergenceWarning,
                stacklevel=3,
            )
