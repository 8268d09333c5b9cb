"""Trying values: the ordinary passes on the file with values in place of its holes."""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.filling import Horizon
from raptr_dsl.compiler.levels import Level, Total, add_up
from raptr_dsl.compiler.metrics import METRICS, Question
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.compiler.passes import Passed, Passes
from raptr_dsl.compiler.solving.holes import Hole, filled
from raptr_dsl.compiler.verify import HOLDS
from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.flops import run_report
from raptr_dsl.ir.bound import BoundSchedule
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import Requirement
from raptr_dsl.source import Span
from raptr_dsl.syntax import ast

Values = tuple[Fraction, ...]
"""One for each hole: a duration as a share of its level, a size as a share of its axis."""


TINY = Fraction(1, 4096)
"""A duration that leaves room to all others, to find out how much room there is."""


class Room(NamedTuple):
    """What the level of a duration leaves to its holes.

    Attributes:
        share: of the level, to all holes in it. steps: of the level. times: how often the hole comes.
        level: which, by number. takes_rest: whether `rest` takes what the holes leave.
        in_counts: whether durations of the level are counted in steps or tokens.
    """

    share: Fraction
    steps: Fraction
    times: int
    level: int
    takes_rest: bool
    in_counts: bool


def least_size(bound: BoundSchedule, axis: str) -> Fraction:
    """The least share of an axis that any stage can have: one unit, or all that are kept."""
    kept = (len(stage.axes[axis].keep) for stage in bound.stages if axis in stage.axes)
    return Fraction(max(1, *kept, 1), AXES[axis].space(bound.shape).units)


class Trial(NamedTuple):
    """A file with values in its holes, compiled.

    Attributes:
        answers, missed, holds: for each requirement its metric's value, what that is more than required, in units in
            which weighed metrics are linear in durations, and whether it holds.
    """

    values: Values
    bound: BoundSchedule
    answers: tuple[Fraction, ...]
    missed: tuple[Fraction, ...]
    holds: tuple[bool, ...]

    @property
    def flops(self) -> Fraction:
        """Of the blocks, relative: what a solution has the most of."""
        return run_report(self.bound.shape, self.bound.stages, exact=True).ratio_blocks

    @property
    def feasible(self) -> bool:
        return all(self.holds)


class TooManyTrials(Exception):
    """There are more combinations than anybody would wait for."""


class Unanswerable(Exception):
    """A requirement asks what cannot be asked of the model, whatever is in the holes; why, and where it stands."""

    def __init__(self, problem: str, span: Span | None) -> None:
        super().__init__(problem)
        self.span = span


