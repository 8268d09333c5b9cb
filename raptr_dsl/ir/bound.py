"""A schedule bound to a model and a horizon: whole steps, whole units, and still no seed."""

from typing import Literal

from pydantic import Field

from raptr_dsl.ir.base import Frozen, Rational
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import Attributes, Requirement


class Border(Frozen):
    """From `offset` steps into its stage on, a size (in units) or a keep probability holds."""

    offset: int = Field(ge=0)
    value: Rational


class BoundRule(Attributes):
    """What one stage does along one axis, in units.

    Attributes:
        sizes: the staircase, from offset 0; one entry where the size is constant. Empty where sizes are drawn.
        measure: what the staircase holds: sizes in units, or keep probabilities.
        choices: the sizes, in units, among which each draw chooses (rule 7).
    """

    keep: tuple[int, ...] = ()
    sizes: tuple[Border, ...] = ()
    measure: Literal["units", "probability"] = "units"
    choices: tuple[int, ...] = ()


class BoundStage(Frozen):
    """Steps `start` ≤ t < `stop`; `duration` is the exact length before borders were rounded (rule 13).

    An axis that is missing from `axes` runs in full.
    """

    name: str | None = None
    start: int = Field(ge=0)
    stop: int
    duration: Rational
    axes: dict[str, BoundRule] = Field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.stop - self.start


class BoundSchedule(Frozen):
    """Stages that tile [0, steps) exactly."""

    doc: str | None = None
    shape: ModelShape
    steps: int = Field(ge=1)
    partial: bool = False
    stages: tuple[BoundStage, ...]
    requirements: tuple[Requirement, ...] = ()
