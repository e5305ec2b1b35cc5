"""Small streams of every scenario that fit every kind of model, and runs of recipes on them that tests share."""

from functools import cache

import torch

from pyfast_mmcl._errors import InputError
from pyfast_mmcl.data import Batch, Records, Stream, get_scenario
from pyfast_mmcl.train import Learner, Part, default_model, recipes
from pyfast_mmcl.train.memory import Memory

SCENARIOS = ("cil", "dil", "til", "mdtil", "gdil", "pairs")
# Where the methods of a kind of model must run; one that is not listed, and every method beyond its list, may refuse a
# scenario with a sentence, but not all of them.
_EVERYWHERE = ("cil", "dil", "til")
MUST_RUN = {
    **dict.fromkeys(("classifier", "modality heads", "dual encoder", "tokens"), _EVERYWHERE),
    **dict.fromkeys(("masked", "columns"), ("til", "mdtil")),
    "sequence": ("gdil",),
}
ROWS, CLASSES, TASKS = 96, 6, 2
BATCH = 18  # two steps per task and epoch
_CLIP_WORDS, _CLIP_START, _CLIP_END, _CLIP_TOKENS = 320, 49406, 49407, 49408


class Recorded(Stream):
    """A stream that remembers every row it gave, and to whom: "learner", or (hook of a part, task)."""

    def __init__(self, *args, **settings):
        self.given, self.asker = [], "learner"
        super().__init__(*args, **settings)

    def gather(self, rows):
        self.given.append((self.asker, rows.clone()))
        return super().gather(rows)


def make_stream(scenario, *, clip=False, spoiled=None):
    """Two tasks of 36 training and 12 test rows with an image and a text that both show the class.

    clip     images in colour and CLIP's token ids
    spoiled  "test": other inputs and labels in all test rows; "later": in all rows of the second task
    """
    g = torch.Generator().manual_seed(7)
    label = torch.arange(ROWS) % CLASSES
    is_test = torch.arange(ROWS) // CLASSES % 4 == 3
    second = (torch.arange(ROWS) * TASKS >= ROWS) if scenario in ("dil", "gdil", "pairs") else label >= CLASSES // TASKS
    shown = label.clone()
    noise = torch.rand(ROWS, 3 if clip else 1, 8, 8, generator=g)
    if spoiled is not None:
        bad = is_test if spoiled == "test" else second
        for task in (False, True):
            mine = bad & (second == task)
            # A permutation within the task and split keeps which classes the task has.
            for rows in (mine & is_test, mine & ~is_test):
                label[rows] = label[rows].flip(0)
        shown, noise[bad] = torch.where(bad, (shown + 1) % CLASSES, shown), noise[bad].flip(-1)
    image = noise * 0.3
    image[torch.arange(ROWS), :, shown % 8, :] += 0.7
    text = clip_text(shown) if clip else torch.stack([shown + 1, torch.full_like(shown, 8), shown * 0], 1)
    target = torch.stack([label, (label + 1) % CLASSES, label * 0], 1) if scenario == "gdil" else label
    missing = None if scenario in ("mdtil", "pairs") else {"text": 0.2}
    dealt = {"n_tasks": TASKS} if scenario in ("cil", "til", "mdtil") else {"domains": second.long()}
    return Recorded.from_dataset(
        Records({"image": image, "text": text}, target),
        scenario=get_scenario("dil" if scenario == "pairs" else scenario),
        test=is_test,
        missing=missing,
        task_modalities=(("image",), ("image", "text")) if scenario == "mdtil" else None,
        class_names=("zero", "one", "two", "three", "four", "five"),
        vocabulary=_CLIP_TOKENS if clip else 9,
        objective="pairs" if scenario == "pairs" else "classify",
        **dealt,
    )


def clip_text(label):
    """[N, 16]: the marks of CLIP's tokenizer around two words."""
    rows = torch.zeros(len(label), 16, dtype=torch.int64)
    rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] = _CLIP_START, _CLIP_WORDS, _CLIP_WORDS + 1 + label, _CLIP_END
    return rows


@cache
def stream_for(method, scenario, spoiled=None):
    return make_stream(scenario, clip=recipes()[method].model == "clip", spoiled=spoiled)


