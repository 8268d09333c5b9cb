"""What the passes make of one file; the solver of holes runs them many times, on files that differ in a number."""

from collections.abc import Callable
from typing import NamedTuple

from raptr_dsl.compiler.origins import Origins
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.ir.bound import BoundSchedule
from raptr_dsl.ir.plan import Plan
from raptr_dsl.ir.schedule import Schedule
from raptr_dsl.syntax import ast


class Passed(NamedTuple):
    """As far as the passes went: what is None could not be made. The plan's requirements are not verified yet."""

    origins: Origins
    schedule: Schedule | None = None
    bound: BoundSchedule | None = None
    plan: Plan | None = None


Passes = Callable[[ast.File, Diagnostics], Passed]
"""Every pass from the syntax tree to the plan, with what the caller set from outside."""
