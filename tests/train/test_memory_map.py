"""Memory maps: the rows of a plain memory, states that survive anything, and errors instead of lost rows."""

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from pyfast_mmcl._errors import CheckpointError, InputError
from pyfast_mmcl.data import digits_stream
from pyfast_mmcl.train import Learner, Part, default_model
from pyfast_mmcl.train.checkpoint import load_checkpoint, save_checkpoint
from pyfast_mmcl.train.measure import state_bytes
from pyfast_mmcl.train.memory import Memory
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from tests.check import assert_same_bits, raises_sentence
from tests.train.memory_rows import assert_same_memory, assert_same_rows, fill, rows

ROOT = Path(__file__).resolve().parents[2]


def mapped(folder, capacity=40, **kwargs):
    return Memory(capacity, storage="memmap", folder=folder, seed=3, **kwargs)


def files(folder):
    return list(folder.rglob("*.bin"))


@pytest.mark.parametrize("policy", ["reservoir", "ring", "class_balanced"])
def test_a_map_holds_what_a_plain_memory_holds(tmp_path, policy):
    codecs = {"image": "int8", "priority": "fp16"}
    extras = {"extras": lambda index: {"priority": (index % 9).float()}}
    on_disk = fill(mapped(tmp_path, policy=policy, codecs=codecs), torch.arange(300), 13, **extras)
    plain = fill(Memory(40, policy=policy, seed=3, codecs=codecs), torch.arange(300), 13, **extras)
    assert_same_memory(on_disk, plain)
    assert on_disk.nbytes == plain.nbytes
    # What a run says it keeps counts the files: the bytes of a plain memory, and a slot and a stamp per row.
    assert state_bytes(on_disk.state_dict()) == state_bytes(plain.state_dict()) + 40 * 16
    for draw in ({}, {"by": "priority", "beta": 0.5}):
        a, b = (m.sample(9, torch.Generator().manual_seed(4), **draw) for m in (on_disk, plain))
        assert_same_rows(a, b)


def test_files_grow_with_the_rows(tmp_path):
    memory = mapped(tmp_path, capacity=10**7)
    memory.add(rows(range(100)))
    assert sum(path.stat().st_size for path in files(tmp_path)) < 10_000
    fill(memory, torch.arange(5000), 500)
    assert len(memory) == 5000 and sum(path.stat().st_size for path in files(tmp_path)) < 10**6


def test_a_state_keeps_its_rows_while_the_stream_goes_on(tmp_path):
    memory = fill(mapped(tmp_path / "map"), torch.arange(100), 10, extras=lambda i: {"priority": i.float()})
    save_checkpoint(tmp_path / "saved", memory.state_dict())
    before = memory.all()
    memory.add(rows(range(100, 200), ("text", "sound")), {"priority": torch.zeros(100), "late": torch.ones(100, 2)})
    memory.update(memory.index, {"priority": torch.full((len(memory),), -1.0)})
    assert set(memory.index.tolist()) != set(before.index.tolist())
    resumed = mapped(tmp_path / "map")
    resumed.load_state_dict(load_checkpoint(tmp_path / "saved"))
    assert_same_rows(resumed.all(), before)
    # The bytes of the checkpoint are those of ids, keys and slots, whatever a row takes.
    assert sum(p.stat().st_size for p in (tmp_path / "saved").glob("*.safetensors")) < 40 * 4 * 8 + 2000


def test_the_last_two_states_can_be_resumed_and_older_ones_are_refused(tmp_path):
    memory, states, contents = mapped(tmp_path, policy="ring", capacity=10), [], []
    for start in range(0, 60, 10):
        memory.add(rows(range(start, start + 10)))
        states.append(memory.state_dict())
        assert memory.state_dict()["map"] is states[-1]["map"]  # nothing new: no further generation
        contents.append(memory.all())
    other = mapped(tmp_path, policy="ring", capacity=10)
    for state, content in list(zip(states, contents, strict=True))[-2:]:
        other.load_state_dict(state)
        assert_same_rows(other.all(), content)
    for state in states[:-2]:
        with raises_sentence(CheckpointError, "overwritten", "last checkpoint"):
            other.load_state_dict(state)
        assert_same_rows(other.all(), contents[-1])  # what it held before
    sizes = {path.stat().st_size for path in files(tmp_path) if path.name == "stamps.bin"}
    assert max(sizes) <= 8 * 40  # two generations beside the rows, rounded up by doubling


