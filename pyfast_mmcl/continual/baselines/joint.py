"""Joint training: the upper bound, which sees the data of all tasks so far again."""

from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe


@recipe(family="baselines", paper="R. Caruana, Multitask Learning, Machine Learning 28, 1997", trains_on="seen")
def joint() -> list[Part]:
    """Cross-entropy on the union of all tasks so far: not a continual learner, but what one is measured against.

    loss = cross_entropy(scores, target), over the rows of tasks 1…t in stage t

    Stage t goes through that union for the usual number of epochs, starting from the weights of stage t−1, so that
    row t of the accuracy matrix is that of a model with access to all data of its stage. It costs more steps than
    the other methods: T(T+1)/2 task lengths per epoch in place of T.

    Reference: Caruana, Machine Learning 28, 1997.
    """
    return [Objective()]
