"""The table of definitions names every measure once, and says where they disagree."""

import numpy as np
import pytest

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.metrics import continual
from pyfast_mmcl.metrics.definitions import DEFINITIONS, by_definition, disagreements
from tests.metrics.test_continual import SMALL


def test_the_table_names_what_a_summary_has():
    names = [definition.name for definition in DEFINITIONS]
    assert sorted(names) == sorted(continual.summary(SMALL, [10] * 4)) and len(set(names)) == len(names)
    assert "forward_transfer" not in by_definition(SMALL)["forward transfer"]


def test_values_stand_under_their_word():
    found = by_definition(SMALL, [10] * 4)
    assert found["forgetting"] == {
        "forgetting": pytest.approx(12.3333, abs=5e-5),
        "forgetting_first_last": pytest.approx(12.0),
        "forgetting_including_last": pytest.approx(12.6667, abs=5e-5),
        "forgetting_global_maximum": pytest.approx(15.5),
    }
    assert found["backward transfer"]["backward_transfer_all_stages"] == pytest.approx(-10.8333, abs=5e-5)


def test_the_direction_is_that_of_a_better_matrix():
    """Nothing forgotten against everything forgotten: each measure of keeping moves the way its row says."""
    kept, lost = np.ones((4, 4)), np.eye(4)
    for definition in DEFINITIONS:
        if definition.word in ("accuracy", "forgetting", "backward transfer"):
            better = definition.measure(kept) - definition.measure(lost)
            assert (better > 0) == definition.higher_is_better, definition.name


def test_disagreements():
    assert set(disagreements(SMALL, tolerance=5)) == {"accuracy"}
    assert set(disagreements(SMALL, [10] * 4)) == {"accuracy", "forgetting", "backward transfer", "forward transfer"}
    assert disagreements(np.full((3, 3), 0.5)) == {}
    with pytest.raises(InputError, match="accuracy matrix"):
        disagreements([[1, 2]])
