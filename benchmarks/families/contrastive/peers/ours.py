"""pyfast_mmcl itself: the fused losses, in float32 or with bfloat16 tiles."""

from __future__ import annotations

from benchmarks.families.contrastive.call import prepared
from benchmarks.families.contrastive.gate import BFLOAT16_TILES_TOLERANCE, FLOAT32_TOLERANCE
from benchmarks.peer import Inputs, Prepared, missing, version_of

TOLERANCE = FLOAT32_TOLERANCE


def unavailable() -> str | None:
    return missing("pyfast_mmcl.ops.contrastive", install=".")


def versions() -> dict[str, str]:
    from pyfast_mmcl import _native

    info = _native.info()
    state = info["isa"] if info["built"] else "not built"
    return version_of("pyfast_mmcl", "torch", "numpy") | {"native": state}


def tolerance(options: dict) -> float:
    return BFLOAT16_TILES_TOLERANCE if options.get("precision") == "bfloat16" else TOLERANCE


def prepare(case, inputs: Inputs, options: dict) -> Prepared:
    how = {"precision": options.get("precision", "auto"), "backend": options.get("backend", "auto")}
    if not case.M:
        return prepared(case, inputs, options, lambda values: _loss(case, values, how))
    if not options.get("packed"):
        return prepared(case, inputs, options, lambda values: _against_bank(values, values["bank"], how))
    return _prepared_bank(case, inputs, options, how)


def _loss(case, values: dict, how: dict):
    from torch.nn.functional import normalize

    from pyfast_mmcl.ops import contrastive

    scale = values["scale"]
    if case.op == "info_nce":
        return contrastive.info_nce(values["a"], values["b"], scale, **how)
    if case.op == "siglip":
        return contrastive.siglip(values["a"], values["b"], scale, values["bias"], **how)
    if case.op == "nt_xent":
        return contrastive.nt_xent(normalize(values["z"], dim=1), scale, **how)
    if case.op == "sup_con":
        return contrastive.sup_con(normalize(values["z"], dim=1), values["labels"], scale, **how)
    rows = [values[name] for name in ("student_a", "student_b", "teacher_a", "teacher_b")]
    return contrastive.similarity_kl(*rows, student_scale=scale, teacher_scale=scale, **how)


def _against_bank(values: dict, bank, how: dict):
    from pyfast_mmcl.ops.contrastive import similarity_kl

    scale = values["scale"]
    return similarity_kl(
        values["student_a"],
        bank,
        values["teacher_a"],
        bank,
        student_scale=scale,
        teacher_scale=scale,
        direction="ab",
        **how,
    )


def _prepared_bank(case, inputs: Inputs, options: dict, how: dict) -> Prepared:
    """The bank is packed beforehand, once for the whole case."""
    import torch

    from pyfast_mmcl.ops.contrastive import PackedReference

    rows = torch.tensor(inputs.arrays["bank"], device=options.get("device", "cpu"))
    precision = "bfloat16" if how["precision"] == "bfloat16" else "float32"
    bank = PackedReference(rows.to(getattr(torch, case.dtype)), precision=precision)
    held = bank.rows.numel() * bank.rows.element_size()
    return prepared(case, inputs, options, lambda values: _against_bank(values, bank, how), held=held)
