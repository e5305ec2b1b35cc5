"""What a run borrows it gives back, also after an error."""

import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.train.isolate import choose_device, isolated, seed_torch

CPU = torch.device("cpu")


def test_random_state_and_threads_come_back_after_an_error():
    torch.set_num_threads(2)
    state = torch.random.get_rng_state()
    with pytest.raises(RuntimeError), isolated(CPU, 1):
        assert torch.get_num_threads() == 1
        torch.rand(3)
        raise RuntimeError
    assert torch.get_num_threads() == 2 and torch.equal(torch.random.get_rng_state(), state)


def test_no_number_of_threads_leaves_them_alone():
    torch.set_num_threads(2)
    with isolated(CPU, None):
        assert torch.get_num_threads() == 2


def test_seeding_decides_what_layers_draw():
    draws = []
    for seed in (5, 5, 6):
        seed_torch(CPU, seed)
        draws.append(torch.nn.functional.dropout(torch.ones(100), 0.5))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_devices():
    assert choose_device("cpu") == CPU
    assert choose_device(None).type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(InputError, match="'nowhere'"):
        choose_device("nowhere")


@pytest.mark.parametrize("name", ["cuda:99", "mps", "xpu"])
def test_devices_that_are_not_here_are_refused(name):
    here = {"cuda:99": False, "mps": torch.backends.mps.is_available(), "xpu": torch.xpu.is_available()}
    if here[name]:
        pytest.skip(f"there is {name} here")
    with pytest.raises(InputError, match=f"{name} was asked for"):
        choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            choose_device("cuda:0")
