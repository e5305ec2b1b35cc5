"""CPE-CLIP: one set of prompts that both towers of a frozen CLIP share, updated more gently as classes come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyfast_mmcl._errors import whole_number
from pyfast_mmcl.models.prompts import Prompts
from pyfast_mmcl.train.clip_ways import TaskObjective, clip_of
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Batch, Task
    from pyfast_mmcl.train.learner import Learner


class SharedPrompts(Part):
    """Coupled prompts on a frozen CLIP; gradients times (new classes of the task) / (classes seen with it)."""

    def __init__(self, tokens: int, depth: int) -> None:
        self.tokens, self.depth = whole_number("tokens", tokens), whole_number("depth", depth)
        self.seen_: list[int] = []
        self.share_ = 1.0

    def before_task(self, learner: Learner, task: Task) -> None:
        model = clip_of(learner, "cpe_clip")
        new = len(set(task.classes) - set(self.seen_))
        self.seen_ = sorted({*self.seen_, *task.classes})
        self.share_ = new / len(self.seen_) if new else 1.0
        if task.id > 0:
            return
        model.requires_grad_(False)
        prompts = model.attach(
            "prompts",
            image=self.tokens,
            text=self.tokens,
            depth=self.depth,
            coupled=True,
            image_join="accumulate",
            seed=learner.seed,
        )
        assert isinstance(prompts, Prompts)
        prompts.add_way()

    def edit_grads(self, learner: Learner, batch: Batch) -> None:
        for p in learner.model.parameters():
            if p.grad is not None:
                p.grad.mul_(self.share_)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen_), "share": self.share_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen_, self.share_ = list(state["seen"]), float(state["share"])


@recipe(
    family="prompt",
    paper="M. D'Alessandro et al., Multimodal Parameter-Efficient Few-Shot Class Incremental Learning, ICCV Workshops "
    "2023",
    model="clip",
)
def cpe_clip(tokens: int = 2, depth: int = 12) -> list[Part]:
    """Frozen CLIP with prompts in both towers, one set for all tasks, whose gradients shrink as classes are seen.

    text    block l: the two prompt tokens are overwritten by g_l;  image block l: linear(g_l) joins the sequence
    loss    cross-entropy(exp(s) V Tᵀ) over the classes of the task (the authors set the others to −9999)
    grad    g and the linear layer: times n_new / n_seen, classes of the task over classes seen with it

    tokens  per block (2, the paper); depth: blocks with prompts (12, all of ViT-B/16; at most those of either tower)

    Answers are plain zero-shot answers of the prompted CLIP. Needs a CLIP (``models.ClipModel``) with transformers as
    towers. On a stream of pairs the loss is InfoNCE.

    Reference: D'Alessandro et al., ICCV Workshops 2023. "Overwritten" in the text tower and "joins" in the image tower
    are our reading. Where no class of a task is new (domains), the gradient is not scaled, which the paper does not
    treat. AdamW and other optimizers that divide by the gradient's size undo a constant factor, so take SGD (the
    authors: lr 0.00325, momentum 0.9, weight decay 1e-5, cosine with restarts).
    """
    return [TaskObjective(), SharedPrompts(tokens, depth)]
