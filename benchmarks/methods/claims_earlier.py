"""Claims about penalties on weights and about replay, checked on the results of those experiments."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.claims import Claim

_FORGETTING: dict[str, Any] = {"measure": "forgetting", "name": "forgetting", "higher": False}
_TIL = {"folder": "regularization", "stream": "split MNIST, task ids (TIL)"}
_PERMUTED = {"folder": "regularization", "stream": "permuted MNIST (DIL)"}
_SPLIT = {"folder": "regularization", "stream": "split MNIST, classes (CIL)"}
_DIGITS = {"folder": "replay-budgets", "stream": "image+audio digits, 150 rows"}
_HAR = {"folder": "replay-budgets", "stream": "HAR, 60 rows"}

_DERPP = "scores stored beside labels make replay better (DER++, Buzzega et al. 2020)"
_ACE = "fresh rows that leave the scores of old classes alone make replay better (ER-ACE, Caccia et al. 2022)"
_SAMM = "modalities that teach each other make replay better (SAMM, Sarfraz et al. 2024)"
_KDR = "pairs replayed with their earlier similarities keep retrieval (KDR, ACM MM 2023; our specification)"
_VQACL = "prototypes beside the tokens make replay better (VQACL, Zhang et al. 2023)"

WEIGHTS = (
    Claim(
        "a penalty by the Fisher keeps old tasks while new ones are learnt (EWC, Kirkpatrick et al. 2017)",
        line="ewc",
        than="finetune",
        why="Every order of the pixels needs first weights of its own; the few that earlier orders need are held, and "
        "enough are left for the next.",
        **_PERMUTED,
        **_FORGETTING,
    ),
    Claim(
        "one running quadratic does as well as one per task (online EWC, Schwarz et al. 2018)",
        line="online_ewc",
        than="ewc",
        equal=0.02,
        why="Five tasks of one kind and a decay near 1: both weigh the tasks almost alike.",
        **_PERMUTED,
    ),
    Claim(
        "importance summed along the path of training keeps tasks with a head each (SI, Zenke et al. 2017)",
        line="si",
        than="finetune",
        why="With a head per task only the shared layers can forget, and these are held. With one head for all classes "
        "it is no better than finetune.",
        **_TIL,
        **_FORGETTING,
    ),
    Claim(
        "importance of weights for the outputs, without labels, keeps old tasks (MAS, Aljundi et al. 2018)",
        line="mas",
        than="finetune",
        why="The same: heads of other tasks are not asked, and what changes the outputs is held. It learns new tasks a "
        "little less well than the Fisher allows.",
        **_TIL,
        **_FORGETTING,
    ),
    Claim(
        "class by class, penalties on weights stay far behind replay (van de Ven and Tolias 2019)",
        line="er",
        than="ewc",
        why="A penalty keeps weights, not the boundary between classes that were never in one batch; rows of a memory "
        "show both sides of it.",
        **_SPLIT,
    ),
)
REPLAY = (
    Claim(
        _DERPP,
        line="derpp",
        than="er",
        why="Scores say of every kept row how it resembles the other classes, which labels do not; a memory of 15 rows "
        "per class has few labels.",
        **_DIGITS,
    ),
    Claim(_DERPP, line="derpp", than="er", why="The same, with 12 rows per class.", **_HAR),
    Claim(
        _ACE,
        line="er_ace",
        than="er",
        why="Four times new digits come that would push the scores of the old ones down; here only the memory moves "
        "them.",
        **_DIGITS,
    ),
    Claim(
        _ACE,
        line="er_ace",
        than="er",
        why="With two tasks classes become old once. The mean gains, but er's own spread over seeds is as large.",
        **_HAR,
    ),
    Claim(
        "rows that the next step would harm most are the ones to replay (MIR, Aljundi et al. 2019)",
        line="mir",
        than="er",
        why="Its candidates are a large part of a memory as small as this, so the same hard rows come again and again; "
        "the authors' memories are larger and their stream is seen once.",
        **_DIGITS,
    ),
    Claim(
        "training on the memory alone rivals replay (GDumb, Prabhu et al. 2020)",
        line="gdumb",
        than="er",
        why="er's last steps see the newest digits more often than all others together, gdumb sees all classes alike; "
        "from 500 rows on er is above it.",
        **_DIGITS,
    ),
    Claim(
        _SAMM,
        line="samm",
        than="er",
        why="Every row is learnt from three times, jointly and by each modality, and the surest head has the largest "
        "say in the answer.",
        **_DIGITS,
    ),
    Claim(_SAMM, line="samm", than="er", why="The same with four sensors.", **_HAR),
    Claim(
        _VQACL,
        line="vqacl",
        than="er, sequence model",
        why="In the paper kinds of questions meet the same objects again in every task; digits have no such parts, and "
        "prototypes add nothing to the mean.",
        **_DIGITS,
    ),
    Claim(
        _VQACL,
        line="vqacl",
        than="er, sequence model",
        why="The same: two tasks share neither activities nor any part of them, and the tokens added cost accuracy.",
        **_HAR,
    ),
    Claim(
        _KDR,
        line="kdr",
        than="kdr, no replay, no distillation",
        why="An image of an old digit finds its spoken word only while both sides move together, and without old pairs "
        "they do not.",
        **_DIGITS,
    ),
    Claim(
        _KDR,
        line="kdr",
        than="kdr, no replay, no distillation",
        why="Phone and watch do not caption each other: retrieval is as poor with old pairs as without.",
        **_HAR,
    ),
)
EARLIER = (*WEIGHTS, *REPLAY)
