"""Dark experience replay: rows of memory are held to the scores that they once got, not to their labels."""

from pyfast_mmcl._errors import number_from_zero
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.stored_logits import ReplayLogits, StoredLogits


@recipe(
    family="replay",
    paper="P. Buzzega et al., Dark Experience for General Continual Learning: a Strong, Simple Baseline, NeurIPS 2020",
)
def der(capacity: int = 200, rows: int | None = None, alpha: float = 1.0, logits: str = "drawn") -> list[Part]:
    """Cross-entropy on every batch, and a squared distance from the stored logits on rows of memory.

    loss = cross_entropy(scores[fresh], target[fresh]) + alpha * ((scores[memory] - z) ** 2).mean()

    capacity  rows of the memory (200 is the smallest buffer of the paper)
    rows      rows drawn per step; None draws as many as the batch has, as in the paper
    alpha     weight of the distance (ours, chosen on digits; 0.3 in the authors' configuration for CIFAR-10); with 0
              this is finetune
    logits    which epoch of its task the z of a row are from: "drawn", any of them alike; "latest", which is ours and
              better where there are many epochs; "first", the one in which the row entered

    z are the scores of the training forward pass of a step, stored after that step. The paper's reservoir takes the
    rows of every epoch for new ones, so that the z in it come from all epochs alike. Ours holds a row once: with
    "drawn" its z are rewritten up to an epoch that a hash of (seed, id) draws, which gives the same distribution.

    The distance is the mean over classes, as in the authors' code; the paper has the sum. Fresh rows and rows of
    memory go through the model together, which matters to BatchNorm alone.

    Reference: Buzzega et al., NeurIPS 2020, equation 6 and algorithm 1.
    """
    if number_from_zero("alpha", alpha) == 0:
        return [Replay(capacity, rows=rows, draws=0), CrossEntropy("fresh")]
    return [ReplayLogits(capacity, rows=rows, logits=logits), CrossEntropy("fresh"), StoredLogits(alpha)]
