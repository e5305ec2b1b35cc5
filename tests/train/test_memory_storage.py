"""Codecs within their stated errors, budgets in bytes, and pinned memory."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import Batch
from pyfast_mmcl.train.checkpoint import load_checkpoint, save_checkpoint
from pyfast_mmcl.train.measure import state_bytes
from pyfast_mmcl.train.memory import CODECS, Memory
from tests.check import assert_same_bits, raises_sentence
from tests.train.memory_rows import assert_same_memory, assert_same_rows, fill, rows

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def batch_of(x, name="x"):
    index = torch.arange(len(x))
    return Batch({name: x}, index, index, {name: torch.ones(len(x), dtype=torch.bool)}, index)


def through(codec, x):
    """``x`` [N, …] as a memory gives it back."""
    memory = Memory(max(1, len(x)), codecs={"x": codec})
    memory.add(batch_of(x))
    kept = memory.all()
    return kept.inputs["x"][kept.index.argsort()]


def rounding(dtype, size):
    """What half precision itself loses of numbers of this size."""
    info = torch.finfo(dtype)
    return size * info.eps + info.smallest_normal * info.eps if dtype in (torch.float16, torch.bfloat16) else 0.0


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("codec", ["int8", "int8_channel"])
def test_int8_is_within_half_a_step_of_its_row_or_channel(codec, dtype):
    scales = torch.logspace(-6, 4, 33)[:, None, None] * torch.tensor([1.0, 30.0, 0.01])[:, None]
    x = (torch.randn(33, 3, 17) * scales).to(dtype)
    x[5] = 0
    x[7, 1] = x[7, 1].abs().max()  # every entry is the largest
    x = x.nan_to_num(posinf=1.0, neginf=1.0)
    error = (through(codec, x).double() - x.double()).abs()
    largest = x.double().abs().amax(2 if codec == "int8_channel" else (1, 2), keepdim=True)
    bound = largest / 254 * (1 + 2**-14) + 2**-140 + rounding(dtype, largest)
    assert through(codec, x).dtype == dtype and bool((error <= bound).all())
    if dtype in (torch.float32, torch.float64):
        assert float((error / bound).max()) > 0.9  # the bound is no larger than it must be
    assert through(codec, x)[5].eq(0).all()


def test_int8_of_tiny_and_huge_numbers():
    x = torch.tensor([[1e-45, 0.0], [3e-38, -1e-39], [3e38, -1e38], [1e-40, -1e-40]])
    error = (through("int8", x).double() - x.double()).abs()
    assert bool((error <= x.double().abs().amax(1, keepdim=True) / 254 * (1 + 2**-14) + 2**-140).all())
    assert through("int8", torch.zeros(3, 0)).shape == (3, 0)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fp16_is_within_its_rounding(dtype):
    x = (torch.randn(65, 31) * torch.logspace(-9, 4, 65)[:, None]).to(dtype)
    x = x.nan_to_num(posinf=0.0, neginf=0.0)
    error = (through("fp16", x).double() - x.double()).abs()
    assert bool((error <= 2**-11 * x.double().abs() + 2**-25).all())


@pytest.mark.parametrize("dtype", FLOATS)
def test_uint8_is_within_half_a_step_and_exact_for_bytes(dtype):
    x = torch.rand(64, 5, 5).to(dtype)
    error = (through("uint8", x).double() - x.double()).abs()
    assert bool((error <= 1 / 510 + rounding(dtype, 1.0) + 1e-7).all())
    images = torch.arange(256).reshape(16, 16).to(torch.uint8)
    as_floats = (images.to(torch.float64 if dtype == torch.float64 else torch.float32) / 255).to(dtype)
    assert_same_bits(through("uint8", as_floats), as_floats)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.uint8, torch.bool, torch.int16])
def test_raw_keeps_every_bit(dtype):
    x = torch.randint(-9, 9, (17, 3)).to(dtype)
    if dtype.is_floating_point:
        x[0] = torch.tensor([float("nan"), float("-inf"), -0.0]).to(dtype)
    assert_same_bits(through("raw", x), x)


REFUSED = [
    ("uint8", torch.tensor([[0.5], [1.1]]), ("uint8", "[0, 1]", "'x'")),
    ("uint8", torch.tensor([[float("nan")]]), ("uint8", "'x'")),
    ("fp16", torch.tensor([[7e4]]), ("fp16", "65520")),
    ("int8", torch.tensor([[float("inf")]]), ("int8", "finite")),
    ("int8", torch.tensor([[1e300]], dtype=torch.float64), ("int8", "finite")),
    ("int8", torch.tensor([[1]]), ("int8", "int64", "raw")),
    ("int8_channel", torch.tensor([1.0]), ("channels", "int8")),
]


@pytest.mark.parametrize(("codec", "x", "words"), REFUSED)
def test_what_a_codec_cannot_hold_is_refused_and_nothing_changes(codec, x, words):
    memory = Memory(9, codecs={"x": codec})
    with raises_sentence(InputError, *words):
        memory.add(batch_of(x))
    assert len(memory) == 0 and memory.nbytes == 0
    sound = Memory(9, codecs={"x": codec})
    with pytest.raises(UnknownNameError, match="int8"):
        Memory(3, codecs={"x": "int7"})
    assert len(sound) == 0


@pytest.mark.parametrize("codec", CODECS)
def test_checkpoints_hold_codes_not_values(tmp_path, codec):
    x = torch.rand(50, 3, 8)
    memory = Memory(20, codecs={"x": codec, "y": codec})
    memory.add(batch_of(x), {"y": x})
    save_checkpoint(tmp_path, memory.state_dict())
    other = Memory(20, codecs={"x": codec, "y": codec})
    other.load_state_dict(load_checkpoint(tmp_path))
    assert_same_memory(memory, other)
    assert state_bytes(other.state_dict()) == state_bytes(memory.state_dict()) == memory.nbytes
    for a, b in zip(leaves(memory.state_dict()), leaves(other.state_dict()), strict=True):
        assert_same_bits(a, b)
    # A memory that would store otherwise takes the rows as they are.
    plain = Memory(20)
    plain.load_state_dict(memory.state_dict())
    assert_same_memory(memory, plain)


def leaves(state):
    if isinstance(state, torch.Tensor):
        return [state]
    return [leaf for value in state.values() for leaf in leaves(value)] if isinstance(state, dict) else []


@pytest.mark.parametrize("policy", ["reservoir", "class_balanced", "ring", "priority"])
@pytest.mark.parametrize("codec", ["raw", "int8"])
def test_bytes_are_never_more_than_the_budget(policy, codec):
    memory = Memory(max_bytes=2000, policy=policy, codecs={"image": codec, "logits": codec})
    seen, sizes = 0, []
    for modalities, width in [
        (("image",), 0),
        (("image", "text"), 0),
        (("image", "text", "sound"), 0),
        (("image",), 7),
    ]:
        for _ in range(3):
            batch = rows(range(seen, seen + 60), modalities)
            extras = {"priority": batch.index.float() % 13, **({"logits": torch.ones(60, width)} if width else {})}
            memory.add(batch, extras)
            seen += 60
            sizes.append(memory.capacity)
            assert len(memory) == memory.capacity
            assert memory.nbytes <= 2000 < memory.nbytes + memory.nbytes // len(memory)
            assert state_bytes(memory.state_dict()) == memory.nbytes
            assert allocated(memory) <= 2000
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4


def allocated(memory):
    return sum(state_bytes(c.parts) for c in memory._rows.store.columns.values()) + len(memory) * 16


def test_a_modality_that_comes_later_leaves_what_a_smaller_memory_would_hold():
    memory = Memory(max_bytes=3000)
    memory.add(rows(range(200), ("image",)))
    assert memory.capacity == 3000 // (16 + 1 + 32)
    memory.add(rows(range(200, 203), ("image", "text")))
    smaller = 3000 // (16 + 16 + 2 + 32)
    assert memory.capacity == smaller
    expected = Memory(smaller)
    expected.add(rows(range(200), ("image",)))
    expected.add(rows(range(200, 203), ("image", "text")))
    assert_same_memory(memory, expected)
    # Whatever came first: the columns are those of everything offered.
    other_way = Memory(max_bytes=3000)
    other_way.add(rows(range(200, 203), ("image", "text")))
    other_way.add(rows(range(200), ("image",)))
    assert torch.equal(other_way.index, memory.index)


def test_rows_that_are_turned_away_bring_their_columns_too():
    memory = Memory(max_bytes=700)
    memory.add(rows(range(100), ("image", "text")))
    before = memory.capacity
    worst = next(i for i in range(100, 1000) if i not in keepers(i, before))
    memory.add(rows([worst], ("image", "sound")))
    assert worst not in memory.index.tolist() and memory.capacity < before
    assert not memory.all().present["sound"].any()


def keepers(index, capacity):
    return fill(Memory(capacity), torch.tensor([*range(100), index]), 200).index.tolist()


def test_budgets_that_make_no_sense():
    with raises_sentence(InputError, "capacity", "max_bytes"):
        Memory()
    memory = Memory(max_bytes=50)
    with raises_sentence(InputError, "50", "codecs"):
        memory.add(rows(range(3)))
    assert len(memory) == 0 and memory.capacity is None
    both = Memory(3, max_bytes=10**6)
    both.add(rows(range(9)))
    assert len(both) == both.capacity == 3
    with raises_sentence(InputError, "max_bytes", "whole number"):
        Memory(max_bytes=1.5)


def test_an_error_leaves_a_smaller_budget_unspent():
    memory = Memory(max_bytes=2000, codecs={"sound": "int8"})
    memory.add(rows(range(100), ("image", "text")))
    before = memory.all()
    bad = rows(range(100, 200), ("image", "sound"))
    bad.inputs["sound"][:] = float("nan")
    with raises_sentence(InputError, "finite", "sound"):
        memory.add(bad)
    assert_same_rows(memory.all(), before)


def test_pinned_memory_needs_a_gpu():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with raises_sentence(InputError, "pinned", "CUDA"):
        Memory(3, storage="pinned")
    with pytest.raises(UnknownNameError, match="memmap"):
        Memory(3, storage="memmapp")


@pytest.mark.gpu
@pytest.mark.parametrize("storage", ["device", "pinned"])
def test_memories_of_a_gpu_hold_what_those_of_the_cpu_hold(storage):
    memory = Memory(40, device="cuda", storage=storage, codecs={"image": "int8"})
    plain = Memory(40, codecs={"image": "int8"})
    for start in range(0, 400, 20):
        batch = rows(range(start, start + 20))
        memory.add(batch.to("cuda") if start % 40 else batch)
        plain.add(batch)
    for seed in range(20):
        drawn = memory.sample(16, torch.Generator().manual_seed(seed))
        assert drawn.device.type == "cuda"
        assert_same_rows(drawn.to("cpu"), plain.sample(16, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("policy", ["reservoir", "priority", "class_balanced"])
def test_wider_extras_take_their_room_from_the_rows(policy):
    def logits(index, width=2):
        return {"logits": torch.ones(len(index), width), "priority": index.float() % 5}

    memory = fill(Memory(max_bytes=2000, policy=policy, codecs={"logits": "int8"}), torch.arange(90), 30, extras=logits)
    before = memory.capacity
    memory.widen("logits", 40)
    assert len(memory) == memory.capacity < before and memory.nbytes <= 2000 and allocated(memory) <= 2000
    smaller = fill(Memory(memory.capacity, policy=policy), torch.arange(90), 30, extras=logits)
    assert torch.equal(memory.index, smaller.index)
    kept = memory.all().extras["logits"]
    assert kept[:, :2].eq(1).all() and kept[:, 2:].eq(0).all()


def test_rows_travel_to_where_the_columns_lie():
    # Device "meta" refuses rows of another device as a GPU does.
    memory = Memory(4, device="meta", codecs={"image": "int8"})
    memory.add(rows(range(9)), {"logits": torch.ones(9, 2)})
    assert len(memory) == 4 and memory.all().extras["logits"].device.type == "meta"
