"""Levels, and what their parts add up to (rules 9, 12).

A level is the file, a `run`, one pass of a `repeat` with `steps=`, or a `ramp`: something of a known length
that its parts have to fill. A length is a linear form, share·T + steps + tokens/(tokens of a step); a share
written in a level is multiplied by the level's length. A plain `repeat` is no level: its parts are parts of
the level around it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

from raptr_dsl.compiler.durations import ZERO, Spec
from raptr_dsl.compiler.evaluate import MAX_BITS, is_too_large
from raptr_dsl.compiler.origins import StagePlaces
from raptr_dsl.diagnostics import Diagnostics, Label
from raptr_dsl.ir.schedule import AxisRule, Duration
from raptr_dsl.source import Span

WHOLE_RUN = Duration(share=Fraction(1))


@dataclass(frozen=True, slots=True)
class Leaf:
    """One stage to be.

    Attributes:
        spec: None where it could not be read. label: which of a ramp it is.
        whole: the fields of `ir.Stage` that are said of it as a whole.
    """

    name: str | None
    axes: dict[str, AxisRule]
    places: StagePlaces
    spec: Spec | None
    label: Label | None = None
    whole: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Statements that expand together.

    Attributes:
        statement: what expands them, for carets; kind: its word.
        title: the level in messages ("the run", "a pass of this repeat").
        is_level: whether `spec` says how long they take; if not, they are parts of the level around them.
        times: how often they come; a level's length is shared equally among its passes.
        lossy: whether statements were lost to syntax errors, so that what is left need not add up.
    """

    parts: "list[Leaf | Group]"
    statement: Span
    kind: str
    title: str
    is_level: bool = True
    spec: Spec | None = None
    times: int = 1
    lossy: bool = False

    def label(self, number: int) -> Label | None:
        """What to say of the statement in the chain of what it expands to."""
        if self.kind == "repeat":
            return Label(self.statement, f"pass {number + 1} of {self.times}")
        return Label(self.statement, "run from here") if self.kind == "run" else None


Part = Leaf | Group


class Summand(NamedTuple):
    """One part of a level, and how often plain `repeat`s make it come."""

    spec: Spec
    times: int

    @property
    def value(self) -> Fraction:
        return self.spec.value if self.times == 1 else self.spec.value * self.times


class Total(NamedTuple):
    """What the parts of a level add up to, in its own terms; `rests` are those that take what is left."""

    share: Fraction = ZERO
    steps: Fraction = ZERO
    tokens: Fraction = ZERO
    rests: tuple[Summand, ...] = ()

    def left_of(self, length: Duration) -> Duration:
        """The length of the level less what its parts take: negative where they overrun it."""
        kept = 1 - self.share
        return Duration(
            share=length.share * kept,
            steps=length.steps * kept - self.steps,
            tokens=length.tokens * kept - self.tokens,
        )


class Level(NamedTuple):
    """A length and the parts that have to fill it.

    Attributes:
        run: the statement that asked for a level of another file. lossy: see `Group`.
        may_be_empty: whether a parameter had a hand in it, so that `rest` may come to nothing (rule 13).
    """

    title: str
    length: Duration
    parts: Sequence[Part]
    run: Span | None = None
    lossy: bool = False
    may_be_empty: bool = False

    def summands(self) -> list[Summand]:
        """The parts that say how long they take, in order."""
        return list(_summands(self.parts, 1))

    def is_complete(self) -> bool:
        """Whether everything was read that has to add up."""
        return not self.lossy and _is_complete(self.parts)


def _summands(parts: Sequence[Part], times: int) -> Iterator[Summand]:
    for part in parts:
        if isinstance(part, Group) and not part.is_level:
            yield from _summands(part.parts, times * part.times)
        elif part.spec is not None:
            yield Summand(part.spec, times)


def _is_complete(parts: Sequence[Part]) -> bool:
    for part in parts:
        if isinstance(part, Group) and not part.is_level:
            if part.lossy or not _is_complete(part.parts):
                return False
        elif part.spec is None:
            return False
    return bool(parts)


def count_stages(part: Part) -> int:
    """How many stages a part expands to."""
    return 1 if isinstance(part, Leaf) else part.times * sum(map(count_stages, part.parts))


def add_up(summands: Sequence[Summand], diagnostics: Diagnostics) -> Total | None:
    """The sums of shares, steps and tokens; None, with that recorded, if they pass the limit on numbers."""
    sums = {"share": ZERO, "steps": ZERO, "tokens": ZERO}
    for summand in summands:
        unit = summand.spec.unit
        if unit == "rest":
            continue
        sums[unit] += summand.value
        if is_too_large(sums[unit]):
            too_large(summand.spec, diagnostics)
            return None
    return Total(**sums, rests=tuple(summand for summand in summands if summand.spec.unit == "rest"))


def too_large(spec: Spec, diagnostics: Diagnostics) -> None:
    """Records that durations, added up or multiplied, pass the limit on numbers."""
    diagnostics.add(
        "limit-number",
        f"up to here the durations add up to a number of more than {MAX_BITS} bits",
        spec.attribute.span,
        help="write shares whose denominators have factors in common",
    )


def length_of(spec: Spec, level: Duration, left: Duration) -> Duration:
    """The length of a part of a level of which `left` is left over."""
    match spec.unit:
        case "rest":
            return left
        case "steps":
            return Duration(steps=spec.value)
        case "tokens":
            return Duration(tokens=spec.value)
        case _:
            return Duration(share=spec.value) if level is WHOLE_RUN else scaled(level, spec.value)


def scaled(length: Duration, factor: Fraction) -> Duration:
    return Duration(share=length.share * factor, steps=length.steps * factor, tokens=length.tokens * factor)
