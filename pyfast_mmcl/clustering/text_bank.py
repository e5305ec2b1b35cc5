"""`TextBank`: texts as embeddings beside those of images, made by the text tower of a CLIP or given, and kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from pyfast_mmcl._errors import InputError, whole_number
from pyfast_mmcl.clustering.inputs import read_rows
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.zero_shot import SEVERAL
from pyfast_mmcl.train.files import replace_file
from pyfast_mmcl.train.modes import evaluation_mode
from pyfast_mmcl.train.progress import ProgressBar

KIND = "pyfast_mmcl text bank 1"
_NORM_ERROR = 1e-6  # of unit rows in float32
_SAMPLE = 64  # names whose token ids say which tokenizer made them


@dataclass(frozen=True, eq=False)
class TextBank:
    """M texts as unit embeddings, float32 [M, d] on the CPU, each with its name.

    embeddings  [M, d], NumPy array or tensor of any floating kind; rows are divided by their norms
    names       M texts without line breaks; default their numbers
    key         what the embeddings were made of (``embed_nouns``), "" where that is not known

    A bank never changes: a copy of it, as scikit-learn's ``clone`` makes them, is the bank itself.

    Raises InputError for NaN, rows of zeros, another number of names.
    """

    embeddings: Tensor
    names: Sequence[str] = ()
    key: str = ""

    def __post_init__(self) -> None:
        rows = read_rows(self.embeddings)
        if not rows.nonzero.all():
            raise InputError(
                f"text bank: row {int(rows.nonzero.argmin())} is all zeros, which has no direction; leave it out."
            )
        x, unit = (torch.cat([part for _, part in table.blocks()]).float() for table in (rows, rows.unit()))
        # What is of norm 1 stays as it is, so that a bank that is saved and read again has the same bits.
        near = (x.double().norm(dim=1, keepdim=True) - 1).abs() < _NORM_ERROR
        names = tuple(self.names) or tuple(map(str, range(len(x))))
        if len(names) != len(x):
            raise InputError(f"text bank: expected a name for each of {len(x)} embeddings, got {len(names)}.")
        if not all(isinstance(name, str) and "\n" not in name for name in names):
            raise InputError("text bank: names must be strings of one line each.")
        object.__setattr__(self, "embeddings", torch.where(near, x, unit).cpu())
        object.__setattr__(self, "names", names)

    def __len__(self) -> int:
        return len(self.embeddings)

    def __repr__(self) -> str:
        return f"TextBank({len(self)} texts, {self.embeddings.shape[1]} features)"

    def __deepcopy__(self, memo: Any) -> TextBank:
        return self

    @cached_property
    def fingerprint(self) -> str:
        """A hash of names and embeddings."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        digest.update(self.embeddings.numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | Path) -> None:
        """Write the bank to a .safetensors file, whole or not at all."""
        names = torch.from_numpy(np.frombuffer("\n".join(self.names).encode(), dtype=np.uint8).copy())
        tensors = {"embeddings": self.embeddings.contiguous(), "names": names}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda new: save_file(tensors, new, metadata={"kind": KIND, "key": self.key}))

    @classmethod
    def load(cls, path: str | Path) -> TextBank:
        """The bank that ``save`` wrote. Raises InputError for a missing, damaged or foreign file."""
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                if about.get("kind") != KIND:
                    raise InputError(f"{path} is no text bank; write one with TextBank.save.")
                names = file.get_tensor("names").numpy().tobytes().decode()
                return cls(file.get_tensor("embeddings"), names.split("\n"), key=about.get("key", ""))
        except FileNotFoundError as error:
            raise InputError(f"{path} does not exist; write a text bank there with TextBank.save.") from error
        except (OSError, SafetensorError, UnicodeDecodeError) as error:
            raise InputError(f"{path} cannot be read as a text bank ({error}); delete it and make it anew.") from error


