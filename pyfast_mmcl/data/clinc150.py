"""CLINC150: short English requests to an assistant, 150 intents in 10 domains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pyfast_mmcl._errors import InputError, unknown_name
from pyfast_mmcl.data.folder import HELD_OUT, read_json
from pyfast_mmcl.data.records import Records
from pyfast_mmcl.data.scenario import Scenario, get_scenario
from pyfast_mmcl.data.stream import Stream
from pyfast_mmcl.data.tokenize import Tokenize, encode_texts

_TESTED = {"test": "test", "validation": "val"}


def clinc150_stream(
    scenario: str | Scenario = "cil",
    n_tasks: int | None = None,
    *,
    held_out: str = "test",
    tokenize: Tokenize = "words",
    length: int = 16,
    folder: str | Path | None = None,
    seed: int = 0,
    **dealing: Any,
) -> Stream:
    """15,000 requests to train on and 4,500 to test on, as token ids [16]; requests outside all intents are left out.

    scenario   "cil" or "til": which of 150 intents; None: one domain (15 intents) per task, a number deals the intents
               evenly. "dil": which of the 10 domains; every one of ``n_tasks`` (default 5, at most 15) tasks brings
               other intents of each domain, so that the classes stay and what they look like changes
    held_out   "test", or "validation": the 3,000 requests of the validation file are tested on instead
    tokenize   "words" (those of the requests trained on), "clip" or a function of texts (``tokenize.TextEncoder``)
    length     tokens of a request; 16 hold 98 % of them whole
    dealing    further arguments of ``Stream.from_dataset``: validation, task_order, long_tail, …
    folder     where the files lie; by default the folder named by PYFAST_MMCL_DATA

    Reference: Larson et al., *An Evaluation Dataset for Intent Classification*, EMNLP 2019. The subpopulations of the
    domain scenario follow Santurkar et al., *BREEDS*, ICLR 2021.
    """
    scenario = get_scenario(scenario)
    if scenario.name not in ("cil", "til", "dil"):
        raise InputError(f"clinc150_stream: expected scenario cil, til or dil, got {scenario.name!r}.")
    if held_out not in HELD_OUT:
        raise unknown_name("choice for held_out", held_out, HELD_OUT)
    parts = read_json("clinc150_full.json.gz", folder)
    domains: dict[str, list[str]] = read_json("clinc150_domains.json.gz", folder)
    intents = [intent for members in domains.values() for intent in members]
    place = {intent: i for i, intent in enumerate(intents)}
    rows = [*parts["train"], *parts[_TESTED[held_out]]]
    intent = torch.tensor([place[name] for _, name in rows])
    n_train, per_domain = len(parts["train"]), len(intents) // len(domains)
    text, vocabulary = encode_texts([request for request, _ in rows], tokenize, length, range(n_train))
    chosen: dict[str, Any] = {"n_tasks": n_tasks, "class_names": [name.replace("_", " ") for name in intents]}
    target = intent
    if scenario.labels == "shared":
        n = 5 if n_tasks is None else n_tasks
        if not 1 <= n <= per_domain:
            raise InputError(f"n_tasks: a domain has {per_domain} intents, so expected 1 to {per_domain}, got {n}.")
        target = intent // per_domain
        chosen = {"domains": intent % per_domain * n // per_domain, "class_names": [_name(d) for d in domains]}
    elif n_tasks is None:
        chosen["classes"] = [[place[i] for i in members] for members in domains.values()]
        chosen["task_names"] = [_name(d) for d in domains]
    return Stream.from_dataset(
        Records({"text": text}, target),
        scenario=scenario,
        test=torch.arange(len(rows)) >= n_train,
        vocabulary=vocabulary,
        seed=seed,
        **chosen,
        **dealing,
    )


def _name(domain: str) -> str:
    return domain.replace("_", " ")