class Bench:
    """Tries values of holes.

    Attributes:
        rooms: for each hole that is a duration, its room at the last trial.
        dependent: the holes that the others of their level determine, since no `rest` takes what is left.
        requirements: of the file and from outside it.
        left: how many more passes may be made.
        mistakes: of the last values that did not compile.
        nearest: the trial that misses the requirements by least. ranges: of each requirement's metric over all trials.
    """

    def __init__(
        self, file: ast.File, holes: Sequence[Hole], passes: Passes, shape: ModelShape, steps: int, limit: int
    ) -> None:
        self.file, self.holes, self.passes, self.shape = file, holes, passes, shape
        self.horizon = Horizon(Fraction(steps), shape.tokens)
        self.rooms: dict[int, Room] = {}
        self.dependent: set[int] = set()
        self.requirements: tuple[Requirement, ...] = ()
        self.mistakes: tuple[Diagnostic, ...] = ()
        self.nearest: Trial | None = None
        self.ranges: list[tuple[Fraction, Fraction]] = []
        self.left, self._by_start = limit, {hole.span.start: number for number, hole in enumerate(holes)}
        self._settled: dict[int, Fraction] = {}

    @property
    def free(self) -> list[int]:
        """The durations that nothing else determines."""
        return [
            i for i, hole in enumerate(self.holes) if not hole.axis and not (i in self._settled or i in self.dependent)
        ]

    @property
    def sizes(self) -> list[int]:
        return [i for i, hole in enumerate(self.holes) if hole.axis]

    def units(self, number: int) -> int:
        """How many units the axis of a hole has."""
        return AXES[self.holes[number].axis].space(self.shape).units

    def begin(self) -> None:
        """Finds out what level each duration is of, and which the others determine.

        A level without `rest` is an equation: its last hole follows from all others. A hole that gives a level its time
        follows from what is counted in it.
        """
        start = tuple(Fraction(1) if hole.axis else TINY for hole in self.holes)
        gaps = self._gaps(start)
        by_level = {room.level: number for number, room in self.rooms.items() if not room.takes_rest}
        self.dependent = set(by_level.values())
        for number in set(self.rooms) - self.dependent if any(gaps) else ():
            moved = self._gaps((*start[:number], 2 * TINY, *start[number + 1 :]))
            filling = {TINY - gap * TINY / (new - gap) for gap, new in zip(gaps, moved, strict=True) if new != gap}
            if len(filling) == 1:
                self._settled[number] = filling.pop()

    def _gaps(self, values: Values) -> list[Fraction]:
        """What the levels in which nothing can stretch lack, in steps."""
        passed, _ = self._pass(values)
        self._measure(passed.origins)
        fixed = [level for level, holes in self._levels(passed.origins) if not holes]
        totals = [(level, add_up(level.summands(), Diagnostics()) or Total()) for level in fixed]
        return [self.horizon.steps_of(total.left_of(level.length)) for level, total in totals if not total.rests]

    def see(self, passed: Passed, judged: Trial | None = None) -> Trial:
        """Takes in the file as it is, with every place written out; what it is worth, unless that is known already."""
        self._measure(passed.origins)
        if judged is None:
            return self._judged((), passed)
        self.requirements = judged.bound.requirements
        return judged

    def interior(self, values: Sequence[Fraction]) -> list[Fraction]:
        """The values with durations that share the room of their level equally."""
        shared = list(values)
        for number, room in self.rooms.items():
            beside = sum(other.level == room.level for other in self.rooms.values()) + room.takes_rest
            shared[number] = room.share / (beside * room.times)
        return shared

    def attempt(self, values: Sequence[Fraction]) -> Trial | None:
        """What a file with these values is worth; None, with its mistakes kept, if it does not compile.

        What is given for a dependent hole does not count.
        """
        now = self._with_settled(values)
        passed, diagnostics = self._pass(now)
        self._measure(passed.origins)
        for _ in self.dependent:
            self._settled |= {number: self._determined(number, now) for number in self.dependent}
            before, now = now, self._with_settled(values)
            if now == before:
                break
            passed, diagnostics = self._pass(now)
            self._measure(passed.origins)
        if passed.bound is None or passed.plan is None or diagnostics.has_errors:
            self.mistakes = tuple(item for item in diagnostics.sorted() if item.severity == "error")
            return None
        return self._judged(now, passed)

    def _with_settled(self, values: Sequence[Fraction]) -> Values:
        return tuple(self._settled.get(number, value) for number, value in enumerate(values))

    def _pass(self, values: Values) -> tuple[Passed, Diagnostics]:
        if self.left <= 0:
            raise TooManyTrials
        self.left -= 1
        shares = {hole.span.start: value for hole, value in zip(self.holes, values, strict=True)}
        diagnostics = Diagnostics()
        return self.passes(filled(self.file, shares), diagnostics), diagnostics

    def _measure(self, origins: Origins) -> None:
        """The rooms of all durations, from what the levels were found to add up to."""
        for place, (level, holes) in enumerate(self._levels(origins)):
            if not holes:
                continue
            others = [summand for summand in level.summands() if self._number(summand.spec.attribute) not in holes]
            total = add_up(others, Diagnostics()) or Total()
            steps = self.horizon.steps_of(level.length)
            share = self.horizon.steps_of(total.left_of(level.length)) / steps if steps else Fraction(0)
            for number, times in holes.items():
                in_counts = bool(total.steps or total.tokens)
                self.rooms[number] = Room(share, steps, times, place, bool(total.rests), in_counts)

    def _levels(self, origins: Origins) -> list[tuple[Level, dict[int, int]]]:
        """Every level with the holes that are parts of it, and how often each comes.

        The stages of a ramp point at the ramp's own duration: it belongs to the level around, which comes first.
        """
        found: list[tuple[Level, dict[int, int]]] = []
        taken: set[int] = set()
        for level in origins.levels:
            numbers = [(self._number(summand.spec.attribute), summand.times) for summand in level.summands()]
            holes = {number: times for number, times in numbers if number is not None and number not in taken}
            taken |= holes.keys()
            found.append((level, holes))
        return found

    def _number(self, attribute: ast.Attribute) -> int | None:
        """Which hole an attribute fills."""
        span = attribute.value.span
        return self._by_start.get(span.start) if span.source is self.file.span.source else None

    def _determined(self, number: int, values: Values) -> Fraction:
        room = self.rooms[number]
        beside = [i for i, other in self.rooms.items() if other.level == room.level and i != number]
        return (room.share - sum(values[i] * self.rooms[i].times for i in beside)) / room.times

    def _judged(self, values: Values, passed: Passed) -> Trial:
        assert passed.bound is not None and passed.plan is not None
        self.requirements = passed.bound.requirements
        questions = [Question(passed.bound, passed.plan, requirement) for requirement in self.requirements]
        for number, one in enumerate(questions):
            problem = METRICS[one.requirement.metric].problem(one)
            if problem:
                raise Unanswerable(problem, passed.origins.span(("requirements", number)))
        given = [METRICS[one.requirement.metric].evaluate(one) for one in questions]
        answers = tuple(answer.value for answer in given)
        targets = [requirement.value.value for requirement in self.requirements]
        trial = Trial(
            values,
            passed.bound,
            answers,
            tuple((answer.value - target) * answer.whole for answer, target in zip(given, targets, strict=True)),
            tuple(
                HOLDS[requirement.op](answer, target)
                for requirement, answer, target in zip(self.requirements, answers, targets, strict=True)
            ),
        )
        ranges = self.ranges or [(answer, answer) for answer in answers]
        self.ranges = [(min(low, a), max(high, a)) for (low, high), a in zip(ranges, answers, strict=True)]
        if self.nearest is None or self.miss(trial) < self.miss(self.nearest):
            self.nearest = trial
        return trial

    def miss(self, trial: Trial) -> Fraction:
        """By how much a trial misses the requirements, each in parts of what is required."""
        return sum(
            (
                abs(answer - requirement.value.value) / (abs(requirement.value.value) or 1)
                for requirement, answer, holds in zip(self.requirements, trial.answers, trial.holds, strict=True)
                if not holds
            ),
            Fraction(0),
        )

    def is_weighed(self, number: int) -> bool:
        """Whether a requirement is linear in durations: it weighs stages by their exact length (rule 38)."""
        requirement = self.requirements[number]
        is_drawn = requirement.options.get("case") == "seed"
        return METRICS[requirement.metric].weighed and not requirement.value.is_count and not is_drawn

    def grows(self, number: int) -> bool:
        """Whether a requirement's metric is the larger the larger a size is."""
        return self.is_weighed(number) and self.requirements[number].options.get("per") != "tokens"