def read_bank(text_bank: Any, names: Sequence[str] | None, features: int) -> TextBank:
    """The bank that an estimator was given, for image embeddings of ``features`` numbers.

    text_bank: a TextBank, the path of a saved one, embeddings [M, d] that ``names`` belong to, or a function
    ``features → one of these``. Raises InputError for none, or one of another width.
    """
    if text_bank is None:
        raise InputError(
            "text_bank: expected texts to cluster with, got None; make one with "
            "embed_nouns(clip, noun_names(read_synsets(path))), or give text embeddings [M, d] and their names."
        )
    if callable(text_bank):
        text_bank = text_bank(features)
    if isinstance(text_bank, str | Path):
        text_bank = TextBank.load(text_bank)
    if isinstance(text_bank, list | tuple) and any(isinstance(text, str) for text in text_bank):
        raise InputError(
            "text_bank: expected a bank or embeddings [M, d], got texts; embed them with the text tower of the images' "
            "CLIP: embed_nouns(clip, texts)."
        )
    if not isinstance(text_bank, TextBank):
        text_bank = TextBank(text_bank, names or ())
    width = text_bank.embeddings.shape[1]
    if width != features:
        raise InputError(
            f"text_bank: expected embeddings of {features} features like those of the images, got {width}; embed "
            "images and texts with the two towers of one CLIP."
        )
    return text_bank


def embed_nouns(
    clip: nn.Module,
    names: Sequence[str],
    *,
    templates: Sequence[str] = SEVERAL,
    tokenizer: Callable[[list[str]], Tensor] | None = None,
    batch_size: int = 256,
    device: str | torch.device | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> TextBank:
    """The bank of ``names`` by the text tower of an open_clip model: the mean of each in several sentences.

    ``t[i] = unit(mean over templates of unit(encode_text(template.format(names[i]))))``

    clip        an open_clip model or a ClipModel; it is moved to ``device`` (default: stays) and keeps its modes
    templates   sentences with {} in the place of the name (Radford et al. 2021, §3.1.4, average prompts so)
    tokenizer   ``texts → ids``, for models whose vocabulary is not CLIP's
    batch_size  names encoded at once
    cache_dir   folder where the bank is kept as safetensors, under a hash of weights, names and sentences, so that it
                is made once

    Raises InputError for no names, sentences without {}, or a damaged file in ``cache_dir``.
    """
    whole_number("batch_size", batch_size)
    names, model = list(names), clip if isinstance(clip, ClipModel) else ClipModel(clip)
    if device is not None:
        model.to(device)

    def classes(some: list[str]) -> ClipModel:
        return ClipModel.with_classes(model.clip, some, templates=templates, tokenizer=tokenizer)

    key = _key(model, names, list(templates), classes(names[:_SAMPLE]))
    file = None if cache_dir is None else Path(cache_dir) / f"nouns-{key[:24]}.safetensors"
    if file is not None and file.is_file():
        return _cached(file, key)
    parts = [names[i : i + batch_size] for i in range(0, len(names), batch_size)]
    found: list[Tensor] = []
    with ProgressBar(len(parts), enabled=progress) as bar, evaluation_mode(model), torch.no_grad():
        bar.describe("texts")
        for part in parts:
            tokens = classes(part).class_tokens.to(next(model.text_parameters()).device)
            each = model.text_features(tokens.flatten(0, 1)).unflatten(0, tokens.shape[:2])
            found.append(normalize(each.float().mean(1), dim=1).cpu())
            bar.advance(dict)
    bank = TextBank(torch.cat(found), names, key=key)
    if file is not None:
        bank.save(file)
    return bank


def _cached(file: Path, key: str) -> TextBank:
    bank = TextBank.load(file)
    if bank.key != key:
        raise InputError(f"{file} holds another bank than its name says; delete it, so that it is made anew.")
    return bank


def _key(model: ClipModel, names: list[str], templates: list[str], sample: ClipModel) -> str:
    digest = hashlib.sha256(repr((names, templates)).encode())
    assert sample.class_tokens is not None
    digest.update(sample.class_tokens.cpu().numpy().tobytes())
    for p in model.text_parameters():
        digest.update(repr((tuple(p.shape), p.dtype)).encode())
        digest.update(p.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
