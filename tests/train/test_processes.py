"""Two processes started by ``accelerate launch`` train what one process trains, up to rounding."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics.clustering import clustering_accuracy
from pyfast_mmcl.train import Learner, default_model
from pyfast_mmcl.train.checkpoint import load_checkpoint
from tests.check import raises_sentence
from tests.test_cli import call
from tests.train.process_jobs import ALIKE, CLUSTERS, COMMAND, RUNS, cluster, make_stream, run

ROOT = Path(__file__).parents[2]
WORLD = 2


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """(weights, histories) of every process, after one launch for all runs."""
    folder = tmp_path_factory.mktemp("processes")
    # Accelerate starts several processes of a CPU through MPI alone; its launcher of many devices needs no GPU.
    launch = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", str(WORLD), "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    job = [str(ROOT / "tests" / "train" / "process_jobs.py"), str(folder)]
    done = subprocess.run(
        [sys.executable, *launch, *job], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = range(WORLD)
    weights = [load_file(folder / f"weights-{rank}.safetensors") for rank in ranks]
    return folder, weights, [json.loads((folder / f"histories-{rank}.json").read_text()) for rank in ranks]


@pytest.mark.parametrize("name", sorted(RUNS))
def test_two_processes_train_what_one_trains(together, name):
    _, weights, histories = together
    alone, history = run(name, device="cpu")
    assert [found["world"] for found in histories] == [WORLD] * WORLD
    for values, found in zip(weights, histories, strict=True):
        torch.testing.assert_close(values[name], alone, rtol=1e-9, atol=1e-9)
        theirs = found["runs"][name]
        assert theirs["accuracy"] == history["accuracy"] and theirs["initial"] == history["initial"]
        for mine, other in zip(history["losses"], theirs["losses"], strict=True):
            assert mine["terms"] == pytest.approx(other["terms"], rel=1e-9, abs=1e-12)


def test_the_processes_end_with_the_same_bits(together):
    _, weights, _ = together
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in RUNS)


def test_a_checkpoint_is_that_of_the_whole_run(together):
    folder, weights, _ = together
    state = load_checkpoint(folder / "er")
    assert torch.equal(torch.cat([x.flatten() for x in state["model"].values()]), weights[0]["er"])
    assert state["position"]["task"] == 3


def test_the_command_line_runs_over_the_processes_it_was_launched_with(together, tmp_path):
    folder, _, histories = together
    assert [found["code"] for found in histories] == [0] * WORLD
    assert call("train", "--out", tmp_path / "alone", *COMMAND)[0] == 0
    ours, alone = (json.loads((path / "history.json").read_text()) for path in (folder / "cli", tmp_path / "alone"))
    assert ours["hyper"]["processes"] == WORLD and (folder / "cli" / "logs" / "log.csv").is_file()
    # In float32 the weights differ by rounding, and a row may fall on the other side of a decision.
    torch.testing.assert_close(torch.tensor(ours["accuracy"]), torch.tensor(alone["accuracy"]), atol=0.02, rtol=0)


def clusters_of(folder, rank):
    return load_file(folder / f"clusters-{rank}.safetensors")


def test_deep_estimators_end_with_the_same_bits_on_every_process(together):
    folder, *_ = together
    first, second = (clusters_of(folder, rank) for rank in range(WORLD))
    assert {name.split("/")[0] for name in first} == set(CLUSTERS)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["dec", "imsat", "rim", "unseeded", "vade"])
def test_deep_estimators_find_the_groups_together(together, name):
    labels = clusters_of(together[0], 0)[f"{name}/labels"]
    truth = torch.arange(len(labels)) % 3
    assert clustering_accuracy(truth, labels) == 1.0


@pytest.mark.parametrize("name", sorted(ALIKE))
def test_deep_estimators_learn_as_one_process_does(together, name):
    folder, *_ = together
    found, alone = clusters_of(folder, 0), cluster(name)
    for kind in ("losses", "soft"):
        torch.testing.assert_close(found[f"{name}/{kind}"], alone[kind], rtol=2e-3, atol=2e-4)


def test_one_process_goes_on_where_two_have_saved(together):
    folder, *_ = together
    before = load_checkpoint(folder / "dec")["network"]
    again = cluster("dec", folder / "dec", resume=True)
    assert all(torch.equal(again[name], values) for name, values in before.items())


@pytest.mark.parametrize(
    ("kind", "steps", "words"),
    [
        ("FSDP", 1, "expected processes with a whole model each, got FSDP"),
        ("NO", 4, "gradient_accumulation_steps=1, got 4"),
    ],
)
def test_launchers_that_split_models_or_steps_are_refused(kind, steps, words):
    accelerator = SimpleNamespace(
        process_index=0, num_processes=2, distributed_type=SimpleNamespace(name=kind), device=torch.device("cpu"),
        gradient_accumulation_steps=steps, mixed_precision="no",
    )  # fmt: skip
    with raises_sentence(InputError, words):
        Learner(default_model(make_stream()), "er", accelerator=accelerator)