def test_resuming_from_a_state_and_going_on_is_the_run_itself(tmp_path):
    index = torch.randperm(500)
    memory = fill(mapped(tmp_path), index[:200], 10)
    state = memory.state_dict()
    fill(memory, index[200:300], 10)
    memory.state_dict()
    fill(memory, index[300:350], 10)  # lost with the process
    resumed = mapped(tmp_path)
    resumed.load_state_dict(state)
    assert_same_memory(fill(resumed, index[200:], 33), fill(Memory(40, seed=3), index, 500))


def test_states_move_between_plain_memories_and_maps(tmp_path):
    plain = fill(Memory(40, seed=3), torch.arange(90), 90)
    memory = mapped(tmp_path)
    memory.load_state_dict(plain.state_dict())
    assert_same_memory(memory, plain)
    assert_same_memory(fill(memory, torch.arange(300), 50), fill(plain, torch.arange(300), 50))
    with raises_sentence(InputError, "memory map", "memmap", "folder"):
        Memory(40, seed=3).load_state_dict(memory.state_dict())
    empty = mapped(tmp_path)
    empty.load_state_dict(Memory(40, seed=9).state_dict())
    assert len(empty) == 0 and empty.seed == 9
    empty.add(rows(range(5)))


def test_two_memories_in_one_folder_do_not_meet(tmp_path):
    first, second = (fill(mapped(tmp_path, policy="ring"), torch.arange(s, s + 60), 7) for s in (0, 1000))
    assert_same_memory(first, fill(Memory(40, policy="ring"), torch.arange(60), 7))
    assert_same_memory(second, fill(Memory(40, policy="ring"), torch.arange(1000, 1060), 7))


def test_a_smaller_budget_keeps_a_state_alive(tmp_path):
    memory = Memory(max_bytes=3000, storage="memmap", folder=tmp_path)
    memory.add(rows(range(100), ("image", "text")))
    state, before, capacity = memory.state_dict(), memory.all(), memory.capacity
    memory.add(rows(range(100, 130), ("image", "text", "sound")))
    assert memory.capacity < capacity and memory.nbytes <= 3000
    plain = Memory(max_bytes=3000)
    plain.add(rows(range(100), ("image", "text")))
    plain.add(rows(range(100, 130), ("image", "text", "sound")))
    assert_same_memory(memory, plain)
    other = Memory(max_bytes=3000, storage="memmap", folder=tmp_path)
    other.load_state_dict(state)
    assert_same_rows(other.all(), before)


def missing_file(folder, state):
    next(p for p in files(folder) if p.name != "stamps.bin").unlink()


def short_file(folder, state):
    path = next(p for p in files(folder) if p.name != "stamps.bin")
    path.write_bytes(path.read_bytes()[:-1])


def no_folder(folder, state):
    folder.rename(folder.with_name("elsewhere"))


def lost_slots(folder, state):
    state["map"]["slots"] = state["map"]["slots"] * 0


def no_stamps(folder, state):
    del state["map"]["stamps"]


def wrong_stamps(folder, state):
    state["map"]["stamps"] = state["map"]["stamps"] + 1


@pytest.mark.parametrize("damage", [missing_file, short_file, no_folder, lost_slots, no_stamps, wrong_stamps])
def test_damage_is_an_error_and_nothing_is_lost(tmp_path, damage):
    state = fill(mapped(tmp_path / "map"), torch.arange(90), 30).state_dict()
    state["map"] = dict(state["map"])
    other = fill(mapped(tmp_path / "other"), torch.arange(90), 30)
    before = other.all()
    victim = mapped(tmp_path / "map")
    damage(tmp_path / "map", state)
    with raises_sentence(CheckpointError):
        victim.load_state_dict(state)
    assert len(victim) == 0
    assert_same_rows(other.all(), before)
    victim.add(rows(range(3)))


