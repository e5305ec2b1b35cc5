"""Claims about methods that start from a pretrained CLIP, checked on the shows that do."""

from __future__ import annotations

from typing import Any

from benchmarks.methods.claims import Claim

_TRANSFER: dict[str, Any] = {"measure": "zero_shot_transfer", "name": "Transfer"}
_AVERAGE: dict[str, Any] = {"measure": "overall_average", "name": "Average"}
_LAST: dict[str, Any] = {"name": "Last"}
_RECALL: dict[str, Any] = {"name": "R@5 at the end"}
_FORGETTING: dict[str, Any] = {"measure": "forgetting", "name": "forgetting", "higher": False}
_MTIL, _PACS, _EMOJI = "shows-mtil", "shows-pacs-clip", "shows-emoji-dil"

MTIL = (
    Claim(
        "fine-tuning on one set after the other loses zero-shot ability (Zheng et al. 2023)",
        _MTIL,
        line="finetune",
        than="zero-shot",
        higher=False,
        why="Both towers move for the names of one set, and nothing holds those of the others.",
        **_TRANSFER,
    ),
    Claim(
        "held to the first model on references, CLIP keeps zero-shot ability (ZSCL, Zheng et al. 2023)",
        _MTIL,
        line="zscl",
        than="finetune",
        why="Pictures of the set itself, asked about everyday things, and weights held near those before: hardly a "
        "point or two are lost, although no picture of another set is shown.",
        **_TRANSFER,
    ),
    Claim(
        "and more of it than earlier answers to the new rows keep (ZSCL against LwF, Zheng et al. 2023)",
        _MTIL,
        line="zscl",
        than="lwf, λ 1",
        why="lwf keeps the answers about classes that were learnt; there are none in the first task, and nothing else "
        "is held afterwards.",
        **_TRANSFER,
    ),
    Claim(
        "and is ahead over all stages (ZSCL against WiSE-FT, Zheng et al. 2023)",
        _MTIL,
        line="zscl",
        than="wise_ft",
        why="Its lead is on sets still to come; after the last set wise_ft is no worse.",
        **_AVERAGE,
    ),
    Claim(
        "and ends above LwF on what was learnt (ZSCL against LwF, Zheng et al. 2023)",
        _MTIL,
        line="zscl",
        than="lwf, λ 1",
        why="What keeps so much leaves little room: 25 steps in each of four epochs, pulled back by the penalty and "
        "averaged with the weights on the way. In the paper a set has 1,000 steps, and a CLIP that is good at it from "
        "the start.",
        **_LAST,
    ),
    Claim(
        "weights between those before and after fine-tuning keep zero-shot ability (WiSE-FT, Wortsman et al. 2022)",
        _MTIL,
        line="wise_ft",
        than="finetune",
        why="Half of the way back to the first weights brings about half of what was lost back.",
        **_TRANSFER,
    ),
    Claim(
        "rows of what is not known yet go to the frozen model, so that zero-shot ability stays whole (MoE-Adapters, Yu "
        "et al. 2024)",
        _MTIL,
        line="moe_adapters",
        than="zero-shot",
        equal=0.01,
        why="A row says which set it is from; sets still to come have no router, and no weight of CLIP has moved.",
        **_TRANSFER,
    ),
    Claim(
        "and what is learnt is kept better than by ZSCL (MoE-Adapters, Yu et al. 2024)",
        _MTIL,
        line="moe_adapters",
        than="zscl",
        why="Experts learn a set in full and are frozen with their router, where zscl holds every weight a little.",
        **_LAST,
    ),
)
PACS = (
    Claim(
        "prompts of its own for every domain forget less than fine-tuning (S-liPrompts, Wang et al. 2022)",
        _PACS,
        line="s_liprompts",
        than="finetune",
        why="Prompts of earlier styles are never touched. What is lost is lost by rows that take the prompts of "
        "another style.",
        **_FORGETTING,
    ),
)
EMOJI = (
    Claim(
        "fine-tuning on pairs in turn forgets the earlier ones (Ni et al. 2023)",
        _EMOJI,
        line="finetune",
        than=0.0,
        measure="forgetting",
        name="forgetting",
        why="Three styles of the same emoji with the same names: what one style teaches serves the others, and little "
        "is lost.",
    ),
    Claim(
        "similarities of pairs held to the earlier model's do better than fine-tuning (Mod-X, Ni et al. 2023)",
        _EMOJI,
        line="mod_x",
        than="finetune",
        why="With next to nothing forgotten there is nothing to win, and the weight of 20 holds the new style back.",
        **_RECALL,
    ),
    Claim(
        "corrected similarities do better than those that leave mistakes out (DKR against Mod-X, Cui et al. 2024; the "
        "targets are our specification)",
        _EMOJI,
        line="dkr",
        than="mod_x",
        why="The earlier model finds few names at once, so that mod_x leaves out most rows, where dkr puts the right "
        "pair in their place.",
        **_RECALL,
    ),
)
CLIP = (*MTIL, *PACS, *EMOJI)
