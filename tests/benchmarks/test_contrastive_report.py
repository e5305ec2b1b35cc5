"""Verdicts and tables of the contrastive family say what its rows say."""

import pytest

from benchmarks import records
from benchmarks.families.contrastive import cases, goals, tables
from benchmarks.families.contrastive import contestants as who

CASE = cases.clip(4_096, 512)


def row(contestant, role, seconds, case=CASE, mode="one-shot", **more):
    fields = dict.fromkeys(records.columns(case.op), None) | case.to_dict()
    fields |= {"contestant": contestant, "role": role, "mode": mode, "median_s": seconds, "repeats": 7, "isa": "avx2"}
    return fields | {"gate": "passed", "extra_mib": 20.0} | more


def rows(ours=0.2, low=0.1, eager=0.45, peer=0.3, case=CASE, **more):
    return [
        row("pyfast", who.OURS, ours, case, **more),
        row("pyfast bf16 tiles", who.OURS_BFLOAT16, low, case, **more),
        row("torch eager", who.EAGER, eager, case, extra_mib=216.0),
        row("torch bf16 autocast", who.PEER_BFLOAT16, 0.01, case),
        row("torch compiled", who.PEER, peer, case),
    ]


def verdicts(measured):
    return {verdict.text: verdict for verdict in goals.evaluate(measured)}


def test_eager_is_the_fastest_of_torch_without_a_fused_loss():
    found = verdicts([*rows(), row("open_clip", who.OPEN_CLIP, 0.38)])
    assert found["InfoNCE N = 4,096: ≥ 2× eager torch, float32"].worst == pytest.approx(1.9)
    assert found["InfoNCE N = 4,096: ≥ 2× eager torch, float32"].word.startswith("miss")
    assert found["InfoNCE N = 4,096: ≥ 3.5× eager torch, bf16 tiles"].word == "hit"


def test_the_best_peer_is_any_float32_rival():
    case = cases.views(4_096, 128)[0]
    verdict = verdicts(rows(case=case))["NT-Xent and SupCon 2N = 4,096: ≥ 2.5× the best peer"]
    assert verdict.worst == pytest.approx(1.5)


def test_gradients_do_not_count_as_extra_memory():
    # eager: 216 − 16 = 200 MiB beyond its gradients, 5 % of it are 10; ours: 20 − 16 = 4.
    assert verdicts(rows())[goals.MEMORY].worst == pytest.approx(0.4)
    assert verdicts(rows(extra_mib=27.0))[goals.MEMORY].word.startswith("miss")
    thrifty = row("open_clip", who.OPEN_CLIP, 0.6, extra_mib=66.0)  # slower than eager, 50 MiB beyond its gradients
    assert verdicts([*rows(), thrifty])[goals.MEMORY].worst == pytest.approx(1.6)


def test_goals_of_a_gpu_take_rows_of_a_gpu_only():
    case = cases.clip(32_768, 768)
    text = "GPU, InfoNCE N = 32,768: ≥ 1.4× the best peer"
    assert text not in verdicts(rows(case=case))
    on_gpu = [one | {"isa": "sm_90"} for one in rows(case=case)]
    assert verdicts(on_gpu)[text].worst == pytest.approx(1.5)
    assert verdicts(on_gpu)[goals.GPU_MEMORY].word == "hit"


def test_every_goal_has_cases_in_its_preset():
    machine = {False: {"isa": "avx2"}, True: {"isa": "sm_90"}}
    for goal in goals.GOALS:
        on_gpu = goal.text.startswith("GPU")
        preset = cases.PRESETS["gpu" if on_gpu else "goals"]
        assert sum(goal.applies(case.to_dict() | machine[on_gpu]) for case in preset) >= 2, goal.text
        assert not any(goal.applies(case.to_dict() | machine[not on_gpu]) for case in preset), goal.text


def test_every_case_has_a_peer_and_no_two_have_one_name():
    for preset in ("quick", "goals", "full"):
        chosen = cases.PRESETS[preset]
        assert len({case.id for case in chosen}) == len(chosen)
        for case in chosen:
            roles = [entry.role for entry in who.CPU if entry.accepts(case, frozenset())]
            assert who.OURS in roles and who.EAGER in roles


def test_the_table_counts_the_rows_of_both_views():
    case = cases.views(4_096, 128)[1]
    head, _, line = tables.op_table(rows(case=case)).splitlines()
    cells = dict(zip(head.strip("| ").split(" | "), line.strip("| ").split(" | "), strict=True))
    assert cells["2N"] == "4,096" and cells["C"] == "100"
    assert (cells["× eager"], cells["bf16 × eager"], cells["× best peer"]) == ("2.25", "4.50", "1.50")


def test_a_frozen_bank_shows_both_ways():
    case = cases.kl(4_096, 512, M=4_096)
    measured = [*rows(case=case), row("pyfast packed", who.OURS, 0.15, case, mode="amortised")]
    table = tables.op_table(measured)
    assert "float32, frozen bank" in table and "| 200 | 100 | 150 | – |" in table


def test_result_files_keep_every_value(tmp_path):
    path = tmp_path / "contrastive" / "info_nce.csv"
    measured = rows()
    records.write(path, measured)
    read = records.read(path)
    assert [one["contestant"] for one in read] == [one["contestant"] for one in measured]
    assert {records.case_key(one) for one in read} == {records.case_key(CASE.to_dict())}
    assert read[0]["N"] == 4_096 and read[0]["M"] == 0 and read[0]["median_s"] == 0.2
    assert records.path_of("here", "info_nce", tmp_path) == tmp_path / "here" / "contrastive" / "info_nce.csv"
