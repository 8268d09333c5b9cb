"""The IR of a schedule before it meets a model: one flat list of stages, exact, without spans."""

from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import Field

from raptr_dsl.curves import AnyCurve
from raptr_dsl.ir.base import Frozen, Rational
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.laws import AnyLaw

Rounding = Literal["exact", "nearest", "floor", "ceil"]
Idle = Literal["zero", "skip"]
Grow = Literal["none", "zero", "last", "all", "middle"]
Moments = Literal["copy", "zero"]
Part = Literal["embed", "head"]
PARTIAL = "partial"


class Amount(Frozen):
    """A count of elements (`6`) or a share of the axis (`6/12`): rule 1."""

    value: Rational
    is_count: bool = False


class Exactly(Frozen):
    """One size."""

    kind: Literal["exactly"] = "exactly"
    amount: Amount
    rounding: Rounding = "exact"


class Varying(Frozen):
    """A size along a curve over the stage's time: a staircase of whole units (rule 16)."""

    kind: Literal["varying"] = "varying"
    curve: AnyCurve
    start: Amount
    stop: Amount
    rounding: Rounding = "nearest"


class Probability(Frozen):
    """`prob(x)`: a keep probability, constant or along a curve."""

    kind: Literal["probability"] = "probability"
    start: Rational
    stop: Rational | None = None
    curve: AnyCurve | None = None


class Drawn(Frozen):
    """`draw(a, b, …)`: one of these sizes a draw; with `is_range`, any whole number of units between the two."""

    kind: Literal["drawn"] = "drawn"
    amounts: tuple[Amount, ...]
    is_range: bool = False


Size = Annotated[Exactly | Varying | Probability | Drawn, Field(discriminator="kind")]


class Profile(Frozen):
    """How the weight w of rule 26 varies over units: uniform, linear, a list, or a curve from `start` to `stop`."""

    kind: Literal["uniform", "linear", "list", "curve"] = "uniform"
    weights: tuple[Rational, ...] = ()
    curve: AnyCurve | None = None
    start: Rational = Fraction(0)
    stop: Rational = Fraction(1)


UNIFORM = Profile()


class Draw(Frozen):
    """How units are chosen. `every` is how many steps a draw lasts; None for one draw in the whole stage."""

    law: AnyLaw
    profile: Profile = UNIFORM
    every: int | None = 1


class Attributes(Draw):
    """What is said of an axis and means the same in every model: bound as it stands.

    A new attribute is one field here, and its entry in `compiler.attributes`.
    """

    scale: str = "none"
    idle: Idle = "zero"

    def attributes(self) -> dict[str, Any]:
        """By name, to be copied into another rule."""
        return {name: getattr(self, name) for name in Attributes.model_fields}


class Training(Frozen):
    """Which units are trained (rule 33): drawn by a law at a size, or, without them, those that are new."""

    law: AnyLaw | None = None
    size: Size | None = None


class AxisRule(Attributes):
    """What one stage does along one axis.

    Attributes:
        keep: indices of units; −1 is the last.
        full: indices of blocks, likewise, in which all units run; of an axis that has a site in every block.
        buckets: for how many sizes a compiled backend builds programs where counts vary; None for every size.
        train: which units are trained; None for all.
        grow: which units new ones are copied from at the stage's start (rule 35).
        moments: whether the optimizer state of new ones is copied with them.
    """

    size: Size
    keep: tuple[int, ...] = ()
    full: tuple[int, ...] = ()
    buckets: int | None = None
    train: Training | None = None
    grow: Grow = "none"
    moments: Moments = "copy"


class Duration(Frozen):
    """share·T + steps + tokens / (tokens of a step), of the horizon T: every level's shares are multiplied out."""

    share: Rational = Fraction(0)
    steps: Rational = Fraction(0)
    tokens: Rational = Fraction(0)


class StageAttributes(Frozen):
    """What is said of a whole stage and means the same in every model: bound as it stands.

    Attributes:
        freeze: parts outside the axes that are not trained, in order (rule 33).
    """

    freeze: tuple[Part, ...] = ()

    def attributes(self) -> dict[str, Any]:
        """By name, to be copied into another stage."""
        return {name: getattr(self, name) for name in StageAttributes.model_fields}


class Stage(StageAttributes):
    """One stage, its time not yet in whole steps.

    Attributes:
        optional: whether a parameter set the duration: no steps drop the stage with a note (rule 13).
        rewarm: over how many steps, or what share of the stage, the learning rate climbs at its start.
    """

    name: str | None = None
    duration: Duration
    axes: dict[str, AxisRule] = Field(default_factory=dict)
    optional: bool = False
    rewarm: Amount | None = None


class Requirement(Frozen):
    """`require METRIC OP VALUE`; `target` is a name such as `blocks`, `depth`; `options` the named arguments."""

    metric: str
    target: str | None = None
    options: dict[str, str] = Field(default_factory=dict)
    op: Literal["<=", ">=", "=="]
    value: Amount


class Schedule(Frozen):
    """A whole file with its imports expanded. What it leaves open (model, horizon, seed) is None."""

    doc: str | None = None
    model: ModelShape | None = None
    horizon: Duration | None = None
    seed: int | None = None
    allow: frozenset[str] = frozenset()
    stages: tuple[Stage, ...]
    requirements: tuple[Requirement, ...] = ()
