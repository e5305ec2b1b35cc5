"""Columns and row-by-row datasets give the same batches; bad input is named."""

import numpy as np
import pytest
import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Records, RowRecords
from pyfast_mmcl.data.images import pixels

ROWS = [
    {"image": np.full((1, 2, 2), i, dtype=np.float32), "text": torch.tensor([i, i]), "target": i % 3} for i in range(6)
]
ROWS[2] = {"text": torch.tensor([2, 2]), "target": 2}
ROWS[4] = {"image": np.full((1, 2, 2), 4, dtype=np.float32), "text": None, "target": 1}


class ManyAtOnce(list):
    """A dataset with torch's batched fetch."""

    def __getitems__(self, rows):
        self.asked = rows
        return [self[row] for row in rows]


def test_columns_and_rows_agree():
    rows, columns = RowRecords(ROWS), Records.stack(ROWS)
    assert rows.modalities == columns.modalities == ("image", "text") and len(rows) == len(columns) == 6
    wanted = torch.tensor([4, 2, 0])
    for ours, theirs in zip(rows.gather(wanted), columns.gather(wanted), strict=True):
        if isinstance(ours, dict):
            assert all(torch.equal(ours[m], theirs[m]) for m in ours)
        else:
            assert torch.equal(ours, theirs)
    inputs, present, target = rows.gather(wanted)
    assert present["image"].tolist() == [True, False, True] and present["text"].tolist() == [False, True, True]
    assert inputs["image"][1].eq(0).all() and target.tolist() == [1, 2, 0]


def test_a_record_is_a_dictionary_without_its_missing_modalities():
    row = Records.stack(ROWS)[2]
    assert set(row) == {"text", "target"} and int(row["target"]) == 2


def test_hidden_values_are_blanked():
    records = Records({"x": torch.ones(2, 3)}, [0, 1], present={"x": [True, False]})
    assert records.gather(torch.arange(2))[0]["x"].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_targets_given_spare_the_pass_over_the_data():
    class Counting(list):
        reads = 0

        def __getitem__(self, row):
            self.reads += 1
            return super().__getitem__(row)

    data = Counting(ROWS)
    RowRecords(data, target=[0, 1, 2, 0, 1, 2])
    assert data.reads == 1


def test_batched_fetch_is_used():
    data = ManyAtOnce(ROWS)
    RowRecords(data).gather(torch.tensor([3, 1]))
    assert data.asked == [3, 1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Records({}, [0]), "at least one modality"),
        (lambda: Records({"target": torch.ones(1, 1)}, [0]), "no modality name"),
        (lambda: Records({"x": torch.ones(2, 1)}, [0]), "equal lengths"),
        (lambda: Records({"x": torch.ones(1, 1)}, [0], present={"y": [True]}), "no modalities"),
        (lambda: Records({"x": torch.tensor([[1.0], [float("nan")]])}, [0, 1]), "not finite in row 1"),
        (lambda: Records({"x": torch.ones(2, 1)}, [0.5, 1.5]), "integer labels"),
        (lambda: Records({"x": torch.ones(2, 1)}, [-1, 1]), "from 0"),
        (lambda: Records({"x": torch.ones(0, 1)}, torch.ones(0, dtype=torch.int64)), "integer labels"),
        (lambda: RowRecords([]), "empty dataset"),
        (lambda: RowRecords(iter(ROWS)), "indexing"),
        (lambda: RowRecords([(1, 2)]), "row 0 must be a dictionary"),
        (lambda: RowRecords([{"x": torch.ones(1)}]), "with a 'target'"),
        (lambda: RowRecords(ROWS, target=[1]), "one target per row"),
        (lambda: Records.stack([{"x": torch.ones(n), "target": 0} for n in (1, 2)]), "one shape"),
    ],
)
def test_bad_datasets_are_refused_in_a_sentence(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_nan_in_a_row_marked_missing_is_no_error():
    records = Records({"x": torch.tensor([[1.0], [float("nan")]])}, [0, 1], present={"x": [True, False]})
    assert records.gather(torch.arange(2))[0]["x"].tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Records({"x": np.array(["a", "b"])}, [0, 1]), "modality 'x' is no array of numbers"),
        (lambda: Records({"x": torch.ones(2, 1)}, ["a", "b"]), "target is no array of numbers"),
        (lambda: Records({"x": torch.ones(2, 1, dtype=torch.complex64)}, [0, 1]), "complex"),
        (lambda: RowRecords([{"x": "cat", "target": 0}]), "modality 'x' is no array of numbers"),
        (lambda: RowRecords([{"x": [1.0], "target": t} for t in ([0], [0, 1])]), "pad them"),
        (lambda: RowRecords([{"x": [float("nan")], "target": 0}]).gather(torch.tensor([0])), "not finite in row 0"),
    ],
)
def test_values_that_are_no_numbers_are_refused_in_a_sentence(make, words):
    with pytest.raises(InputError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_columns_may_be_prepared_when_rows_are_read():
    bytes_ = torch.arange(12, dtype=torch.uint8).reshape(4, 3)
    records = Records({"x": bytes_}, [0, 1, 0, 1], present={"x": [True, False, True, True]}, prepare={"x": pixels})
    inputs, _, _ = records.gather(torch.tensor([3, 1]))
    assert torch.equal(inputs["x"], torch.stack([bytes_[3] / 255, torch.zeros(3)]))
    assert torch.equal(records[2]["x"], bytes_[2] / 255) and "x" not in records[1]
    with pytest.raises(InputError, match="prepare names"):
        Records({"x": bytes_}, [0, 1, 0, 1], prepare={"y": pixels})


def test_an_example_row_names_the_modalities_that_row_0_lacks():
    rows = [{"b": torch.ones(2), "target": 0}, {"a": torch.ones(3), "b": torch.ones(2), "target": 1}]
    whole = RowRecords(rows, target=[0, 1], like={"a": torch.zeros(3), "b": torch.zeros(2)})
    inputs, present, _ = whole.gather(torch.tensor([0, 1]))
    assert whole.modalities == ("a", "b") and present["a"].tolist() == [False, True] and inputs["a"][0].eq(0).all()
