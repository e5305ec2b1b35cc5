"""Experts and routers against their formulas written out, and the promises about devices and rows."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.models.attach import attach
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.models.experts import ExpertBank
from tests.check import assert_no_worse, assert_same_bits, raises_sentence
from tests.models.small_clips import KINDS, images, shake, small_clip, text_home, tokens

FORMS = ("dense", "grouped", "gathered")


def bank_of(experts=5, width=16, hidden=8, dtype=torch.float64, scale=0.1):
    bank = ExpertBank(width, experts, hidden, scale=scale, dropout=0.0, generator=torch.Generator().manual_seed(0)).to(
        dtype
    )
    shake(bank)
    return bank


def rows_of(n, positions, width=16, experts=5, k=2, dtype=torch.float64):
    g = torch.Generator().manual_seed(n + positions)
    x = torch.randn(n, positions, width, generator=g, dtype=torch.float64).to(dtype)
    chosen = torch.stack([torch.randperm(experts, generator=g)[:k] for _ in range(n)] or [torch.zeros(k).long()])[:n]
    return x, chosen, torch.rand(n, k, generator=g, dtype=torch.float64).to(dtype)


def written_out(bank, x, chosen, gates):
    """One row, one expert, one layer at a time."""
    answers = []
    for row, experts, shares in zip(x, chosen.tolist(), gates, strict=True):
        total = torch.zeros_like(row)
        for e, share in zip(experts, shares, strict=True):
            down, down_bias, up, up_bias = bank.parameters_of(e)
            total = total + share * ((row @ down.T + down_bias).clamp(min=0) @ up + up_bias)
        answers.append(bank.scale * total)
    return torch.stack(answers) if answers else torch.zeros_like(x)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("n", "positions", "k"), [(0, 3, 2), (1, 1, 1), (15, 17, 2), (33, 5, 3), (4, 16, 5)])
def test_every_form_is_the_formula_in_value_and_gradient(monkeypatch, form, n, positions, k):
    if form == "grouped" and n == 0:
        n = 1  # no rows have no groups; they are gathered
    dtype = torch.float32 if form == "grouped" else torch.float64  # which grouped products take
    bank = bank_of(dtype=dtype)
    x, chosen, gates = rows_of(n, positions, k=k, dtype=dtype)
    x.requires_grad_(), gates.requires_grad_()
    monkeypatch.setattr(ExpertBank, "form", lambda *_: form)
    close = {"rtol": 1e-4, "atol": 1e-5} if form == "grouped" else {"rtol": 1e-10, "atol": 1e-12}
    ours, truth = bank(x, chosen, gates), written_out(bank, x, chosen, gates)
    torch.testing.assert_close(ours, truth, **close)
    wanted = [x, gates, *bank.parameters()]
    weights = torch.randn(truth.shape, generator=torch.Generator().manual_seed(9), dtype=dtype)
    found = torch.autograd.grad((ours * weights).sum(), wanted)
    expected = torch.autograd.grad((truth * weights).sum() + 0 * x.sum(), wanted, materialize_grads=True)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **close)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_errs_no_more_than_the_loop_in_float32(monkeypatch, form):
    monkeypatch.setattr(ExpertBank, "form", lambda *_: form)
    exact, single = bank_of(), bank_of(dtype=torch.float32)
    rows, low = rows_of(31, 9), rows_of(31, 9, dtype=torch.float32)
    with torch.no_grad():
        assert_no_worse(single(*low), written_out(single, *low), written_out(exact, *rows), atol=1e-7)


@pytest.mark.parametrize("form", FORMS)
def test_no_form_looks_at_a_number(monkeypatch, form):
    """Under tensors without values every look at one (item, nonzero, a size from data) raises."""
    monkeypatch.setattr(ExpertBank, "form", lambda *_: form)
    bank = bank_of(dtype=torch.bfloat16)
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, gates = torch.empty(6, 3, 16, dtype=torch.bfloat16), torch.empty(6, 2)
        chosen = torch.empty(6, 2, dtype=torch.int64)
        assert bank(x, chosen, gates).shape == x.shape


def test_a_block_looks_at_no_number_in_training():
    clip = small_clip()
    moe = attach(clip, "moe", experts=5)
    moe.add_way(), moe.add_way(), moe.bfloat16().train()
    with FakeTensorMode(allow_non_fake_inputs=True):
        for block in moe.every_block():
            x = torch.empty(4, 3, block.bank.width, dtype=torch.bfloat16)
            assert block.bank.form(x, torch.empty(4, 2)) == "grouped" and block(x).shape == x.shape
            with moe.rows(torch.empty(4, dtype=torch.int64)):
                assert block(x).shape == x.shape


def test_the_form_is_chosen_by_shapes_and_device():
    bank = bank_of(experts=5)
    x, chosen, _ = rows_of(4, 3)
    assert bank.form(x.float(), chosen) == "grouped" and bank.form(x, chosen[:, :1].expand(-1, 5)) == "dense"
    assert bank.form(x, chosen) == bank.form(x.float()[:0], chosen[:0]) == "gathered"
    assert bank_of(hidden=7).form(x.float(), chosen) == "gathered"
    assert bank.form(x.float().to("meta"), chosen) == "gathered"
    assert bank.form(x.bfloat16().to("meta"), chosen) == "grouped"


def routed_block(x, block, experts, router):
    """A block of open_clip with its experts, without noise: Yu et al., figure 3, one row at a time."""
    x = x + block.attention(block.ln_1(x))
    added = []
    for row in x:
        logits = row[0] @ router.gate
        value, chosen = logits.topk(experts.top)
        share = torch.exp(value) / torch.exp(value).sum()
        added.append(written_out(experts.bank, row[None], chosen[None], share[None])[0])
    return x + block.mlp(block.ln_2(x)) + torch.stack(added)


@pytest.mark.parametrize("clip_kind", KINDS)
def test_a_block_is_the_papers(clip_kind):
    clip = small_clip(clip_kind).double()
    moe = attach(clip, "moe", experts=6, hidden=5)
    moe.add_way(), moe.add_way()
    shake(moe)
    block, experts = clip.visual.transformer.resblocks[1], moe.blocks["image"][1]
    x = torch.randn(3, 5, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        for way in range(2):
            with moe.rows(way):
                ours = block(x)
            torch.testing.assert_close(
                ours, routed_block(x, block, experts, experts.routers[way]), rtol=1e-9, atol=1e-9
            )


def test_the_noise_is_shazeers_and_in_training_only():
    clip = small_clip().double()
    moe = attach(clip, "moe", experts=6)
    moe.add_way()
    shake(moe)
    block = moe.blocks["image"][0]
    h = torch.randn(8, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    way = torch.zeros(8, dtype=torch.int64)
    router = block.routers[0]
    block.train()
    with torch.no_grad():
        torch.manual_seed(11)
        chosen, gates = block.choose(h, way)
        torch.manual_seed(11)
        noise = torch.randn(8, 6, dtype=torch.float64)
        logits = h @ router.gate + noise * (F.softplus(h @ router.noise) + 1e-2)
        value, place = logits.topk(2, dim=1)
        assert torch.equal(chosen, place)
        torch.testing.assert_close(gates, value.softmax(1))
        block.eval()
        assert torch.equal(block.choose(h, way)[0], (h @ router.gate).topk(2, dim=1).indices)


def test_usage_counts_rows_in_training_and_the_most_used_freeze():
    clip = small_clip().requires_grad_(False)
    moe = attach(clip, "moe", experts=6, towers=("image",))
    moe.add_way()
    shake(moe)
    seen = torch.zeros(6, dtype=torch.int64)
    block = moe.blocks["image"][0]
    choose = block.choose

    def watch(h, way):
        chosen, gates = choose(h, way)
        seen.add_(torch.bincount(chosen[way >= 0].flatten(), minlength=6))
        return chosen, gates

    block.choose = watch
    clip.train()
    clip.encode_image(images(5))
    with moe.rows(torch.tensor([0, -1, 0])):
        clip.encode_image(images(3))
    assert torch.equal(block.recent, seen) and int(seen.sum()) == 2 * 7 and not block.usage.any()
    moe.settle()
    assert torch.equal(block.usage, seen) and not block.recent.any()
    clip.eval()
    clip.encode_image(images(5))
    assert not block.recent.any()
    busiest = sorted(range(6), key=lambda e: (-int(block.usage[e]), e))[:2]
    moe.freeze_most_used(2)
    for e in range(6):
        assert all(p.requires_grad == (e not in busiest) for p in block.bank.parameters_of(e))
    before = [p.detach().clone() for e in busiest for p in block.bank.parameters_of(e)]
    optimizer = torch.optim.AdamW([p for p in clip.parameters() if p.requires_grad], lr=0.1)
    clip.train().encode_image(images()).square().sum().backward()
    optimizer.step()
    # Weight decay would move what merely has no gradient.
    for was, now in zip(before, (p for e in busiest for p in block.bank.parameters_of(e)), strict=True):
        assert_same_bits(was, now)
    moe.add_way()
    assert int(block.usage.sum()) == 0
    assert [p.requires_grad for router in block.routers for p in router.parameters()] == [False] * 2 + [True] * 2


def test_choices_of_several_processes_are_added_up():
    moe = attach(small_clip(), "moe", experts=3)
    moe.add_way()
    for block in moe.every_block():
        block.recent.copy_(torch.tensor([1, 0, 2]))
    moe.settle(lambda counts: counts + torch.tensor([4, 5, 0]))
    assert all(block.usage.tolist() == [5, 5, 2] and block.most_used(2) == [0, 1] for block in moe.every_block())


@pytest.mark.parametrize("clip_kind", KINDS)
@pytest.mark.parametrize(("text_route", "differs"), [("first", False), ("eot", True)])
def test_the_first_position_of_a_text_says_nothing_of_it_and_the_end_mark_does(text_route, differs, clip_kind):
    clip = small_clip(clip_kind)
    moe = attach(clip, "moe", towers=("text",), text_route=text_route)
    moe.add_way()
    shake(moe, 0.02)
    block, found = moe.blocks["text"][1], []
    choose = block.choose
    block.choose = lambda h, way: found.append(choose(h, way)[1]) or choose(h, way)
    with torch.no_grad():
        clip.encode_text(tokens())
    assert text_home(clip).transformer.resblocks[1] is not None
    assert ((found[0] - found[0][:1]).abs().max() > 1e-6) == differs


def test_what_does_not_fit_is_refused():
    with raises_sentence(InputError, "top", "4"):
        attach(small_clip(), "moe", experts=4, top=5)
    with pytest.raises(UnknownNameError, match="eot"):
        attach(small_clip(), "moe", text_route="eos")


def test_a_row_without_a_picture_has_no_vote():
    model = ClipModel.with_classes(small_clip(), ("a", "b")).requires_grad_(False)
    moe = model.attach("moe", experts=4)
    moe.add_way()
    model.train()
    image = torch.tensor([True, False, False, True, False])
    present = {"image": image, "text": ~image | (torch.arange(5) == 0)}
    words = torch.cat([tokens(), tokens()[:2]])
    none = torch.full((5,), -1)
    model(Batch({"image": images(), "text": words}, none, none, present, torch.arange(5)))
    moe.settle()
    for tower, rows in (("image", 2), ("text", 4 + 2)):  # and two texts of classes
        assert [int(block.usage.sum()) for block in moe.blocks[tower]] == [2 * rows] * len(moe.blocks[tower])


def test_end_marks_and_blocks_that_run_again_do_not_go_together():
    clip = small_clip()
    attach(clip, "moe", text_route="eot").add_way()
    clip.set_grad_checkpointing(True)
    with raises_sentence(InputError, "gradient checkpointing", "eot"):
        clip.train().encode_text(tokens())
