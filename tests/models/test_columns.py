"""Progressive columns are the paper's equation, restated in float64; earlier columns never move."""

import copy

import pytest
import torch
from torch import nn

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.models import Growing, MultimodalClassifier, ProgressiveColumns, Spec
from pyfast_mmcl.models.columns import Lateral, check_columns
from tests.check import assert_same_bits, raises_sentence
from tests.models.task_rows import TASK_CLASSES, WIDTHS, encoders, rows

LAST = nn.Sequential(
    nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 2), nn.Flatten(), nn.Linear(2, 4)
)


@pytest.fixture
def model():
    made = ProgressiveColumns({**encoders(), "b": copy.deepcopy(LAST)}, TASK_CLASSES, **WIDTHS).double()
    made.add_column(1, lateral=2)
    made.add_column(2, lateral=3)
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.endswith("alpha"):
                p.fill_(0.7)
    return made


def told(laterals, inputs):
    """Σ_j U_j relu(V_j (α_j h_j))."""
    return sum(lat.restore(torch.relu(lat.reduce(0.7 * h))) for lat, h in zip(laterals, inputs, strict=True))


def restated(model, batch, k):
    """Scores of column k, and what each layer of it was given, for all rows; earlier columns computed again."""
    column, before = model.columns[k], [restated(model, batch, j)[1] for j in range(k)]
    given, parts = {}, []
    for name in ("a", "b", "t"):
        h = batch.inputs[name]
        for i, block in enumerate(column.encoders[name]):
            given[name, i] = block.before(h)
            y = block.layer(given[name, i])
            if i and k:
                y = y + told(column.encoder_laterals[name][i - 1], [other[name, i] for other in before])
            h = block.after(y)
        parts.append(h * batch.present[name].unsqueeze(1))
    flags = torch.stack([batch.present[name].double() for name in ("a", "b", "t")], 1)
    given["fusion"] = torch.cat([*parts, flags], 1)
    given["head"] = torch.relu(
        column.fusion(given["fusion"]) + told(column.fusion_laterals, [other["fusion"] for other in before])
    )
    return column.head(given["head"]) + told(column.head_laterals, [other["head"] for other in before]), given


@torch.no_grad()
def test_every_row_is_answered_by_the_column_of_its_task(model):
    batch = rows()
    out, lowest = model.eval()(batch), torch.finfo(torch.float64).min
    for k in range(3):
        mine = batch.task == k
        scores, given = restated(model, batch, k)
        assert mine.any()
        torch.testing.assert_close(out.scores[mine][:, TASK_CLASSES[k]], scores[mine], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(out.features[mine], given["head"][mine], rtol=1e-12, atol=1e-12)
        assert bool((out.scores[mine][:, ~TASK_CLASSES[k]] == lowest).all())


def test_adapters_reduce_and_restore():
    lateral = Lateral(nn.Conv2d(6, 5, 3, stride=2, padding=1), 4)
    assert lateral(torch.rand(2, 6, 9, 9)).shape == (2, 5, 5, 5) and lateral.reduce.weight.shape == (4, 6, 1, 1)
    narrow = Lateral(nn.Linear(3, 7), 4)
    assert narrow.reduce.out_features == 3 and narrow.restore.bias is None and float(narrow.alpha.detach()) == 1.0


@torch.no_grad()
def test_a_task_without_a_column_scores_its_classes_alike():
    model = ProgressiveColumns(encoders(), TASK_CLASSES, **WIDTHS).double().eval()
    batch = rows(task=2)
    assert bool((model(batch).scores[:, TASK_CLASSES[2]] == 0).all())
    assert bool((model(batch).scores[:, ~TASK_CLASSES[2]] < -1e30).all())


def test_a_new_column_changes_no_earlier_answer():
    model = ProgressiveColumns(encoders(), TASK_CLASSES, **WIDTHS).double().eval()
    model.add_column(1)
    batch = rows(20, task=1)
    before = model(batch).scores
    model.add_column(1)
    assert len(model.columns) == 2
    model.add_column(2)
    free = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in free} == {id(p) for p in model.columns[2].parameters()}
    fresh = model(rows(20, task=2)).scores
    with torch.no_grad():
        for p in free:
            p.add_(1.0)
    assert_same_bits(model(batch).scores, before)
    assert not torch.equal(model(rows(20, task=2)).scores, fresh)


