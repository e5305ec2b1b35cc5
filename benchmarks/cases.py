"""Which cases of a family are measured: a preset, narrowed to an operation and to sizes."""

from __future__ import annotations

from benchmarks.families import Family


def unique(cases) -> tuple:
    """The cases without repetitions, in their order."""
    return tuple(dict.fromkeys(cases))


def select(family: Family, preset: str, op: str | None = None, sizes: dict[str, int] | None = None) -> tuple:
    """Cases of a preset, narrowed to one operation and to given sizes such as {"D": 768, "N": 1000}."""
    presets = family.cases.PRESETS
    if preset not in presets:
        raise ValueError(f"unknown preset {preset!r}; choose one of {', '.join(presets)}")
    chosen = [case for case in presets[preset] if op in (None, case.op)]
    for letter, value in (sizes or {}).items():
        chosen = [case for case in chosen if getattr(case, letter, None) == value]
    return tuple(chosen)
