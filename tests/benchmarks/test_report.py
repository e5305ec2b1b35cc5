"""Verdicts, tables and comparisons say what the rows say."""

import pytest

from benchmarks import compare, records, report
from benchmarks.families.knn import cases, goals
from benchmarks.families.knn import contestants as who

CASE = cases.knn(1_000, 20_000, 768, 10)


def row(contestant, role, seconds, mode="one-shot", case=CASE, **more):
    fields = dict.fromkeys(records.columns(case.op), "") | case.to_dict()
    fields |= {
        "contestant": contestant,
        "role": role,
        "mode": mode,
        "median_s": seconds,
        "min_s": seconds,
        "repeats": 7,
    }
    fields |= {"gate": "passed", "extra_mib": 10.0, "held_mib": 40.0, "cores": 2, "threads": 2, "machine": "a CPU"}
    return fields | {"gflops": 1.0, "first_s": 1.0, "build_s": 1.0, "date": "2026-01-02", "load": "0.1 0.1 0.1"} | more


def rows(ours=0.010, packed=0.008, installed=0.100, tuned=0.020, **more):
    return [
        row("pyfast", who.OURS, ours, **more),
        row("pyfast packed", who.OURS, packed, mode="amortised", **more),
        row("faiss as installed", who.FAISS_INSTALLED, installed, **more),
        row("faiss SkylakeX", who.FAISS_ENV, tuned, **more),
    ]


def verdicts(measured):
    return {(verdict.text, verdict.mode): verdict for verdict in goals.evaluate(measured)}


def test_hit_and_miss():
    found = verdicts(rows())
    tuned = found["N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", "one-shot"]
    assert (tuned.word, tuned.worst) == ("hit", 2.0)
    slow = verdicts(rows(ours=0.0125))["N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", "one-shot"]
    assert slow.word == "miss (0 of 1 shapes reach it)"


def test_one_missing_shape_makes_a_miss():
    measured = rows() + rows(packed=0.015, case=cases.knn(1_000, 100_000, 768, 10))
    verdict = verdicts(measured)["N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", "amortised"]
    assert verdict.word == "miss (1 of 2 shapes reach it)"
    assert (verdict.worst, verdict.best) == (pytest.approx(0.020 / 0.015), pytest.approx(2.5))


def test_the_best_tuned_rival_is_the_fastest_one():
    """Also when it is the untouched installation."""
    verdict = verdicts(rows(installed=0.015))["N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", "one-shot"]
    assert verdict.worst == pytest.approx(1.5)


def test_small_batches_are_judged_with_and_without_forced_blas():
    small = cases.knn(32, 20_000, 768, 10)
    measured = [*rows(packed=0.002, case=small), row("faiss BLAS", who.FAISS_CODE, 0.006, case=small)]
    found = verdicts(measured)
    assert found["8 ≤ N ≤ 160: ≥ 8× faiss best-tuned by environment", "amortised"].word == "hit"
    assert found["8 ≤ N ≤ 160: ≥ 8× faiss with BLAS forced in code too", "amortised"].word.startswith("miss")


def test_memory_beyond_the_bank_is_a_miss():
    text = "extra memory ≤ packed bank + 64 MiB, as a share of it"
    found = verdicts(rows(extra_mib=103.0))
    assert found[text, "one-shot"].word == "hit" and found[text, "amortised"].word.startswith("miss")
    assert verdicts(rows(extra_mib=105.0))[text, "one-shot"].word.startswith("miss")


def test_a_failed_gate_decides_nothing():
    measured = rows()
    measured[0].update(median_s=None, gate="failed: a nearer row was missed")
    assert ("N ≥ 1,000, D ≥ 512: ≥ 1.8× faiss best-tuned", "one-shot") not in verdicts(measured)


def test_every_goal_has_cases_in_the_goals_preset():
    for goal in goals.GOALS:
        assert sum(goal.applies(case.to_dict()) for case in cases.GOALS) >= 2, goal.text


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    measured = [*rows(ours=0.0125), row("usearch exact", who.PEER, None, gate="skipped: a call would take about 94 s")]
    records.write(records.path_of("a-cpu-2-cores", "knn", folder), measured)
    return folder


def test_the_page_says_miss_when_it_is_a_miss(results, tmp_path):
    page = tmp_path / "benchmarks.md"
    page.write_text(f"Before.\n{report.BEGIN}\nold\n{report.END}\nAfter.\n")
    assert report.main(["--check", "--page", str(page), "--results", str(results)]) == 1
    assert report.main(["--page", str(page), "--results", str(results)]) == 0
    assert report.main(["--check", "--page", str(page), "--results", str(results)]) == 0
    text = page.read_text()
    assert text.startswith("Before.") and text.endswith("After.\n") and "old" not in text
    line = next(line for line in text.splitlines() if "1.8×" in line and "one-shot" in line)
    assert line.endswith("| miss (0 of 1 shapes reach it) |") and "1.60×" in line
    assert "| usearch exact | knn: skipped: a call would take about 94 s | 1 |" in text


def test_a_page_without_its_marks_is_left_alone(results, tmp_path, capsys):
    page = tmp_path / "benchmarks.md"
    page.write_text("no marks here\n")
    assert report.main(["--page", str(page), "--results", str(results)]) == 2
    assert page.read_text() == "no marks here\n" and "must hold" in capsys.readouterr().err


def test_the_committed_page_shows_the_committed_results():
    assert report.main(["--check"]) == 0


def test_compare_shows_ratios_and_names_the_faster(tmp_path, capsys):
    files = []
    for name, seconds in (("old", 0.030), ("new", 0.010)):
        files.append(tmp_path / f"{name}.csv")
        records.write(files[-1], rows(ours=seconds))
    assert compare.main([str(files[0]), str(files[1])]) == 0
    lines = capsys.readouterr().out.splitlines()
    one_shot = next(line for line in lines if " pyfast  " in line)
    packed = next(line for line in lines if "pyfast packed" in line)
    assert one_shot.endswith("3.00 faster") and packed.endswith("1.00 equal")
    assert not any("faiss" in line for line in lines)


def test_compare_refuses_what_is_neither_file_nor_commit(capsys):
    assert compare.main(["no-such-commit", "HEAD"]) == 2
    assert "neither a result file nor a commit" in capsys.readouterr().err
