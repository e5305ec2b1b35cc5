"""Claims about distillation, structure, generated rows and exemplars: shows that start from random weights."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.claims import Claim

_FORGETTING: dict[str, Any] = {"measure": "forgetting", "name": "forgetting"}
_MDTIL, _TIL, _CIL, _HAR = "shows-har-mdtil", "shows-digits-til", "shows-digits-cil", "shows-har-cil"

_LWF = "a network's earlier answers to the new rows keep old tasks, without old rows (LwF, Li and Hoiem 2016)"
_FAR = "class by class, earlier answers to new rows stay far behind replay (van de Ven and Tolias 2019)"
_EMBEDDINGS = (
    "embeddings held to the earlier ones keep old classes (less-forget constraint, one of three parts of Hou 2019)"
)
_MEANS = "the nearest mean of herded exemplars answers better than a head (iCaRL, Rebuffi et al. 2017)"
_HAT = "masks that are hard in the end forget nothing worth naming: at most 1 point (HAT, Serrà et al. 2018)"
_COLUMNS = "columns that are frozen forget nothing at all (progressive networks, Rusu et al. 2016)"

DISTILLATION = (
    Claim(
        _LWF,
        _TIL,
        line="lwf",
        than="finetune",
        why="With a head per task the answers of the old heads to new digits are numbers to be kept, and keeping them "
        "keeps the layers below.",
    ),
    Claim(
        _LWF,
        _MDTIL,
        line="lwf",
        than="finetune",
        why="The same, although what the phone's heads say about rows of the watch alone is hardly more than noise: "
        "the layers that are shared are held.",
    ),
    Claim(
        _FAR,
        _CIL,
        line="er",
        than="lwf",
        why="Old answers to pictures of new digits hardly ever say what an old digit looks like; lwf also learns the "
        "new ones less well.",
    ),
    Claim(
        _EMBEDDINGS,
        _CIL,
        line="feature_kd",
        than="finetune",
        why="Embeddings are held and the one head is not: its rows for old digits still lose to those of the task.",
    ),
    Claim(
        _EMBEDDINGS,
        _MDTIL,
        line="feature_kd",
        than="finetune",
        why="With a head per task nothing else is needed: old heads meet the embeddings that they were trained on.",
    ),
    Claim(
        "the geometry of a batch carries what a network knows (RKD, Park et al. 2019; to hold a network to its earlier "
        "self is our use of it)",
        _MDTIL,
        line="relation_kd",
        than="finetune",
        why="Distances stay while the embeddings may turn, and an old head does not turn with them.",
    ),
)
STRUCTURE = (
    Claim(
        _HAT,
        _MDTIL,
        line="hat",
        than=0.01,
        higher=False,
        why="What forgetting there is comes from masks between 0 and 1, whose weights still move.",
        **_FORGETTING,
    ),
    Claim(
        "and learn as well as penalties on weights do (HAT, Serrà et al. 2018)",
        _MDTIL,
        line="hat",
        than="ewc",
        why="The paper anneals its masks over hundreds of steps in each of 200 epochs; here they have seven to ten "
        "steps in each of five, and it learns each task less well than it could.",
    ),
    Claim(
        _COLUMNS,
        _MDTIL,
        line="progressive",
        than=0.0,
        equal=0.0,
        why="No weight that an earlier column reads is ever trained again, and a row asks for its own column.",
        **_FORGETTING,
    ),
    Claim(
        "and use what earlier columns have learnt (progressive networks, Rusu et al. 2016)",
        _MDTIL,
        line="progressive",
        than="finetune",
        why="It is level with joint. How much of that is use of earlier columns the table cannot tell: what finetune "
        "lacks at the end is about what it has forgotten.",
    ),
)
GENERATED = (
    Claim(
        "rows made up by a generator can stand in for rows that were kept (DGR, Shin et al. 2017)",
        _HAR,
        line="dgr",
        than="er",
        why="Windows of three activities are easily made up, as many as wanted and with soft answers, where er has 60 "
        "of them; derpp does as well with the scores of as few.",
    ),
    Claim(
        "class by class, made-up rows do better than earlier answers to new rows (van de Ven and Tolias 2019)",
        _HAR,
        line="dgr",
        than="lwf",
        why="A made-up row of an old activity shows the head where it lies; new rows answered by the earlier model do "
        "not.",
    ),
)
EXEMPLARS = (
    Claim(
        _MEANS,
        _HAR,
        line="icarl",
        than="er",
        why="Two tasks: the head of er still leans to the last one, means of exemplars do not lean.",
    ),
    Claim(
        _MEANS,
        _CIL,
        line="icarl",
        than="er",
        why="iCaRL forgets as little as derpp and learns less: it trains on its exemplars only as often as they come "
        "by among the fresh rows, where er has them in every step.",
    ),
)
TASKS = (*DISTILLATION, *STRUCTURE, *GENERATED, *EXEMPLARS)
