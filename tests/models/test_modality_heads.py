"""Heads of single modalities beside the joint one."""

import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models import ModalityHeads, MultimodalClassifier, Spec
from pyfast_mmcl.models.heads import is_masked
from tests.check import raises_sentence

INPUTS = {"a": torch.zeros(1, 6), "b": torch.zeros(1, 2, 8, 8)}


def rows(n=5):
    inputs = {"a": torch.randn(n, 6), "b": torch.randn(n, 2, 8, 8)}
    shown = {name: torch.ones(n, dtype=torch.bool) for name in inputs}
    return Batch(inputs, torch.zeros(n, dtype=torch.int64), torch.full((n,), -1), shown, torch.arange(n))


def test_every_head_reads_its_own_modality():
    model, batch = ModalityHeads.for_stream(Spec(INPUTS, 4)), rows()
    out = model(batch)
    assert isinstance(model, MultimodalClassifier) and list(out.heads) == ["a", "b"] and out.scores.shape == (5, 4)
    batch.inputs["b"] = batch.inputs["b"] + 1
    other = model(batch)
    assert torch.equal(other.heads["a"], out.heads["a"]) and not torch.equal(other.heads["b"], out.heads["b"])
    assert not torch.equal(other.scores, out.scores)


def test_a_task_id_masks_every_head():
    table = torch.tensor([[True, True, False, False], [False, False, True, True]])
    batch = rows()
    batch.task = torch.tensor([0, 1, 0, 1, -1])
    out = ModalityHeads.for_stream(Spec(INPUTS, 4, task_classes=table))(batch)
    for z in (out.scores, *out.heads.values()):
        assert torch.equal(is_masked(z), torch.cat([~table[[0, 1, 0, 1]], torch.zeros(1, 4, dtype=torch.bool)]))


def test_one_modality_is_refused():
    with raises_sentence(InputError, "two modalities", "MultimodalClassifier"):
        ModalityHeads.for_stream(Spec({"a": INPUTS["a"]}, 4))
