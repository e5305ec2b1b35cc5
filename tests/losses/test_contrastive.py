"""InfoNCE, NT-Xent, SupCon and SigLIP modules: their formulas, their temperature, their errors."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.losses import InfoNCE, NTXent, SigLIP, SupCon
from pyfast_mmcl.ops.contrastive import PackedReference
from tests.check import raises_sentence
from tests.losses import rank_jobs as jobs
from tests.processes import pool

D = 6
N = 17


def rows(seed: int, n: int = N) -> torch.Tensor:
    return 2 * torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cross(s: torch.Tensor) -> torch.Tensor:
    target = torch.arange(len(s))
    return (F.cross_entropy(s, target) + F.cross_entropy(s.T, target)) / 2


def same(module: torch.nn.Module, loss: torch.Tensor, truth: torch.Tensor, *leaves: torch.Tensor) -> None:
    """Equal value and gradients, those of the module's parameters included."""
    torch.testing.assert_close(loss, truth, rtol=1e-6, atol=1e-9)
    wanted = [*leaves, *module.parameters()]
    ours, expected = torch.autograd.grad(loss, wanted), torch.autograd.grad(truth, wanted)
    for a, b in zip(ours, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=1e-8)


def test_info_nce():
    module, a, b = InfoNCE(0.1), rows(0).requires_grad_(), rows(1).requires_grad_()
    s = module.logit_scale.exp() * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T
    same(module, module(a, b), cross(s), a, b)


def test_info_nce_of_rows_as_they_are_in_one_direction():
    module = InfoNCE(0.5, normalize=False, direction="ab")
    a, b = rows(0).requires_grad_(), rows(1).requires_grad_()
    same(module, module(a, b), F.cross_entropy(module.logit_scale.exp() * a @ b.T, torch.arange(N)), a, b)


def test_info_nce_against_a_frozen_bank_with_labels():
    bank, labels = F.normalize(rows(1, 9), dim=1), (torch.arange(N) % 9, torch.arange(9))
    module, a = InfoNCE(0.2, direction="ab"), rows(0).requires_grad_()
    s = module.logit_scale.exp() * F.normalize(a, dim=1) @ bank.T
    same(module, module(a, PackedReference(bank), labels=labels), F.cross_entropy(s, labels[0]), a)


def test_nt_xent():
    module = NTXent(0.5, learnable=True)
    a, b = rows(0).requires_grad_(), rows(1).requires_grad_()
    z = F.normalize(torch.cat([a, b]), dim=1)
    s = (module.logit_scale.exp() * z @ z.T).masked_fill(torch.eye(2 * N, dtype=torch.bool), -torch.inf)
    same(module, module(a, b), F.cross_entropy(s, (torch.arange(2 * N) + N) % (2 * N)), a, b)


def test_sup_con():
    module, z, labels = SupCon(learnable=True), rows(0).requires_grad_(), torch.arange(N) % 5
    unit, own = F.normalize(z, dim=1), torch.eye(N, dtype=torch.bool)
    s = (module.logit_scale.exp() * unit @ unit.T).masked_fill(own, -torch.inf)
    positive = (labels[:, None] == labels) & ~own
    each = s.logsumexp(1) - torch.where(positive, s, 0).sum(1) / positive.sum(1)
    same(module, module(z, labels), each.mean(), z)


def test_siglip():
    module, a, b = SigLIP(), rows(0).requires_grad_(), rows(1).requires_grad_()
    s = module.logit_scale.exp() * F.normalize(a, dim=1) @ F.normalize(b, dim=1).T + module.logit_bias
    y = 2 * torch.eye(N, dtype=torch.float64) - 1
    same(module, module(a, b), -F.logsigmoid(y * s).sum() / N, a, b)


@torch.no_grad()
def test_where_the_numbers_start():
    assert float(InfoNCE().scale()) == pytest.approx(1 / 0.07)
    assert float(SigLIP().scale()) == pytest.approx(10) and float(SigLIP().logit_bias) == -10
    assert float(NTXent().scale()) == pytest.approx(2) and float(SupCon().scale()) == pytest.approx(10)
    assert not list(NTXent().parameters()) and list(NTXent().state_dict()) == ["logit_scale"]
    assert sorted(name for name, _ in SigLIP().named_parameters()) == ["logit_bias", "logit_scale"]
    assert not list(SigLIP(learnable=False).parameters())


def test_a_scale_past_its_bound_counts_as_the_bound_and_finds_back():
    module = InfoNCE(max_scale=100.0)
    with torch.no_grad():
        module.logit_scale.fill_(6.0)
    assert float(module.scale().detach()) == pytest.approx(100.0, rel=1e-6)
    (gradient,) = torch.autograd.grad(module.scale(), module.logit_scale)
    assert float(gradient) == pytest.approx(100.0, rel=1e-6)
    module.clamp_()
    assert float(module.logit_scale.detach()) == pytest.approx(math.log(100.0), rel=1e-6)
    assert InfoNCE(0.01).max_scale == 100.0  # the bound itself is a legal start


@pytest.mark.parametrize("name", ("InfoNCE", "NTXent", "SupCon", "SigLIP"))
def test_rows_spread_over_processes(name):
    sizes = (3, 6, 0, 4)
    answers = pool().run(jobs.modules, (0, 1, 2, 3), *[(name, sizes)] * 4)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    truth = jobs.module_in_one_process(name, sum(sizes))
    # Each rank's gradient with respect to all rows holds its own rows only, times the number of ranks.
    np.testing.assert_allclose(sum(x["rows"] for x in answers) / 4, truth["rows"], rtol=1e-10, atol=1e-13)
    for answer in answers:
        np.testing.assert_allclose(answer["value"], truth["value"], rtol=1e-12)
        np.testing.assert_allclose(answer["numbers"], truth["numbers"], rtol=1e-10, atol=1e-13)


def test_reductions():
    a, b = rows(0), rows(1)
    each = InfoNCE(reduction="none")(a, b)
    assert each.shape == (N,)
    torch.testing.assert_close(InfoNCE(reduction="sum")(a, b), each.sum())
    torch.testing.assert_close(SigLIP(reduction="sum")(a, b), N * SigLIP()(a, b))


def test_errors():
    with raises_sentence(InputError, "view_a and view_b", "[17, 6]", "[3, 6]"):
        NTXent()(rows(0), rows(1, 3))
    with raises_sentence(InputError, "temperature", "-1"):
        SupCon(-1.0)
    with raises_sentence(InputError, "temperature", "max_scale", "0.01", "0.001"):
        InfoNCE(0.001)
    with raises_sentence(InputError, "reduction", "sum"):
        SigLIP(reduction="none")
    with raises_sentence(InputError, "reduction", "mean"):
        InfoNCE(reduction="avg")