def test_a_full_disk_is_an_error_and_nothing_is_lost(tmp_path):
    memory = fill(mapped(tmp_path, capacity=10**6), torch.arange(200), 50)
    state, before, number = memory.state_dict(), memory.all(), len(files(tmp_path))
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(p.stat().st_size for p in files(tmp_path)), hard))
    try:
        with raises_sentence(InputError, "no room", "free space"):
            memory.add(rows(range(200, 5000)))
        with raises_sentence(InputError, "no room"):
            memory.add(rows([900]), {"wide": torch.zeros(1, 10**5)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, was)
    assert_same_rows(memory.all(), before)
    fill(memory, torch.arange(200, 400), 50)  # there is room again
    assert len(memory) == 400 and len(files(tmp_path)) >= number
    other = mapped(tmp_path, capacity=10**6)
    other.load_state_dict(state)
    assert_same_rows(other.all(), before)


def test_files_that_are_deleted_in_use_are_no_rows_of_zeros(tmp_path):
    memory = fill(mapped(tmp_path, capacity=1000), torch.arange(10), 10)
    before = memory.all()
    for path in files(tmp_path):
        path.unlink()
    with raises_sentence(InputError, "deleted"):
        memory.add(rows(range(10, 300)))
    assert_same_rows(memory.all(), before)
    with raises_sentence(CheckpointError, "cannot be written"):
        memory.state_dict()


def test_of_two_memories_that_resume_from_one_state_one_goes_on(tmp_path):
    state = fill(mapped(tmp_path), torch.arange(60), 20).state_dict()
    first, second = mapped(tmp_path), mapped(tmp_path)
    for memory in (first, second):
        memory.load_state_dict(state)
    assert_same_memory(first, second)  # nobody has written yet
    fill(first, torch.arange(60, 300), 20)
    for use in (second.all, second.state_dict, lambda: fill(second, torch.arange(300, 900), 99)):
        with raises_sentence(InputError, "another memory", "last checkpoint"):
            use()
    assert_same_memory(first, fill(Memory(40, seed=3), torch.arange(300), 50))


def test_rows_that_may_be_overwritten_are_not_read(tmp_path):
    memory = fill(mapped(tmp_path, policy="ring"), torch.arange(40), 40)
    reader = mapped(tmp_path, policy="ring")
    reader.load_state_dict(memory.state_dict())
    before = reader.all()
    for start in range(40, 400, 40):
        fill(memory, torch.arange(start, start + 40), 40)
        memory.state_dict()
        if start == 40:
            assert_same_rows(reader.all(), before)
    with raises_sentence(InputError, "another memory"):
        reader.all()


def test_files_that_may_not_be_written(tmp_path, monkeypatch):
    state = fill(mapped(tmp_path), torch.arange(60), 20).state_dict()

    def refuse(*args, **kwargs):
        raise RuntimeError("unable to open file in read-write mode: Read-only file system (30)")

    monkeypatch.setattr(torch, "from_file", refuse)  # what torch says of a file without permission to write
    memory = mapped(tmp_path)
    with raises_sentence(InputError, "memory map", "Read-only", "writable"):
        memory.load_state_dict(state)
    assert len(memory) == 0


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("no folder")
    memory = mapped(tmp_path / "file" / "map")
    with raises_sentence(InputError, "memory map", "choose another folder"):
        memory.add(rows(range(3)))
    assert len(memory) == 0
    for wrong in ({"storage": "memmap"}, {"folder": tmp_path}):
        with raises_sentence(InputError, "memmap", "folder"):
            Memory(3, **wrong)


KILLED = """
import sys, torch
from pyfast_mmcl.train.checkpoint import save_checkpoint
from pyfast_mmcl.train.memory import Memory
from tests.train.memory_rows import rows
memory = Memory(40, storage="memmap", folder=sys.argv[1] + "/map", seed=3)
for start in range(0, 10**6, 20):
    memory.add(rows(range(start, start + 20)), {"priority": torch.rand(20)})
    memory.update(memory.index[:9], {"priority": torch.rand(len(memory.index[:9]))})
    if start % 60 == 0:
        save_checkpoint(sys.argv[1] + "/saved", {"memory": memory.state_dict(), "start": start})
        print(start, flush=True)
"""


def test_a_killed_process_leaves_a_state_that_can_be_resumed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, stdout=subprocess.PIPE)
    for _ in range(4):
        process.stdout.readline()
    time.sleep(0.01)
    process.kill()
    process.wait()
    saved = load_checkpoint(tmp_path / "saved")
    memory = mapped(tmp_path / "map")
    memory.load_state_dict(saved["memory"])
    expected = fill(Memory(40, seed=3), torch.arange(saved["start"] + 20), 20).all()
    kept = memory.all()
    kept.extras.clear()
    assert_same_rows(kept, expected)
    fill(memory, torch.arange(saved["start"], saved["start"] + 400), 50)
    assert torch.equal(memory.index, fill(Memory(40, seed=3), torch.arange(saved["start"] + 400), 50).index)


