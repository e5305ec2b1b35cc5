"""Chains of blocks: which layer owns what, and which encoders cannot be one."""

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models import ImageEncoder, Spec, TextEncoder, VectorEncoder
from pyfast_mmcl.models.chains import Block, blocks_of, chains_for, image_chain, join, put, text_chain, vector_chain
from tests.check import assert_same_bits, raises_sentence


def through(blocks, x):
    for block in blocks:
        x = block(x)
    return x


CHAINS = {
    "image": (image_chain(2, 5), torch.rand(3, 2, 9, 7)),
    "vector": (vector_chain(12, 5), torch.rand(3, 4, 3)),
    "text": (text_chain(9, 5), torch.tensor([[1, 2, 0], [3, 0, 0], [0, 0, 0]])),
    "own": (
        nn.Sequential(
            nn.Dropout(0.0), nn.Conv1d(2, 3, 2), nn.Tanh(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(6, 5), nn.ReLU()
        ),
        torch.rand(3, 2, 5),
    ),
    "one layer": (nn.Linear(4, 5), torch.rand(3, 4)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_blocks_are_the_chain(name):
    chain, x = CHAINS[name]
    blocks = blocks_of(name, chain)
    assert all(isinstance(block, Block) for block in blocks)
    assert_same_bits(through(blocks, x), chain(x))


def test_activations_stay_with_their_layer_and_reshaping_goes_with_the_next():
    kinds = [[type(x).__name__ for x in block.after] for block in blocks_of("image", image_chain(1, 4))]
    assert kinds == [["ReLU"], ["ReLU"], []]
    last = blocks_of("image", image_chain(1, 4))[2]
    assert [type(x).__name__ for x in last.before] == ["AdaptiveAvgPool2d", "Flatten"]


def test_the_chains_are_the_encoders_of_a_classifier():
    pairs = (
        (image_chain(2, 5), ImageEncoder(2, 5).layers, CHAINS["image"][1]),
        (vector_chain(12, 5), VectorEncoder(12, 5).layers, CHAINS["vector"][1]),
    )
    for chain, encoder, x in pairs:
        chain.load_state_dict(encoder.state_dict())
        assert_same_bits(chain(x), encoder(x))
    text, encoder = text_chain(9, 5), TextEncoder(9, 5)
    text[0].weight.data, text[1] = encoder.embedding.weight.data, encoder.linear
    torch.testing.assert_close(text(CHAINS["text"][1]), encoder(CHAINS["text"][1]))


def test_rows_choose_their_chain():
    inputs = {"image": torch.rand(1, 3, 8, 8), "text": torch.ones(1, 4, dtype=torch.int64), "x": torch.rand(1, 2, 5)}
    chains = chains_for(Spec(inputs, 4, vocabulary=9, width=6))
    assert {name: chain(inputs[name]).shape for name, chain in chains.items()} == dict.fromkeys(inputs, (1, 6))
    with raises_sentence(InputError, "text", "vocabulary"):
        chains_for(Spec(inputs, 4))
    for answers, word in (({"answer_length": 3}, "3 tokens"), ({"objective": "pairs"}, "pairs")):
        with raises_sentence(InputError, "one class per row", word):
            chains_for(Spec(inputs, 4, vocabulary=9, **answers))
    with raises_sentence(InputError, "bare", "(1,)"):
        chains_for(Spec({"bare": torch.rand(1)}, 4))


@pytest.mark.parametrize(
    ("encoder", "word"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), "BatchNorm1d"),
        (nn.Sequential(nn.Conv2d(4, 4, 1, groups=2)), "groups"),
        (nn.Sequential(nn.ReLU()), "at least one"),
        (ImageEncoder(1), "ImageEncoder"),
    ],
)
def test_other_encoders_are_refused(encoder, word):
    with raises_sentence(InputError, "'a'", word):
        blocks_of("a", encoder)


def test_a_linear_layer_wants_flat_rows():
    with raises_sentence(InputError, "Flatten", "(2, 3, 4)"):
        blocks_of("a", nn.Linear(4, 4))[0](torch.rand(2, 3, 4))


def test_missing_modalities_are_zeros_with_a_flag():
    embeddings = {"a": torch.ones(2, 3), "c": torch.full((2, 3), 2.0)}
    present = {"a": torch.tensor([True, False]), "c": torch.tensor([True, True])}
    found = join(embeddings, present, ("a", "b", "c"))
    expected = torch.tensor([[1.0] * 3 + [0] * 3 + [2] * 3 + [1, 0, 1], [0] * 3 + [0] * 3 + [2] * 3 + [0, 0, 1]])
    assert_same_bits(found, expected)


def test_scores_are_put_among_all_classes():
    found = put(torch.tensor([[1.0, 2.0]]), torch.tensor([False, True, False, True]))
    lowest = torch.finfo(torch.float32).min
    assert found.tolist() == [[lowest, 1.0, lowest, 2.0]]
