"""Banks of texts: unit rows, files, copies, and the text tower of a CLIP behind them."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.clustering import text_bank
from pyfast_mmcl.clustering.text_bank import TextBank, embed_nouns, read_bank
from pyfast_mmcl.clustering.values import decode, encode
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.tiny_clip import clip_tokenizer
from tests.check import assert_same_bits, raises_sentence
from tests.models.small_clips import small_clip

NOUNS = ["dog", "guide dog", "red_car", "Zürich", "tree house"]
X = np.random.default_rng(0).normal(size=(5, 17))


@pytest.fixture
def clip():
    return small_clip()


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_rows_are_divided_by_their_norms(dtype):
    given = (1000 * X).astype(dtype)
    bank = TextBank(given, NOUNS)
    truth = F.normalize(torch.from_numpy(given.astype(np.float64)), dim=1)
    assert bank.embeddings.dtype == torch.float32 and len(bank) == 5
    torch.testing.assert_close(bank.embeddings.double(), truth, rtol=0, atol=1e-7)
    assert bank.names == tuple(NOUNS)
    assert TextBank(torch.from_numpy(given)).names == ("0", "1", "2", "3", "4")


def test_a_bank_in_a_file_is_the_bank(tmp_path):
    bank = TextBank(X, NOUNS, key="made of this")
    bank.save(tmp_path / "new" / "bank.safetensors")
    again = TextBank.load(tmp_path / "new" / "bank.safetensors")
    assert_same_bits(again.embeddings, bank.embeddings)
    assert (again.names, again.key, again.fingerprint) == (bank.names, bank.key, bank.fingerprint)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bank.safetensors"]
    assert TextBank(X, NOUNS[::-1]).fingerprint != bank.fingerprint != TextBank(X[::-1].copy(), NOUNS).fingerprint


def test_copies_are_the_bank_itself_and_stored_values_have_its_bits():
    bank = TextBank(X, NOUNS)
    assert copy.deepcopy(bank) is bank
    for again in (pickle.loads(pickle.dumps(bank)), decode(encode(bank, "bank"))):
        assert again.fingerprint == bank.fingerprint
    with pytest.raises(AttributeError):
        bank.names = ()
    assert repr(bank) == "TextBank(5 texts, 17 features)"


BAD = {
    "zeros": (lambda: TextBank(X * [[1], [0], [1], [1], [1]]), ["row 1", "zeros"]),
    "nan": (lambda: TextBank(np.where(np.arange(17) == 3, np.nan, X)), ["finite", "row 0"]),
    "one name too few": (lambda: TextBank(X, NOUNS[:4]), ["5", "4"]),
    "lines": (lambda: TextBank(X, [*NOUNS[:4], "a\nb"]), ["one line"]),
    "none": (lambda: read_bank(None, None, 17), ["text_bank", "embed_nouns"]),
    "texts": (lambda: read_bank(["cat", "dog"], None, 17), ["text_bank", "texts", "embed_nouns"]),
    "another width": (lambda: read_bank(X, NOUNS, 16), ["16", "17", "one CLIP"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_banks_are_named(kind):
    make, words = BAD[kind]
    with raises_sentence(InputError, *words):
        make()


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "bank.safetensors"
    with raises_sentence(InputError, "does not exist", "TextBank.save"):
        TextBank.load(path)
    TextBank(X).save(path)
    path.write_bytes(path.read_bytes()[:-8])
    with raises_sentence(InputError, "cannot be read", "anew"):
        TextBank.load(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(3)}, path)
    with raises_sentence(InputError, "no text bank"):
        TextBank.load(path)


def test_what_a_bank_is_read_from(tmp_path):
    bank = TextBank(X, NOUNS)
    bank.save(tmp_path / "bank.safetensors")
    assert read_bank(bank, None, 17) is bank
    for given in (X, torch.from_numpy(X), tmp_path / "bank.safetensors", str(tmp_path / "bank.safetensors")):
        assert read_bank(given, NOUNS, 17).fingerprint == bank.fingerprint
    assert read_bank(lambda features: TextBank(X[:, :features]), None, 9).embeddings.shape == (5, 9)


def test_nouns_are_the_mean_of_their_sentences(clip):
    """The formula in float64 on open_clip's own text tower; blocks of names decide nothing."""
    templates, tokens = ("a photo of a {}.", "the {}"), clip_tokenizer(16)
    wide, expected = copy.deepcopy(clip).double(), []
    for noun in NOUNS:
        texts = tokens([template.format(noun.replace("_", " ")) for template in templates])
        with torch.no_grad():
            expected.append(F.normalize(F.normalize(wide.encode_text(texts), dim=1).mean(0), dim=0))
    for batch_size in (1, 2, 256):
        bank = embed_nouns(clip, NOUNS, templates=templates, batch_size=batch_size)
        assert bank.names == tuple(NOUNS)
        torch.testing.assert_close(bank.embeddings.double(), torch.stack(expected), rtol=0, atol=1e-5)


def test_the_model_is_left_as_it_was(clip):
    clip.train()
    clip.visual.eval()
    before = {name: p.clone() for name, p in clip.state_dict().items()}
    bank = embed_nouns(ClipModel(clip), NOUNS)
    assert bank.fingerprint == embed_nouns(clip, NOUNS).fingerprint
    assert clip.training and not clip.visual.training and not bank.embeddings.requires_grad
    assert all(torch.equal(p, before[name]) for name, p in clip.state_dict().items())


def test_a_bank_is_made_once_for_weights_names_and_sentences(clip, tmp_path, monkeypatch):
    first = embed_nouns(clip, NOUNS, cache_dir=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ClipModel, "text_features", None)
        again = embed_nouns(clip, NOUNS, cache_dir=tmp_path)
    assert_same_bits(again.embeddings, first.embeddings)
    assert again.names == first.names
    embed_nouns(clip, NOUNS[:4], cache_dir=tmp_path)
    embed_nouns(clip, NOUNS, templates=("a {}",), cache_dir=tmp_path)
    embed_nouns(clip, NOUNS, tokenizer=lambda texts: clip_tokenizer(16)([text.upper() + "!" for text in texts]),
                cache_dir=tmp_path)  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 4
    with torch.no_grad():
        next(ClipModel(clip).text_parameters()).add_(1e-3)
    assert embed_nouns(clip, NOUNS, cache_dir=tmp_path).fingerprint != first.fingerprint
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cache_is_no_secret(clip, tmp_path):
    embed_nouns(clip, NOUNS, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    with raises_sentence(InputError, file.name, "delete"):
        embed_nouns(clip, NOUNS, cache_dir=tmp_path)
    TextBank(X).save(file)
    with raises_sentence(InputError, file.name, "delete"):
        embed_nouns(clip, NOUNS, cache_dir=tmp_path)


def test_a_kill_while_writing_leaves_no_file(clip, tmp_path, monkeypatch):
    def killed(tensors, path, metadata):
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(text_bank, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        embed_nouns(clip, NOUNS, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("bad", "words"),
    [({"names": []}, "name"), ({"templates": ("a photo",)}, "{}"), ({"batch_size": 0}, "batch_size")],
    ids=["names", "templates", "batch_size"],
)
def test_bad_arguments_are_named(clip, bad, words):
    with raises_sentence(InputError, words):
        embed_nouns(clip, **{"names": NOUNS, **bad})
