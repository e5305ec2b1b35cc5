"""Sequential fine-tuning: the lower bound, with nothing against forgetting."""

from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe


@recipe(
    family="baselines",
    paper="M. McCloskey and N. J. Cohen, Catastrophic Interference in Connectionist Networks, 1989",
)
def finetune() -> list[Part]:
    """Cross-entropy on the rows of the current task alone.

    loss = cross_entropy(scores, target)

    Reference: McCloskey and Cohen, Psychology of Learning and Motivation 24, 1989, who describe how it forgets.
    """
    return [Objective()]
