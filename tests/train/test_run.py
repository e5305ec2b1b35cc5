"""The default model fits stream and method and depends on the seed alone."""

import torch

from pyfast_mmcl._errors import UnknownNameError
from pyfast_mmcl.data import Records, Stream, digits_stream
from pyfast_mmcl.models import (
    DualEncoder,
    ImageEncoder,
    ModalityHeads,
    MultimodalClassifier,
    TextEncoder,
    TokenClassifier,
    VectorEncoder,
)
from pyfast_mmcl.train import default_model, recipe, run_continual
from pyfast_mmcl.train.parts import CrossEntropy
from pyfast_mmcl.train.registry import get_recipe
from tests.check import raises_sentence


def flat(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_encoders_follow_the_modalities():
    model = default_model(digits_stream())
    assert isinstance(model.encoders["image"], ImageEncoder) and isinstance(model.encoders["text"], TextEncoder)
    assert model.head.linear.out_features == 10 and model.head.task_classes is None
    sensors = Stream.from_dataset(Records({"gyro": torch.rand(40, 3, 16)}, torch.arange(40) % 4), n_tasks=2)
    assert isinstance(default_model(sensors).encoders["gyro"], VectorEncoder)
    assert default_model(digits_stream("til")).head.task_classes.shape == (5, 10)


def test_first_weights_depend_on_the_seed_alone():
    stream, weights = digits_stream(), []
    for global_seed, seed in ((1, 0), (2, 0), (1, 3)):
        torch.manual_seed(global_seed)
        weights.append(flat(default_model(stream, seed=seed)))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_a_model_given_is_the_one_that_is_trained():
    stream = digits_stream(n_tasks=2)
    model = default_model(stream, width=8)
    before = flat(model)
    history = run_continual("finetune", stream, model=model, epochs=1, optimizer="sgd", device="cpu", progress=False)
    assert not torch.equal(flat(model), before) and history.finished


def test_the_default_model_is_of_the_kind_that_the_method_needs():
    stream = digits_stream(n_tasks=2)
    kinds = {"er": MultimodalClassifier, "samm": ModalityHeads, "kdr": DualEncoder, "vqacl": TokenClassifier}
    for method, kind in kinds.items():
        assert type(default_model(stream, method)) is kind
        assert type(default_model(stream, get_recipe(method))) is kind
    assert type(default_model(stream)) is type(default_model(stream, [CrossEntropy()])) is MultimodalClassifier
    assert len(default_model(stream, "vqacl").prototypes.question.known) == 2
    with raises_sentence(UnknownNameError, "method", "sam"):
        default_model(stream, "sam")


def test_a_recipe_names_a_kind_of_model_that_there_is():
    with raises_sentence(UnknownNameError, "kind of model", "dual encoder"):
        recipe(family="replay", paper="", model="dual-encoder")
