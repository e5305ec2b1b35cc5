"""Progressive networks: a fresh column of layers for every task, which reads the frozen columns of the earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfast_mmcl._errors import whole_number
from pyfast_mmcl.models.columns import check_columns
from pyfast_mmcl.train.part import Part
from pyfast_mmcl.train.parts import Objective
from pyfast_mmcl.train.registry import recipe

if TYPE_CHECKING:
    from pyfast_mmcl.data import Task
    from pyfast_mmcl.train.learner import Learner


class AddColumn(Part):
    """Before every task but the first, a column for it; the columns that were there are frozen."""

    def __init__(self, lateral: int) -> None:
        self.lateral = whole_number("lateral", lateral)

    def before_task(self, learner: Learner, task: Task) -> None:
        check_columns("progressive", learner.model).add_column(task.id, self.lateral)


@recipe(
    family="architecture",
    paper="A. A. Rusu et al., Progressive Neural Networks, arXiv:1606.04671, 2016",
    model="columns",
)
def progressive(lateral: int = 16) -> list[Part]:
    """A column of layers per task, with adapters that read the layers of the earlier, frozen columns.

    h_l^k = relu(W_l^k h_{l−1}^k + Σ_{j<k} U_l^{kj} relu(V_l^{kj} α_l^{kj} h_{l−1}^j)),  loss = cross_entropy

    lateral  units between V and U (16, a quarter of the default width: ours)

    What an earlier task answers does not change by a bit. Needs the task id at test (task-incremental streams) and a
    ``models.ProgressiveColumns``. The number of weights grows with the square of the number of tasks. Each column is
    computed once per batch, and rows of a task ask only for its own and the earlier columns.

    The paper projects all earlier columns of a layer with one V; ours has one for each, so that a column's adapters are
    the same whichever columns follow. α starts at 1 (ours; the paper: small random values).

    Reference: Rusu et al., arXiv:1606.04671, 2016, equations 1 and 2.
    """
    return [AddColumn(lateral), Objective()]
