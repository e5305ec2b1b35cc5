"""The harness: gate before speed, turns, environments, files."""

import re

import numpy as np
import pytest

from benchmarks import clock, families, gpu_check, machine, memory, records, run, worker
from benchmarks.contestant import Contestant, environment
from benchmarks.families.knn import cases, contestants
from benchmarks.measure import Effort, turns_of
from benchmarks.processes import ContestantFailed, Process

CASE = cases.knn(12, 40, 8, 3)
EFFORT = Effort(repeats=3, fewest=2, pause=0.0)


def contestant(name, env=None, **options):
    return Contestant(
        name, "tests.benchmarks.fake_peer", env=env or {}, options=options | {"name": name}, ops=cases.OPS
    )


@pytest.fixture
def rows_of(tmp_path):
    """Run the case with these contestants and read the rows back from the file."""

    def measure(*pool, exit_code=0, case=CASE):
        runner = run.Runner(pool, EFFORT, tmp_path / "results", "here")
        assert runner.run((case,)) == exit_code
        return {row["contestant"]: row for row in records.read(records.path_of("here", "knn", tmp_path / "results"))}

    return measure


def test_a_wrong_answer_gets_no_speed(rows_of):
    rows = rows_of(contestant("right"), contestant("wrong", wrong=True), exit_code=1)
    assert rows["right"]["gate"] == "passed" and rows["right"]["median_s"] >= 0.06
    assert rows["wrong"]["gate"].startswith("failed: ")
    assert rows["wrong"]["median_s"] is None and rows["wrong"]["min_s"] is None and rows["wrong"]["gflops"] is None


def test_a_failed_gate_prints_no_speed(rows_of, capsys):
    rows_of(contestant("right"), contestant("wrong", wrong=True), exit_code=1)
    line = next(line for line in capsys.readouterr().out.splitlines() if "wrong" in line)
    assert "failed" in line and " ms" not in line and "GF/s" not in line


def test_one_that_raises_or_dies_does_not_stop_the_others(rows_of):
    rows = rows_of(contestant("raises", raises=True), contestant("dies", dies=True), contestant("right"), exit_code=1)
    assert rows["raises"]["gate"] == "failed: ArithmeticError: no result today"
    assert "status 3" in rows["dies"]["gate"]
    assert rows["right"]["repeats"] == EFFORT.repeats


def test_what_a_library_cannot_do_is_no_failure(rows_of):
    rows = rows_of(contestant("other metric", unsupported=True), contestant("right"))
    assert rows["other metric"]["gate"] == "unavailable: no such metric here"
    assert rows["right"]["gate"] == "passed"


def test_one_that_does_not_fit_is_no_failure(rows_of):
    rows = rows_of(contestant("big", too_big=True), contestant("right"))
    assert rows["big"]["gate"] == "skipped: not enough memory for this shape (2 TB)"
    assert rows["right"]["gate"] == "passed"


def test_memory_of_a_gpu_is_handed_back_between_contestants(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("release"))
    desk = worker.Desk("tests.benchmarks.fake_peer", {"device": "cuda", "name": "one", "sleep": 0.0})
    desk.call_seconds = clock.wall_seconds
    monkeypatch.setattr(desk, "_memory_start", lambda: None)
    monkeypatch.setattr(desk, "_memory_extra", lambda before: None)
    families.of(CASE.op).data.make(CASE, tmp_path)
    requests = (("load", (CASE.to_dict(), str(tmp_path))), ("build", ()), ("first", (str(tmp_path / "a.npz"),)))
    for name, arguments in (*requests, ("turn", (0.0,)), ("drop", ())):
        before = len(calls)
        getattr(desk, name)(*arguments)
        assert len(calls) == before + (name != "load"), name


def test_contestants_take_turns(rows_of, tmp_path):
    log = tmp_path / "calls"
    rows_of(*(contestant(name, log=str(log), sleep=0.3) for name in "AB"))
    # One call each for the gate, then a turn each, again and again; a call of 0.3 s fills its turn alone.
    assert log.read_text().split() == list("AB" + "AB" * EFFORT.repeats)


