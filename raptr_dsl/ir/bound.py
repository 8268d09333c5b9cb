"""A schedule bound to a model and a horizon: whole steps, whole units, and still no seed."""

from typing import Literal

from pydantic import Field

from raptr_dsl.ir.base import Frozen, Rational
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import Attributes, Draw, Moments, Requirement, StageAttributes


class Border(Frozen):
    """From `offset` steps into its stage on, a size (in units) or a keep probability holds."""

    offset: int = Field(ge=0)
    value: Rational


class BoundDraw(Draw):
    """How units of one axis are chosen in one stage.

    Attributes:
        keep: the units that are always chosen, ascending.
        sizes: the staircase, from offset 0; one entry where the size is constant. Empty where sizes are drawn.
        measure: what the staircase holds: sizes in units, or keep probabilities.
        choices: the sizes, in units, among which each draw chooses (rule 7).
    """

    keep: tuple[int, ...] = ()
    sizes: tuple[Border, ...] = ()
    measure: Literal["units", "probability"] = "units"
    choices: tuple[int, ...] = ()


class Growth(Frozen):
    """What a stage copies before its first step (rule 35).

    Attributes:
        before: units that were born until then: those numbered below it.
        at: where new ones are inserted: units `at` to `at` + (len(sources) − before) − 1 are new, the others moved.
        sources: for each unit that is born now, the unit whose values it takes, as numbered before; −1 for the
            values with which the model began, the block's output projections zero.
        moments: whether new units take the optimizer state of their sources, counts included, or begin with none.
    """

    before: int = Field(ge=1)
    at: int = Field(ge=0)
    sources: tuple[int, ...]
    moments: Moments = "copy"

    @property
    def new(self) -> range:
        """The units that were not there before."""
        return range(self.at, self.at + len(self.sources) - self.before)


class BoundRule(BoundDraw, Attributes):
    """What one stage does along one axis, in units.

    Attributes:
        full: the blocks of a stack, ascending, in which all units run, unscaled, whatever is drawn for the others; not
            all blocks. Of an axis that has a site in every block.
        buckets: numbers of units, ascending, for which programs are compiled ahead where counts are random; the last
            holds every count but the full one. Empty: each count has a program.
        train: the units that are trained while they run; None for all of them (rule 33).
        born: in a schedule that grows, how many units there are yet, the first ones; the others are neither touched
            nor evaluated (rules 35, 36). None for all.
        growth: what is copied at the stage's start; None where nothing grows.
    """

    full: tuple[int, ...] = ()
    buckets: tuple[int, ...] = ()
    train: BoundDraw | None = None
    born: int | None = None
    growth: Growth | None = None


def changes_state(rule: BoundRule) -> bool:
    """Whether a rule says anything of an axis that runs in full: what trains, what is born, what is copied."""
    return rule.train is not None or rule.born is not None or rule.growth is not None


class BoundStage(StageAttributes):
    """Steps `start` ≤ t < `stop`; `duration` is the exact length before borders were rounded (rule 13).

    An axis that is missing from `axes` runs in full, and all of it trains.

    Attributes:
        rewarm: steps in which the learning rate climbs from nothing at the stage's start.
    """

    name: str | None = None
    start: int = Field(ge=0)
    stop: int
    duration: Rational
    axes: dict[str, BoundRule] = Field(default_factory=dict)
    rewarm: int = Field(default=0, ge=0)

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
