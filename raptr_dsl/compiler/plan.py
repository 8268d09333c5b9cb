"""Bound schedule + seed → plan."""

from raptr_dsl.ir.bound import BoundSchedule
from raptr_dsl.ir.plan import Plan


def make_plan(bound: BoundSchedule, *, name: str, seed: int) -> Plan:
    """The plan of a bound schedule, before its requirements are verified.

    Args:
        name: of the schedule, for people; no part of the plan's identity.
        seed: of the masks, an unsigned 64-bit integer.
    """
    return Plan(
        name=name,
        doc=bound.doc,
        seed=seed,
        shape=bound.shape,
        steps=bound.steps,
        partial=bound.partial,
        stages=bound.stages,
    )