class Killed(BaseException):
    """Not an error that anybody handles."""


class Bystander(Part):
    """Stands behind the method: keeps what there is after every task, and ends the run where it is told to."""

    def __init__(self, hook="", step=-1, task=-1):
        self.kill, self.task, self.kept, self.sizes = (hook, step), task, [], []

    def _maybe(self, learner, hook):
        if hook == self.kill[0] and learner.step >= self.kill[1]:
            raise Killed

    def loss(self, learner, batch, out):
        self._maybe(learner, "loss")

    def after_step(self, learner, batch, out):
        self.sizes.append([(len(m), m.nbytes) for m in memories(learner)])
        self._maybe(learner, "after_step")

    def after_task(self, learner, task, loader):
        self.kept.append(state_of(learner))
        self.sizes.append([(len(m), m.nbytes) for m in memories(learner)])
        self._maybe(learner, "after_task")
        if task.id == self.task:
            raise Killed


def made(method, stream, bystander=None, *, seed=0, **settings):
    """A learner of ``method`` with its default model, a bystander, and hooks that say to the stream who asks."""
    chosen = {"epochs": 1, "batch_size": BATCH, "device": "cpu", "progress": False, "seed": seed, **settings}
    learner = Learner(default_model(stream, method, seed=seed), method, **chosen)
    for part in learner.parts:
        for hook in ("before_task", "extend", "loss", "edit_grads", "after_step", "after_task", "predict"):
            setattr(part, hook, announced(stream, hook, getattr(part, hook)))
    learner.parts.append(Bystander() if bystander is None else bystander)
    return learner


def announced(stream, hook, function):
    """``function``, with the stream told that this hook is asking."""

    def call(learner, *args):
        before, stream.asker = stream.asker, (hook, learner.task.id if learner.task else -1)
        try:
            return function(learner, *args)
        finally:
            stream.asker = before

    return call


@cache
def fitted(method, scenario):
    """The learner of a finished run, or the sentence with which the method refuses the scenario."""
    try:
        stream = stream_for(method, scenario)
        learner = made(method, stream)
        learner.fit(stream)
    except InputError as refusal:
        return str(refusal)
    return learner


@cache
def home(method):
    """The first scenario that the method runs in."""
    return next(s for s in SCENARIOS if not isinstance(fitted(method, s), str))


def memories(learner):
    """The memories of all parts."""
    return [value for part in learner.parts for value in vars(part).values() if isinstance(value, Memory)]


def images_kept(learner, stream):
    """How many training images stand, to the precision of what holds them, in the parts or in their states."""
    images = torch.cat([stream.gather(stream.rows(task))[0]["image"].flatten(1) for task in range(TASKS)])
    kept = [x for name, x in state_of(learner).items() if name.startswith("parts")]
    kept += [x for part in learner.parts[:-1] for value in vars(part).values() for x in tensors_in(value)]
    width, found = images.shape[1], set()
    for dtype in (torch.float64, torch.float32, torch.float16):
        known = {image.numpy().tobytes(): i for i, image in enumerate(images.to(dtype))}
        own = [x for x in kept if x.dtype == dtype and x.numel() and x.numel() % width == 0]
        found |= {known.get(row.detach().numpy().tobytes()) for x in own for row in x.reshape(-1, width)}
    return len(found - {None})


def tensors_in(value):
    """The tensors of lists, dicts and batches within one another."""
    if isinstance(value, torch.Tensor):
        return [value]
    value = vars(value) if isinstance(value, Batch) else value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [x for item in items for x in tensors_in(item)]


def state_of(learner):
    """A copy of every tensor and number that the model and the parts have learned, by its place."""
    found = {f"model.{name}": value.detach().clone() for name, value in learner.model.state_dict().items()}
    stack = [("parts", [part.state_dict() for part in learner.parts])]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}.{key}", item) for key, item in value.items()]
        elif isinstance(value, list | tuple):
            stack += [(f"{place}.{i}", item) for i, item in enumerate(value)]
        elif isinstance(value, torch.Tensor):
            found[place] = value.detach().clone()
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[place] = torch.as_tensor(value)
    return found