def test_settings_are_never_inherited(rows_of, monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OMP_NUM_THREADS", "77")
    monkeypatch.setenv("PYFAST_ISA", "scalar")
    rows = rows_of(contestant("plain"), contestant("passive", env={"OMP_WAIT_POLICY": "PASSIVE"}))
    threads = f"OMP_NUM_THREADS={machine.cores()}"
    assert rows["plain"]["env"] == threads
    assert rows["passive"]["env"] == f"{threads} OMP_WAIT_POLICY=PASSIVE"


def test_the_core_type_of_a_contestant_reaches_its_blas(monkeypatch):
    pytest.importorskip("threadpoolctl")
    if "avx2" not in machine.isa_flags():
        pytest.skip("OpenBLAS's Haswell kernels need AVX2")
    monkeypatch.delenv("OPENBLAS_CORETYPE", raising=False)
    process = Process(contestant("haswell", env={"OPENBLAS_CORETYPE": "Haswell"}), threads=1)
    try:
        process.start()
        blas = [library for library in process.info["blas"] if library["internal_api"] == "openblas"]
        if not blas:
            pytest.skip("this NumPy brings another BLAS than OpenBLAS")
        assert {library["architecture"] for library in blas} == {"Haswell"}
    finally:
        process.stop()


def test_every_faiss_baseline_has_its_own_core_type(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    by_name = {one.name: environment(one, 2) for one in contestants.CPU}
    assert "OPENBLAS_CORETYPE" not in by_name["faiss as installed"]
    assert by_name["faiss SkylakeX"]["OPENBLAS_CORETYPE"] == "SkylakeX"
    assert by_name["faiss Haswell"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert not any("OPENBLAS_L2_SIZE" in env for env in by_name.values())


def test_an_unavailable_library_says_why():
    process = Process(Contestant("nobody", "benchmarks.families.knn.peers.faiss_gpu"), threads=1)
    with pytest.raises(ContestantFailed, match=r"^unavailable: .*(pip install|without GPU)"):
        process.start()


def test_slow_contestants_get_fewer_turns_but_never_too_few():
    effort = Effort(repeats=7, fewest=3, seconds=30)
    assert [turns_of(seconds, effort) for seconds in (0.001, 4.0, 6.0, 50.0)] == [7, 7, 5, 3]


def test_too_slow_a_call_is_skipped_with_its_reason(rows_of, monkeypatch):
    ask = Process.ask

    def predicts_an_hour(self, do, **arguments):
        return ask(self, do, **arguments) | ({"predicted": 3600.0} if do == "load" else {})

    monkeypatch.setattr(Process, "ask", predicts_an_hour)
    row = rows_of(contestant("slow"))["slow"]
    assert row["gate"].startswith("skipped: a call would take about 3600 s") and row["median_s"] is None


def test_rows_of_a_case_are_replaced_together(tmp_path, rows_of):
    first = rows_of(contestant("old"), contestant("both"))
    assert set(first) == {"old", "both"}
    assert set(rows_of(contestant("both"), case=CASE)) == {"both"}
    other = cases.knn(5, 40, 8, 3)
    assert set(rows_of(contestant("new"), case=other)) == {"both", "new"}


def test_files_keep_every_value(tmp_path):
    path = tmp_path / "knn.csv"
    row = dict.fromkeys(records.columns("knn"), 'a, "quoted" text') | CASE.to_dict()
    row |= {"median_s": 0.00123456, "min_s": None, "repeats": 7, "threads": 2, "cores": 2}
    row |= dict.fromkeys(("first_s", "build_s", "gflops", "extra_mib", "held_mib"), 1.5)
    records.write(path, [row])
    (read,) = records.read(path)
    assert {name: read[name] for name in records.columns("knn")} == row | {"moving": "False"}
    assert not list(tmp_path.glob("*.partial"))


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "knn.csv"
    path.write_text("op,N\nknn,3\n")
    with pytest.raises(ValueError, match="not a result file of this version"):
        records.read(path)


def test_resume_leaves_out_what_this_commit_has_measured(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(machine, "commit", lambda: "abc")
    runner = run.Runner((contestant("one"),), EFFORT, tmp_path, "here")
    runner.run((CASE,))
    capsys.readouterr()
    assert runner.run((CASE,), resume=True) == 0
    assert capsys.readouterr().out == ""


def test_commands(capsys):
    assert run.main(["--preset", "full", "--op", "knn", "--size", "N=160", "--size", "k=10", "--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(cases.DATABASES) * len(cases.FEATURES)
    assert run.main(["--size", "D=3", "--list"]) == 2
    assert "no case" in capsys.readouterr().err
    assert run.main(["--size", "depth"]) == 2


def test_the_full_preset_holds_the_whole_grid():
    sizes = {(c.D, c.M, c.k, c.N) for c in cases.FULL if c.op == "knn" and c.metric == "l2"}
    for D in (128, 512, 768, 1024):
        for M in (20_000, 100_000, 1_000_000):
            assert {(D, M, k, N) for k in (1, 10, 100) for N in (1, 8, 32, 160, 1_000, 10_000)} <= sizes
    assert len({case.id for case in cases.FULL}) == len(cases.FULL)


def test_the_folder_name_is_the_cpu_and_tells_no_host():
    assert re.fullmatch(r"[a-z0-9-]+", machine.slug())
    assert machine.slug("AMD EPYC (family 26, model 2)", 2) == "amd-epyc-f26-m2-2-cores"


def test_memory_of_a_call_is_seen():
    before = memory.start()
    if before is None:
        pytest.skip("this system does not let a process reset its memory high-water mark")
    block = np.ones(6 << 20)
    del block
    assert 40 << 20 < memory.extra_since(before) < 120 << 20


def test_without_a_gpu_gpu_check_says_so(monkeypatch, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err
