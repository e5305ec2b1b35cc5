"""Costs are counted, not guessed."""

import resource
import sys
from pathlib import Path

import pytest
import torch

from pyfast_mmcl.train.measure import peak_memory, state_bytes


def test_bytes_of_nested_states():
    state = {
        "a": torch.zeros(3),
        "b": [torch.zeros(2, dtype=torch.int64), {"c": torch.zeros(5, dtype=torch.bool)}],
        "n": 3,
    }
    assert state_bytes(state) == 12 + 16 + 5


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident size from /proc")
def test_peak_memory_is_at_least_what_the_process_holds_now():
    block = torch.ones(16 << 20)
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    # The kernel counts in batches, so the two may differ by a little.
    assert resident > block.nbytes and peak_memory(torch.device("cpu")) > 0.95 * resident
