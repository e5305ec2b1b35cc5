"""ZSCL: a CLIP learns new tasks and stays as it was on reference data, in its embeddings and in its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from pyfast_mmcl._errors import InputError, number_above_zero, number_from_zero, whole_number
from pyfast_mmcl.losses import SimilarityDistillation
from pyfast_mmcl.models.clip import ClipModel
from pyfast_mmcl.ops.contrastive import PackedReference
from pyfast_mmcl.train.modes import evaluation_mode
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective, check_classes, check_labels
from pyfast_mmcl.train.reference import Images, Texts, read_images, read_texts
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.teacher import Teacher
from pyfast_mmcl.train.weights import mix, put_weights, weights_of

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Loader, Task
    from pyfast_mmcl.models import Output
    from pyfast_mmcl.train.learner import Learner

_ROWS = 256


class SmoothedObjective(Objective):
    """cross_entropy(scores[:, candidates], y, label_smoothing): those of the task where its id is told, else all seen.

    Classes still to come are no candidates, so that nothing is learnt against their texts. Pairs: InfoNCE.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        if not 0 <= number_from_zero("label_smoothing", label_smoothing) < 1:
            raise InputError(f"label_smoothing: expected a share below 1, got {label_smoothing!r}.")
        self.label_smoothing = label_smoothing

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if learner.objective == "pairs":
            return super().loss(learner, batch, out)
        if out.scores.ndim != 2:
            raise InputError(f"zscl: expected one class per row, scores [B, C], got {tuple(out.scores.shape)}.")
        told = learner.scenario is not None and learner.scenario.task_id_at_test
        classes = learner.task.classes if told else learner.classes_seen
        check_labels(out.scores, batch.target)
        check_classes(out.scores, classes)
        candidates = torch.tensor(classes, device=batch.device)
        place = torch.searchsorted(candidates, batch.target)
        return cross_entropy(out.scores[:, candidates], place, label_smoothing=self.label_smoothing)


