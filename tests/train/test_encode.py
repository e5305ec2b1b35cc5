"""Pictures as embeddings: row by row, whatever the batch, from a model that was training."""

import numpy as np
import pytest
import torch

from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.train import encode
from pyfast_mmcl.train.encode import encode_images
from tests.check import assert_same_bits
from tests.models.small_clips import small_clip


@pytest.mark.parametrize("N", [1, 16, 33])
def test_rows_are_embedded_in_order_and_batches_do_not_matter(N, monkeypatch):
    images = torch.rand(N, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(encode, "_BATCH", 16)
    model = ClipModel(small_clip()).train()
    asked = []

    def read(rows):
        asked.extend(rows)
        return images[rows.start : rows.stop]

    before = torch.get_rng_state()
    found = encode_images(model, read, N, device="cpu")
    assert asked == list(range(N)) and found.dtype == torch.float32 and not found.requires_grad
    with torch.no_grad():
        alone = torch.cat([model.eval().image_features(images[i : i + 1]) for i in range(N)])
    np.testing.assert_allclose(found.numpy(), alone.numpy(), atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_bits(found, encode_images(model, read, N, device="cpu"))
