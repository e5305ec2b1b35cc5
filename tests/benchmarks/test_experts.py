"""The benchmark of the grouped experts: both forms agree, and a difference is refused."""

import csv

import pytest
import torch

from benchmarks import experts
from pyfast_mmcl.models.experts import ExpertBank

TINY = (4, 3, 16, 8, 5, 2)


def test_a_run_writes_a_line_per_case(monkeypatch, tmp_path):
    monkeypatch.setattr(experts, "CASES", (TINY,))
    out = tmp_path / "models" / "experts.csv"
    monkeypatch.setattr(torch, "set_num_threads", lambda n: None)
    assert experts.main(["--rounds", "2", "--out", str(out)]) == 0
    with out.open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert [int(row[name]) for name in experts.NAMES] == list(TINY) and row["form"] == "grouped"
    assert float(row["grouped_ms"]) > 0 and float(row["loop_ms"]) > 0 and float(row["ratio"]) > 0


def test_answers_that_differ_are_refused(monkeypatch):
    given = experts.inputs(TINY, "cpu")
    experts.check(*given)
    right = ExpertBank.forward
    monkeypatch.setattr(ExpertBank, "forward", lambda *args: right(*args) * 1.01)
    with pytest.raises(AssertionError):
        experts.check(*given)
    assert torch.isfinite(given[1]).all()
