"""DER++: dark experience replay that looks at the labels of its memory too."""

from pyfast_mmcl._errors import number_from_zero
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import CrossEntropy, Replay
from pyfast_mmcl.train.registry import recipe
from pyfast_mmcl.train.stored_logits import ReplayLogits, StoredLogits


@recipe(
    family="replay",
    paper="P. Buzzega et al., Dark Experience for General Continual Learning: a Strong, Simple Baseline, NeurIPS 2020",
)
def derpp(
    capacity: int = 200, rows: int | None = None, alpha: float = 0.5, beta: float = 0.5, logits: str = "drawn"
) -> list[Part]:
    """Dark experience replay, and cross-entropy on a second draw from the memory.

    loss = cross_entropy(scores[fresh], target[fresh])
           + alpha * ((scores[draw 1] - z) ** 2).mean() + beta * cross_entropy(scores[draw 2], target[draw 2])

    capacity, rows, logits, z: as for der; rows counts those of one draw
    alpha  weight of the distance (0.5 is ours; 0.3 in the authors' configuration for CIFAR-100)
    beta   weight of the labels of the memory (0.5 as there); with 0 this is der, and with alpha = 0 and beta = 1 it
           is er with twice its loss

    The two draws are independent of each other, as in the paper.

    Reference: Buzzega et al., NeurIPS 2020, equation 7 and algorithm 2.
    """
    weights = {"alpha": number_from_zero("alpha", alpha), "beta": number_from_zero("beta", beta)}
    # A draw that nobody looks at is not made.
    draws = sum(weight > 0 for weight in weights.values())
    replay = ReplayLogits(capacity, rows=rows, draws=draws, logits=logits) if alpha else None
    parts: list[Part] = [replay or Replay(capacity, rows=rows, draws=draws), CrossEntropy("fresh")]
    if alpha:
        parts.append(StoredLogits(alpha, draws=draws))
    if beta:
        parts.append(CrossEntropy("memory", weight=beta, draw=draws - 1, draws=draws))
    return parts
