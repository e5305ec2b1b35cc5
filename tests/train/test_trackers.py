"""Trackers get every epoch and task, a file of lines is never half, and a resumed run writes the same lines."""

import csv
from typing import Any, ClassVar

import pytest
import torch

from pyfast_mmcl._errors import CheckpointError, InputError, UnknownNameError
from pyfast_mmcl.data import Records, Stream
from pyfast_mmcl.train import Learner, Part, default_model, trackers
from pyfast_mmcl.train.trackers import CsvLog
from tests.check import raises_sentence

TIMES = ("cost/seconds_per_task", "cost/peak_memory")


@pytest.fixture(scope="module")
def stream():
    target = torch.arange(120) % 4
    columns = {"a": torch.randn(120, 5, generator=torch.Generator().manual_seed(1)) + target[:, None]}
    return Stream.from_dataset(Records(columns, target), n_tasks=2, validation=0.2)


def lines(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def learner(stream, **settings):
    return Learner(default_model(stream), "er", epochs=2, device="cpu", progress=False, **settings)


class Recorder:
    """A tracker of one's own."""

    def __init__(self):
        self.calls, self.finished = [], False

    def log(self, values, step):
        self.calls.append((step, dict(values)))

    def finish(self):
        self.finished = True


def test_trackers_are_told_every_epoch_and_task(stream, tmp_path):
    recorder = Recorder()
    history = learner(stream, trackers=["csv", recorder], log_dir=tmp_path, patience=5).fit(stream)
    assert recorder.finished and len(recorder.calls) == 2 * 2 + 2
    assert recorder.calls[0][1] == {"loss/objective": history.losses[0]["terms"]["objective"],
                                    "validation": history.losses[0]["validation"]}  # fmt: skip
    last = recorder.calls[-1][1]
    assert [last["accuracy/task 1"], last["accuracy/task 2"]] == history.accuracy[-1]
    assert last["accuracy/tasks seen"] == sum(history.accuracy[-1]) / 2
    assert {name: value for name, value in last.items() if name.startswith("cost/")} == {
        f"cost/{name}": value for name, value in history.cost().items()
    }
    table = lines(tmp_path / "log.csv")
    told = [[str(step), name, repr(value)] for step, values in recorder.calls for name, value in values.items()]
    assert table == [["step", "name", "value"], *told]


def test_a_killed_run_resumed_has_the_lines_of_a_whole_one(stream, tmp_path):
    class Kill(Part):
        def __init__(self, step):
            self.step = step

        def extend(self, learner, batch):
            if learner.step == self.step:
                raise KeyboardInterrupt
            return batch

    def run(folder, kill=-1, resume=False):
        made = learner(stream, trackers="csv", checkpoint_dir=tmp_path / folder)
        made.parts.append(Kill(kill))
        made.fit(stream, resume=resume)

    def without_times(path):
        return [line for line in lines(path) if line[1] not in TIMES]

    run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("run", kill=5)
    log = tmp_path / "run" / "logs" / "log.csv"
    # Lines behind the last checkpoint, as a kill between the two writes leaves them.
    log.write_text(log.read_text() + "900,loss/objective,1.0\n")
    run("run", resume=True)
    assert without_times(log) == without_times(tmp_path / "whole" / "logs" / "log.csv")


def test_a_foreign_file_is_not_overwritten(tmp_path):
    (tmp_path / "log.csv").write_text("a,b\n1,2\n")
    with raises_sentence(CheckpointError, "log.csv", "move the file away"):
        CsvLog(tmp_path, step=3)


class Fake:
    """Stands for a tracker of accelerate, whose package need not be installed."""

    made: ClassVar[list[Any]] = []
    requires_logging_directory = True

    def __init__(self, run_name, logging_dir, **settings):
        self.run_name, self.logging_dir, self.settings, self.calls = run_name, logging_dir, settings, []
        Fake.made.append(self)

    def start(self):
        self.calls.append("start")

    def store_init_configuration(self, values):
        self.calls.append(values)

    def log(self, values, step=None, **settings):
        self.calls.append((step, values))

    def finish(self):
        self.calls.append("finish")


def test_trackers_of_accelerate_are_opened_told_and_ended(stream, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "_kind", lambda name: Fake)
    learner(stream, trackers=["tensorboard"], checkpoint_dir=tmp_path, hyper={"capacity": 9}).fit(stream)
    fake = Fake.made[-1]
    assert fake.run_name == "pyfast_mmcl" and fake.logging_dir == str(tmp_path / "logs") and fake.settings == {}
    assert fake.calls[0] == "start" and fake.calls[-1] == "finish" and len(fake.calls) == 2 + 1 + 6
    assert fake.calls[1]["method"] == "er" and fake.calls[1]["capacity"] == 9 and fake.calls[1]["folder"] == "None"
    learner(stream, trackers=["tensorboard"], checkpoint_dir=tmp_path, hyper={"capacity": 9}).fit(stream, resume=True)
    assert Fake.made[-1].settings["purge_step"] == fake.calls[-2][0] + 1


def test_trackers_lent_by_an_accelerator_are_told_and_left_open(stream, accelerator):
    recorder = Recorder()

    class Lender:
        """An accelerator that was made with ``log_with``."""

        def __init__(self, real):
            self.real, self.log_with, self.trackers = real, ["recorder"], []

        def init_trackers(self, project, config):
            self.trackers = [recorder]

        def __getattr__(self, name):
            return getattr(self.real, name)

    Learner(default_model(stream), "er", epochs=2, accelerator=Lender(accelerator()), progress=False).fit(stream)
    assert len(recorder.calls) == 6 and not recorder.finished


def test_tensorboard_writes_its_files(stream, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    learner(stream, trackers="tensorboard", checkpoint_dir=tmp_path).fit(stream)
    assert list((tmp_path / "logs" / "pyfast_mmcl").rglob("events*"))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ("tensorbord", UnknownNameError, "tensorboard"),
        ([3], InputError, "objects with log"),
        ("csv", InputError, "log_dir or checkpoint_dir"),
    ],
)
def test_what_is_no_tracker_is_refused_in_a_sentence(stream, given, error, words):
    with raises_sentence(error, words):
        learner(stream, trackers=given).fit(stream)


def test_a_tracker_without_its_package_says_what_to_install(stream):
    from accelerate.tracking import get_available_trackers

    there = [str(getattr(kind, "value", kind)) for kind in get_available_trackers()]
    missing = next(name for name in ("dvclive", "aim", "clearml") if name not in there)
    with raises_sentence(InputError, f"pip install {missing}"):
        learner(stream, trackers=missing)
