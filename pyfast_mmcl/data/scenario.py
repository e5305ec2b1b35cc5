"""Scenarios: three choices, kept as rows of one table.

The five rows are those of Yu et al., Recent Advances of Multimodal Continual Learning, arXiv:2410.05352, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyfast_mmcl._errors import InputError, unknown_name

_LABELS = ("disjoint", "shared", "generated")
_MODALITIES = ("all", "per task")


@dataclass(frozen=True)
class Scenario:
    """What changes from task to task, and what the learner is told at test time.

    labels                 "disjoint": every task brings classes of its own; "shared": all tasks have the same classes;
                           "generated": answers are sequences [B, S] over one vocabulary
    task_id_at_test        whether a test row says which task it belongs to (its classes are then the only candidates)
    modalities             "all": every task has every modality; "per task": each task has a modality set of its own
    """

    name: str
    title: str
    labels: str
    task_id_at_test: bool
    modalities: str

    def __post_init__(self) -> None:
        if self.labels not in _LABELS:
            raise unknown_name("rule of the label space", self.labels, _LABELS)
        if self.modalities not in _MODALITIES:
            raise unknown_name("rule of the modalities", self.modalities, _MODALITIES)


SCENARIOS = {
    row.name: row
    for row in (
        Scenario("cil", "class-incremental", "disjoint", task_id_at_test=False, modalities="all"),
        Scenario("dil", "domain-incremental", "shared", task_id_at_test=False, modalities="all"),
        Scenario("til", "task-incremental", "disjoint", task_id_at_test=True, modalities="all"),
        Scenario("gdil", "generative domain-incremental", "generated", task_id_at_test=False, modalities="all"),
        Scenario("mdtil", "modality-dynamic task-incremental", "disjoint", task_id_at_test=True, modalities="per task"),
    )
}


def get_scenario(scenario: str | Scenario) -> Scenario:
    """The scenario with this name ("cil") or title ("class-incremental"); a Scenario is returned as it is."""
    if isinstance(scenario, Scenario):
        return scenario
    if not isinstance(scenario, str):
        raise InputError(f"scenario: expected a name or a Scenario, got {type(scenario).__name__}.")
    named = SCENARIOS | {row.title: row for row in SCENARIOS.values()}
    if scenario.lower() not in named:
        raise unknown_name("scenario", scenario, named)
    return named[scenario.lower()]
