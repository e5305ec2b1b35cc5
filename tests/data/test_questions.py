"""Questions about real pictures: every answer is true, and no picture is asked about on both sides."""

import pytest
import torch

from pyfast_mmcl._errors import InputError, UnknownNameError
from pyfast_mmcl.data import questions_stream
from pyfast_mmcl.data.folder import read_arrays
from pyfast_mmcl.data.mnist import read_mnist
from pyfast_mmcl.data.questions import QUESTIONS
from tests.check import raises_sentence


@pytest.fixture(scope="module", params=["test", "validation"])
def stream(request, data_dir):
    return questions_stream(folder=data_dir, rows=200, held_out=request.param)


def texts(stream, ids):
    return [" ".join(stream.class_names[i] for i in row if i) for row in ids.tolist()]


def test_a_kind_of_question_per_task_and_one_vocabulary(stream):
    assert stream.scenario.name == "gdil" and [t.name for t in stream.tasks] == list(QUESTIONS)
    assert stream.vocabulary == stream.n_classes == len(stream.class_names) and stream.class_names[0] == "<pad>"
    for task in stream.tasks:
        inputs, _, target = stream.gather(torch.cat([stream.rows(task.id), stream.rows(task.id, "test")]))
        assert set(texts(stream, inputs["question"])) == set(QUESTIONS[task.name])
        assert inputs["image"].shape[1:] == (3, 32, 32) and target.shape[1] == 6
        assert not target.eq(1).any() and not inputs["question"].eq(1).any(), "every word has an id of its own"
        assert target[:, 0].ne(0).all(), "an answer has a word at least"
        assert task.name == "emoji" or len(target) == 200
    assert stream.loader(0, "test")[0].task.eq(-1).all()


def test_answers_about_pacs_are_its_labels(stream, data_dir):
    data = read_arrays("pacs.npz", data_dir)
    words = set(map(str, data["classes"])) | {"photo", "art painting", "cartoon", "sketch"}
    for task, name in enumerate(QUESTIONS):
        if name in ("object", "style"):
            assert set(texts(stream, stream.gather(stream.rows(task))[2])) <= words
        if name == "description":
            answers = texts(stream, stream.gather(stream.rows(task))[2])
            assert all(a.split(" of ")[1].split(" ")[1] in words for a in answers)
            assert not any(" a elephant" in a or a.startswith("a art") for a in answers)


def test_sums_are_sums_of_the_digits_seen(data_dir):
    stream = questions_stream(folder=data_dir, rows=300, asked=("sum", "digits"), size=56)
    images, digit = read_mnist(data_dir)
    known = {image.numpy().tobytes(): i for i, image in enumerate(images)}
    number = dict(zip("zero one two three four five six seven eight nine".split(), range(10), strict=True))
    teens = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen".split()
    number |= dict(zip(teens, range(10, 19), strict=True))
    for split in ("train", "test"):
        for task in range(2):
            inputs, _, target = stream.gather(stream.rows(task, split))
            square = (inputs["image"][:, 0, 14:42] * 255).round().to(torch.uint8)
            halves = [[known[h.numpy().tobytes()] for h in half.contiguous()] for half in square.split(28, 2)]
            assert {i % 5 == 4 for half in halves for i in half} == {split == "test"}
            left, right = (digit[half].tolist() for half in halves)
            for answer, a, b in zip(texts(stream, target), left, right, strict=True):
                said = [number[word] for word in answer.split()]
                assert said == ([a + b] if task == 0 else [a, b])


def test_emoji_are_tested_on_in_another_style(stream, data_dir):
    data = read_arrays("emoji.npz", data_dir)
    task = list(QUESTIONS).index("emoji")
    answers = {split: texts(stream, stream.gather(stream.rows(task, split))[2]) for split in ("train", "test")}
    assert set(answers["test"]) == set(answers["train"]) <= {str(t).lower() for t in data["text"]}
    assert len(answers["test"]) == len(set(answers["test"]))


def test_choices_of_questions(data_dir):
    few = questions_stream(n_tasks=1, folder=data_dir, rows=50, asked=("style", "object"), size=8)
    assert [t.name for t in few.tasks] == ["style"]
    with raises_sentence(UnknownNameError, "colour"):
        questions_stream(folder=data_dir, asked=("colour",))
    with raises_sentence(InputError, "different kinds"):
        questions_stream(n_tasks=9, folder=data_dir)
    with raises_sentence(InputError, "gdil", "'cil'"):
        questions_stream("cil", folder=data_dir)
