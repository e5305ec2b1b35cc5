"""The VAE of records: its objective written out in float64, what is missing, and how it grows."""

import math

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.models import RecordVAE
from tests.check import assert_same_bits, raises_sentence

N = 13


@pytest.fixture(autouse=True)
def one_thread(seeded):
    torch.set_num_threads(1)


def records(n=N, *, seed=0, names=("a", "t")):
    g = torch.Generator().manual_seed(seed)
    inputs = {"a": torch.randn(n, 2, 3, generator=g, dtype=torch.float64) * 3 + 1}
    inputs["t"] = torch.randint(0, 7, (n, 4), generator=g)
    present = {"a": torch.rand(n, generator=g) > 0.3, "t": torch.rand(n, generator=g) > 0.3}
    present["a"] |= ~present["t"]
    return {m: inputs[m] for m in names}, {m: present[m] for m in names}


def made(n_conditions=0, **how):
    torch.manual_seed(1)
    vae = RecordVAE(latent=5, hidden=16, **how)
    vae.meet(*records(), n_conditions)
    vae = vae.double()
    for p in vae.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return vae


def normal(x, mean, variance):
    return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi) + math.log(variance))


@pytest.mark.parametrize("n_conditions", [0, 3])
def test_loss_is_the_negative_bound_written_out(n_conditions):
    vae, (inputs, present) = made(n_conditions, beta=0.7), records()
    condition = torch.arange(N) % 3 if n_conditions else None
    noise = torch.randn(N, 5).double()
    got = vae.loss(inputs, present, condition, noise=noise)
    column = vae.columns["a"]
    shown = inputs["a"][present["a"]]
    torch.testing.assert_close(column.center.double(), shown.mean(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(column.spread.double(), shown.std(correction=0), rtol=1e-6, atol=1e-6)
    mean, log_variance = vae.encode(inputs, present, condition)
    said, logits = vae.decode(mean + (log_variance / 2).exp() * noise, condition)
    x = (inputs["a"].flatten(1) - column.center) / column.spread
    variance = float((x - said["a"]).detach()[present["a"]].square().mean())
    for i in range(N):
        total = sum(0.5 * (m**2 + v.exp() - 1 - v) for m, v in zip(mean[i], log_variance[i], strict=True)) * 0.7
        for name in ("a", "t"):
            p = 1 / (1 + (-logits[name][i]).exp())
            total = total - (p if present[name][i] else 1 - p).log()
        if present["a"][i]:
            total = total - sum(normal(x[i, j], said["a"][i, j], variance) for j in range(6))
        if present["t"][i]:
            for s, token in enumerate(inputs["t"][i].tolist()):
                total = total - (said["t"][i, s, token].exp() / said["t"][i, s].exp().sum()).log()
        torch.testing.assert_close(got[i], total, rtol=1e-9, atol=1e-9)


def test_what_stands_where_a_modality_is_missing_changes_nothing():
    vae, (inputs, present) = made(), records()
    noise = torch.randn(N, 5).double()
    before = vae.loss(inputs, present, noise=noise)
    gradient = torch.autograd.grad(before.sum(), vae.start)[0]
    inputs["a"][~present["a"]] = float("nan")
    inputs["t"][~present["t"]] = 6
    after = vae.loss(inputs, present, noise=noise)
    assert torch.equal(after, before)
    assert torch.equal(torch.autograd.grad(after.sum(), vae.start)[0], gradient)


def test_rows_do_not_meet_in_the_encoder():
    vae, (inputs, present) = made(), records()
    whole, order = vae.encode(inputs, present)[0], torch.randperm(N)
    again = vae.encode({m: x[order] for m, x in inputs.items()}, {m: p[order] for m, p in present.items()})[0]
    torch.testing.assert_close(again, whole[order])


def test_new_modalities_and_conditions_leave_what_is_known_as_it_was():
    vae, (inputs, present) = made(2), records()
    condition = torch.arange(N) % 2
    before = vae.encode(inputs, present, condition)
    vae.meet({"b": torch.randn(4, 9)}, {"b": torch.ones(4, dtype=torch.bool)}, 5)
    vae.meet({"t": torch.full((2, 4), 30)}, {"t": torch.ones(2, dtype=torch.bool)}, 5)
    vae.double()
    for ours, theirs in zip(vae.encode(inputs, present, condition), before, strict=True):
        assert torch.equal(ours, theirs)
    assert vae.n_conditions == 5 and vae.columns["t"].table.num_embeddings == 31
    said, logits = vae.decode(torch.randn(3, 5).double(), torch.tensor([0, 4, 2]))
    assert set(said) == set(logits) == {"a", "b", "t"} and said["t"].shape == (3, 4, 31)


def test_samples_look_like_records_and_depend_on_the_generator_alone():
    vae = made(2).float()
    condition = torch.tensor([0, 1] * 100)
    inputs, present = vae.sample(200, torch.Generator().manual_seed(3), condition)
    assert inputs["a"].shape == (200, 2, 3) and inputs["a"].dtype == torch.float64
    assert inputs["t"].shape == (200, 4) and inputs["t"].dtype == torch.int64
    seen = records()[0]["a"][records()[1]["a"]]
    kept = inputs["a"][present["a"]]
    assert kept.min() >= seen.min() - 1e-5 and kept.max() <= seen.max() + 1e-5
    assert torch.stack(list(present.values())).any(0).all()
    assert all(not inputs[m][~present[m]].any() for m in present) and not present["a"].all()
    torch.manual_seed(99)
    again, _ = vae.sample(200, torch.Generator().manual_seed(3), condition)
    assert_same_bits(inputs["a"], again["a"])


def test_a_record_that_would_have_no_modality_gets_its_likeliest():
    vae = made()
    for name, bias in (("a", -60.0), ("t", -50.0)):
        vae.presence[name].weight.data.zero_()
        vae.presence[name].bias.data.fill_(bias)
    _, present = vae.sample(20)
    assert present["t"].all() and not present["a"].any()


def test_structure_and_weights_make_it_again():
    vae = made(3)
    other = RecordVAE(latent=5, hidden=16)
    other.restructure(vae.structure())
    other.double().load_state_dict(vae.state_dict())
    condition = torch.arange(6) % 3
    ours, theirs = (x.sample(6, torch.Generator().manual_seed(0), condition)[0] for x in (vae, other))
    for name in ours:
        assert_same_bits(ours[name], theirs[name])
    assert other.structure() == vae.structure()


def test_training_makes_samples_of_a_class_look_like_it():
    g = torch.Generator().manual_seed(0)
    label = torch.arange(300) % 3
    means = 4 * torch.eye(3)[:, [0, 1, 2, 0, 1, 2]]
    inputs = {"a": means[label] + 0.3 * torch.randn(300, 6, generator=g), "t": torch.stack([label, label + 3], 1)}
    present = {"a": torch.ones(300, dtype=torch.bool), "t": torch.arange(300) % 4 > 0}
    torch.manual_seed(0)
    vae = RecordVAE(latent=4, hidden=32)
    vae.meet(inputs, present, 3)
    optimizer = torch.optim.Adam(vae.parameters(), 0.01)
    for _ in range(150):
        loss = vae.loss(inputs, present, label, noise=torch.randn(300, 4, generator=g)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drawn, shown = vae.sample(300, g, label)
    assert (torch.cdist(drawn["a"], means).argmin(1) == label).float().mean() > 0.95
    assert (drawn["t"] == inputs["t"]).all(1)[shown["t"]].float().mean() > 0.95
    assert shown["a"].float().mean() > 0.95 and abs(float(shown["t"].float().mean()) - 0.75) < 0.1


def test_what_does_not_fit_is_refused():
    vae, (inputs, present) = made(2), records()
    everything = {m: torch.ones(N, dtype=torch.bool) for m in present}
    with raises_sentence(InputError, "condition", "13 rows"):
        vae.encode(inputs, present)
    with raises_sentence(UnknownNameError, "smell"):
        vae.encode({"smell": inputs["a"]}, {"smell": everything["a"]}, torch.zeros(N, dtype=torch.int64))
    with raises_sentence(InputError, "(2, 3)", "(5,)"):
        vae.meet({"a": torch.randn(N, 5)}, {"a": everything["a"]})
    with raises_sentence(InputError, "'t'", "TokenColumn", "FloatColumn"):
        vae.meet({"t": torch.randn(N, 4)}, {"t": everything["t"]})
    with raises_sentence(InputError, "'b'", "bool"):
        vae.meet({"b": everything["a"].unsqueeze(1)}, {"b": everything["a"]})
    with raises_sentence(InputError, "no modality yet"):
        RecordVAE().sample(3)