def test_frozen_columns_get_no_gradient_and_the_last_one_does(model):
    batch = rows(8, task=2)
    nn.functional.cross_entropy(model.train()(batch).scores, batch.target).backward()
    assert all(p.grad is None for column in model.columns[:2] for p in column.parameters())
    assert all(p.grad is not None for p in model.columns[2].parameters())


def test_columns_are_drawn_afresh_but_alike_in_shape(model):
    ours, theirs = (dict(model.columns[k].encoders.named_parameters()) for k in (0, 2))
    assert {name: p.shape for name, p in ours.items()} == {name: p.shape for name, p in theirs.items()}
    assert not any(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(p.dtype == torch.float64 for p in theirs.values())
    padding = model.columns[2].encoders["t"][0].layer.weight[0]
    assert not padding.any()


def test_each_column_is_computed_once_and_only_where_it_is_asked(model):
    calls = []
    for k, column in enumerate(model.columns):
        column.fusion.register_forward_hook(lambda *_, k=k: calls.append(k))
    model.eval()(rows(6, task=2))
    assert calls == [0, 1, 2]
    calls.clear()
    model(rows(6, task=0))
    assert calls == [0]


def test_dropout_of_frozen_columns_is_off():
    chain = {"a": nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.Dropout(0.5), nn.Linear(4, 4))}
    model = ProgressiveColumns(chain, TASK_CLASSES, **WIDTHS)
    model.add_column(1)
    assert not model.columns[0].training and model.columns[1].training and model.training
    model.eval().train()
    model.add_column(2)
    # The encoders of a new column are copies of the first one's, which rests.
    assert all(module.training for module in model.columns[2].modules()) and model.training
    assert not any(module.training for column in model.columns[:2] for module in column.modules())


def test_the_structure_brings_the_columns_back(model):
    assert isinstance(model, Growing)
    other = ProgressiveColumns({**encoders(), "b": copy.deepcopy(LAST)}, TASK_CLASSES, **WIDTHS).double()
    structure = [{"task": 0, "lateral": 16}, {"task": 1, "lateral": 2}, {"task": 2, "lateral": 3}]
    assert model.structure() == structure
    other.restructure(structure)
    other.load_state_dict(model.state_dict())
    batch = rows()
    assert_same_bits(other.eval()(batch).scores, model.eval()(batch).scores)
    other.restructure(structure)
    assert len(other.columns) == 3
    with raises_sentence(InputError, "structure"):
        other.restructure(structure[:1])


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_answers_near_float64(model, dtype):
    batch, half = rows(), copy.deepcopy(model).to(dtype).eval()
    out, truth = half(batch).scores, model.eval()(batch).scores
    own = truth > -1e30
    assert out.dtype == dtype and torch.equal(out.float() > -6e4, own)
    torch.testing.assert_close(out[own].double(), truth[own], rtol=0.1, atol=0.05)


def test_mistakes_are_named(model):
    with raises_sentence(InputError, "task id", "til"):
        ProgressiveColumns(encoders(), None)
    with raises_sentence(InputError, "task id", "mdtil"):
        ProgressiveColumns.for_stream(Spec({"a": torch.rand(1, 5)}, 4))
    with raises_sentence(InputError, "lateral"):
        ProgressiveColumns(encoders(), TASK_CLASSES, **WIDTHS).add_column(1, lateral=0)
    with raises_sentence(InputError, "EmbeddingBag"):
        Lateral(nn.EmbeddingBag(3, 4), 2)
    batch = rows()
    batch.task[0] = 3
    with raises_sentence(InputError, "task id", "3"):
        model(batch)
    with raises_sentence(InputError, "progressive", "MultimodalClassifier"):
        check_columns("progressive", MultimodalClassifier({"a": nn.Linear(5, 64)}, 4))