class ReferenceKeeping(Part):
    """weight · (L_img + L_txt): similarities of reference images and reference texts stay those of the initial model.

    L_img = T² KL(softmax(Z'/T) ‖ softmax(Z/T)) over rows, L_txt over columns;  Z = s V(X_r) R_rᵀ, Z' of the initial
    model, which encodes the texts R_r once, and the images too where they are given. Random numbers pick the images of
    a step (and its texts with student_texts).
    """

    def __init__(
        self,
        weight: float,
        temperature: float,
        images: Images | None,
        texts: Texts | None,
        rows: int,
        student_texts: bool,
    ) -> None:
        self.weight = number_from_zero("weight", weight)
        self.distance = SimilarityDistillation(number_above_zero("temperature", temperature))
        self.images = None if images is None else read_images(images)
        self.texts = texts
        self.rows = whole_number("rows", rows)
        self.student_texts = student_texts
        self.teacher_ = Teacher()  # only where the images are those of the stream, which are not known beforehand
        self.text_bank_: Tensor | None = None  # [M, D]
        self.image_bank_: Tensor | None = None  # [N, D]
        self.scale_ = 0.0
        self._tokens: Tensor | None = None
        self._packed: PackedReference | None = None

    def before_task(self, learner: Learner, task: Task) -> None:
        model = clip_of(learner)
        model.clip.logit_scale.requires_grad_(False)
        if self.text_bank_ is not None or self.weight == 0:
            return
        self.text_bank_ = _encoded(model, model.text_features, self.tokens(model))
        self.scale_ = float(model.scale())
        if self.images is None:
            self.teacher_.take(model)
        else:
            self.image_bank_ = _encoded(model, model.image_features, self.images)

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        if self.text_bank_ is None:
            return None
        model = clip_of(learner)
        student, teacher = self._images(learner, model, batch, out)
        if not len(teacher):
            return None
        old: Tensor | PackedReference = self._bank(model)
        new = old
        if self.student_texts:
            rows = torch.randperm(len(self.text_bank_), generator=learner.generator)[: self.rows]
            new = model.text_features(self.tokens(model)[rows].to(batch.device))
            old = self.text_bank_[rows].to(batch.device)
        scale = model.scale().detach()
        # The mean of both directions, twice.
        loss = self.distance(student, new, teacher, old, student_scale=scale, teacher_scale=self.scale_)
        return 2 * self.weight * loss

    def _images(self, learner: Learner, model: ClipModel, batch: Batch, out: Output) -> tuple[Tensor, Tensor]:
        """Reference rows [n, D] of this step under the model as it is and under the initial one."""
        if self.images is None:
            if model.image not in batch.inputs:
                return (next(iter(out.modalities.values()))[:0],) * 2
            shown, initial = batch.present[model.image], self.teacher_.model(model)
            assert isinstance(initial, ClipModel)
            with torch.no_grad():
                teacher = initial.image_features(batch.inputs[model.image][shown])
            return out.modalities["image"][shown], teacher
        rows = torch.randperm(len(self.images), generator=learner.generator)[: self.rows]
        assert self.image_bank_ is not None
        return model.image_features(self.images[rows].to(batch.device)), self.image_bank_[rows].to(batch.device)

    def _bank(self, model: ClipModel) -> PackedReference:
        if self._packed is None:
            assert self.text_bank_ is not None
            self._packed = PackedReference(self.text_bank_.to(next(model.parameters()).device))
        return self._packed

    def tokens(self, model: ClipModel) -> Tensor:
        """Reference texts [M, S] as token ids."""
        if self._tokens is None:
            self._tokens = read_texts(self.texts, model.context_length)
        return self._tokens

    def state_dict(self) -> dict[str, Any]:
        banks = {"texts": self.text_bank_, "images": self.image_bank_}
        return {"teacher": self.teacher_.state_dict(), "scale": self.scale_, **banks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.teacher_.load_state_dict(state["teacher"])
        self.scale_, self.text_bank_, self.image_bank_ = state["scale"], state["texts"], state["images"]
        self._packed = None


class WeightKeeping(Part):
    """l2 · Σ ‖θ − θ_start‖² over the trained parameters, θ_start those at the start of the task."""

    def __init__(self, l2: float) -> None:
        self.l2 = number_from_zero("l2", l2)
        self.start_: dict[str, Tensor] = {}

    def before_task(self, learner: Learner, task: Task) -> None:
        if self.l2:
            self.start_ = {n: p.detach().clone() for n, p in learner.model.named_parameters() if p.requires_grad}

    def loss(self, learner: Learner, batch: Batch, out: Output) -> Tensor | None:
        named = dict(learner.model.named_parameters())
        pulls = [(named[n] - start.to(named[n].device)).square().sum() for n, start in self.start_.items()]
        return self.l2 * torch.stack(pulls).sum() if pulls else None

    def state_dict(self) -> dict[str, Any]:
        return {"start": dict(self.start_)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start_ = dict(state["start"])


class WeightEnsemble(Part):
    """θ_we ← (n θ_we + θ) / (n + 1) on the way, from the start of the task; after it the model is θ_we.

    every  steps between two of them; None: at the end of every epoch. 0: no averaging
    """

    def __init__(self, every: int | None) -> None:
        self.every = None if every is None else whole_number("average_every", every, least=0)
        self.mean_: dict[str, Tensor] = {}
        self.count_ = 0
        self.steps_ = 0

    def before_task(self, learner: Learner, task: Task) -> None:
        self.mean_, self.count_, self.steps_ = ({} if self.every == 0 else weights_of(learner.model)), 1, 0

    def after_step(self, learner: Learner, batch: Batch, out: Output) -> None:
        if self.every == 0:
            return
        self.steps_ += 1
        # The step under way is not counted yet.
        ends = learner.step_of_epoch + 1 == learner.steps_per_epoch
        if self.steps_ % self.every == 0 if self.every else ends:
            self._add(learner)

    def after_task(self, learner: Learner, task: Task, loader: Loader) -> None:
        if self.every == 0:
            return
        if self.steps_:
            self._add(learner)
        put_weights(learner.model, self.mean_)
        self.mean_ = {}

    def _add(self, learner: Learner) -> None:
        self.count_ += 1
        self.mean_ = mix(self.mean_, weights_of(learner.model), 1 / self.count_)
        self.steps_ = 0

    def state_dict(self) -> dict[str, Any]:
        return {"mean": dict(self.mean_), "count": self.count_, "steps": self.steps_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.mean_, self.count_, self.steps_ = dict(state["mean"]), state["count"], state["steps"]


def clip_of(learner: Learner) -> ClipModel:
    """The learner's model. Raises InputError when it is no ClipModel."""
    if not isinstance(learner.model, ClipModel):
        raise InputError(
            f"zscl: expected a CLIP, got {type(learner.model).__name__}; use models.ClipModel, or leave the model out."
        )
    return learner.model


def _encoded(model: ClipModel, encode: Any, rows: Tensor) -> Tensor:
    """Unit rows [N, D] of images or token ids, in evaluation mode and without gradients."""
    device = next(model.parameters()).device
    with torch.no_grad(), evaluation_mode(model):
        found = torch.cat([encode(part.to(device)) for part in rows.split(_ROWS)])
    return found.to(torch.promote_types(found.dtype, torch.float32))


@recipe(
    family="distillation",
    paper="Z. Zheng et al., Preventing Zero-Shot Transfer Degradation in Continual Learning of Vision-Language Models, "
    "ICCV 2023",
    model="clip",
)
def zscl(
    weight: float = 1.0,
    temperature: float = 2.0,
    l2: float = 1.0,
    label_smoothing: float = 0.2,
    average_every: int | None = None,
    images: Images | None = None,
    texts: Texts | None = None,
    rows: int = 64,
    student_texts: bool = False,
) -> list[Part]:
    """Fine-tuning of CLIP that keeps its reference similarities, stays near its weights and averages them on the way.

    loss = ce(s V T_clsᵀ, y) + weight · (L_img + L_txt) + l2 · Σ ‖θ − θ_start‖²
    L_img = T² KL(softmax(Z'/T) ‖ softmax(Z/T)) over rows, L_txt over columns;  Z = s V(X_r) R_rᵀ, Z' = s' V'(X_r) R_rᵀ
    θ_we ← (n θ_we + θ) / (n + 1) every average_every steps; after the task the model is θ_we

    weight         1 (the authors' MTIL; 5 in their class-incremental experiments); temperature T: 2
    l2             1 (their WE + constraint); θ_start: the weights at the start of the task
    label_smoothing  of the cross-entropy (0.2), among the classes of the task where its id is told, else all seen
    average_every  steps between two weights that are averaged; None: the end of every epoch (theirs: every 100 of 1000
                   steps, ten in a task as here with ten epochs); 0: no averaging
    images         reference images X_r, [N, 3, H, W] or a .npy file (theirs: ImageNet); None: the pictures of the batch
    texts          reference texts: a list, a text file with a sentence per line (theirs: captions of Conceptual
                   Captions), or token ids [M, S]; None: ``models.reference_texts``, sentences about everyday things
    rows           reference images, and with student_texts texts, drawn per step (64, their batch size)
    student_texts  False, as the authors' code: both sides of Z are the frozen texts, and the text tower is held by l2
                   alone. True: the texts of Z are encoded by the model as it is

    V', R_r and s' are those of the initial model and not of the model before the task. It encodes the texts, and given
    images too, once; they are all that is kept of it. Logit scale is not trained. Needs ``models.ClipModel``.

    Reference: Zheng et al., ICCV 2023, arXiv:2303.06628, and the authors' code. KL divergence takes the place of their
    cross-entropy of soft labels: the same gradient, and 0 for the initial model. The average also takes in the last
    weights of a task. They train with AdamW, lr 1e-5, no weight decay, a warm-up of 100 steps and cosine: the
    Learner's arguments here.
    """
    return [
        SmoothedObjective(label_smoothing),
        ReferenceKeeping(weight, temperature, images, texts, rows, student_texts),
        WeightKeeping(l2),
        WeightEnsemble(average_every),
    ]