@pytest.mark.parametrize("codec", ["raw", "int8"])
def test_wider_extras_leave_earlier_states_alone(tmp_path, codec):
    memory = fill(
        mapped(tmp_path, codecs={"logits": codec}),
        torch.arange(90),
        30,
        extras=lambda i: {"logits": i[:, None].float()},
    )
    state, before = memory.state_dict(), memory.all()
    memory.widen("logits", 4)
    memory.add(rows(range(90, 120)), {"logits": torch.ones(30, 4)})
    assert memory.all().extras["logits"].shape == (40, 4)
    again = mapped(tmp_path)
    again.load_state_dict(memory.state_dict())
    assert_same_memory(again, memory)
    other = mapped(tmp_path)
    other.load_state_dict(state)
    assert_same_rows(other.all(), before)


def test_a_column_of_a_map_is_widened_in_its_files(tmp_path, monkeypatch):
    memory = fill(mapped(tmp_path), torch.arange(90), 30, extras=lambda i: {"logits": i[:, None].float()})
    made = []
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, **how: made.append(size) or zeros(*size, **how))
    memory.widen("logits", 4)
    assert not [size for size in made if "4" in str(size)]


class Stopped(BaseException):
    """Not an error that anybody handles."""


class Stop(Part):
    """Ends the run at a step."""

    def __init__(self, step):
        self.step_ = step  # with an underscore: where a run ends is no setting of it

    def after_step(self, learner, batch, out):
        if learner.step == self.step_:
            raise Stopped


def run_of(tmp_path, storage, stop, resume=False):
    """A run of experience replay; the memory lies in a map or not."""
    stream = digits_stream(n_tasks=2)
    memory = {"storage": "memmap", "folder": tmp_path / "map"} if storage == "memmap" else {}
    torch.manual_seed(0)
    learner = Learner(
        default_model(stream),
        [Replay(50, **memory), CrossEntropy(), Stop(stop)],
        epochs=1,
        batch_size=64,
        device="cpu",
        progress=False,
        checkpoint_dir=tmp_path / f"run-{storage}",
        checkpoint_every=3,
    )
    try:
        learner.fit(stream, resume=resume)
    except Stopped:
        return None
    return learner


def test_a_run_with_a_map_that_stops_and_resumes_gives_the_bits_of_a_plain_one(tmp_path):
    plain = run_of(tmp_path, "device", -1)
    total = plain.step
    for stop in (2, total // 2 + 1, total - 1):
        folder = tmp_path / str(stop)
        assert run_of(folder, "memmap", stop) is None
        resumed = run_of(folder, "memmap", -1, resume=True)
        assert resumed.history.losses == plain.history.losses
        for a, b in zip(resumed.model.parameters(), plain.model.parameters(), strict=True):
            assert_same_bits(a, b)
        assert_same_memory(resumed.parts[0].memory_, plain.parts[0].memory_)
