"""Two numbers of two stages changed together, where no single one meets what is required; else what comes nearest."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.passes import Passed, Passes
from raptr_dsl.compiler.scope import Quantity
from raptr_dsl.compiler.solving.explain import written
from raptr_dsl.compiler.solving.holes import Hole
from raptr_dsl.compiler.solving.trial import Bench, TooManyTrials, Trial, Unanswerable, least_size
from raptr_dsl.syntax import ast

EFFORT = 200
"""Passes of all trials together, as in `repair`: less than a tenth of a second."""

SMALL = 4
MOST_PLACES = 6
PERCENT = Fraction(1, 100)


class Move(NamedTuple):
    """A number changed as far as it helps.

    Attributes:
        now, end: what it is, and how far it can go. steps: how many of its own smallest changes lie between.
        trial: the file with the number at its end. text: how the file writes that.
    """

    hole: Hole
    now: Fraction
    end: Fraction
    steps: int
    trial: Trial
    text: str

    def at(self, part: Fraction) -> Fraction:
        """The number after a part of the way, in whole steps."""
        return self.now + (self.end - self.now) / self.steps * round(part * self.steps)


class Pair(NamedTuple):
    """Two edits that meet all requirements together, and what they change, in shares of the level or the axis."""

    change: Fraction
    edits: tuple[tuple[Hole, str], tuple[Hole, str]]


class Search:
    """Tries numbers of one file, in a bounded number of passes.

    Args:
        places: the numbers that the file writes out, with their values, the costliest stage's first.
    """

    def __init__(
        self, file: ast.File, passed: Passed, passes: Passes, places: Sequence[tuple[Hole, Quantity]], present: Trial
    ) -> None:
        assert passed.bound is not None
        self.file, self.passed, self.passes, self.places, self.present = file, passed, passes, places, present
        self.shape, self.steps = passed.bound.shape, passed.bound.steps
        self.starts = sorted({places.statement.start for places, _ in passed.origins.stages})
        self.left = EFFORT // (len(passed.bound.stages) + SMALL)

    def moves(self) -> list[Move]:
        """Each number as far as it helps, the one that comes nearest first; those that do not help are left out."""
        found: list[tuple[Fraction, Move]] = []
        for hole, quantity in self.places[:MOST_PLACES] if self.left else ():
            bench = self._bench(hole)
            try:
                best = min(self._ends(bench, hole, quantity), key=lambda item: item[0], default=None)
            except TooManyTrials:
                break
            if best is not None and best[0] < bench.miss(self.present):
                found.append(best)
        return [move for _, move in sorted(found, key=lambda item: item[0])]

    def pair(self, moves: Sequence[Move]) -> Pair | None:
        """The pair of least change, pairs of sizes first; as far as time allows."""
        best: Pair | None = None
        two_by_two = [two for two in combinations(moves, 2) if self._are_apart(*two)]
        for one, other in sorted(two_by_two, key=lambda two: sum(not move.hole.axis for move in two)):
            try:
                pair = self._paired(one, other)
            except TooManyTrials:
                break
            if pair is not None and (best is None or pair.change < best.change):
                best = pair
        return best

    def _are_apart(self, one: Move, other: Move) -> bool:
        """Whether two numbers are of two statements, and do not share the time of one level."""
        first, second = (bisect_right(self.starts, move.hole.span.start) for move in (one, other))
        return first != second and bool(one.hole.axis or other.hole.axis)

    def _bench(self, *holes: Hole) -> Bench:
        bench = Bench(self.file, holes, self.passes, self.shape, self.steps, self.left)
        bench.see(self.passed, self.present)
        return bench

    def _attempt(self, bench: Bench, values: Sequence[Fraction]) -> Trial | None:
        bench.left = self.left
        try:
            return bench.attempt(values)
        except Unanswerable:
            return None
        finally:
            self.left = bench.left

    def _ends(self, bench: Bench, hole: Hole, quantity: Quantity) -> Iterator[tuple[Fraction, Move]]:
        """By how much each end of what a number can be misses the requirements."""
        if hole.axis:
            space = AXES[hole.axis].space(self.shape)
            now = quantity.value / (space.units * space.group) if quantity.is_count else quantity.value
            step, least, most = Fraction(1, space.units), least_size(self.present.bound, hole.axis), Fraction(1)
        else:
            room = bench.rooms.get(0)
            if room is None or not room.takes_rest or not room.steps:
                return
            now = quantity.value / room.steps if quantity.is_count else quantity.value
            step = max(PERCENT, 1 / room.steps)
            least, most = step, room.share / room.times - step
        for end in (least, most):
            steps = int(abs(end - now) / step)
            trial = self._attempt(bench, [end]) if steps else None
            if trial is not None:
                yield bench.miss(trial), Move(hole, now, end, steps, trial, written(bench, 0, trial))

    def _paired(self, one: Move, other: Move) -> Pair | None:
        """Both numbers moved by the same part of their ways, as little as will do."""
        bench, parts = self._bench(one.hole, other.hole), max(one.steps, other.steps)

        def tried(part: int) -> Trial | None:
            return self._attempt(bench, [move.at(Fraction(part, parts)) for move in (one, other)])

        best = tried(parts)
        if best is None or not best.feasible:
            return None
        missed, met = 0, parts
        while met - missed > 1:
            middle = (met + missed) // 2
            trial = tried(middle)
            if trial is not None and trial.feasible:
                met, best = middle, trial
            else:
                missed = middle
        change = sum(
            (abs(value - move.now) for value, move in zip(best.values, (one, other), strict=True)), Fraction(0)
        )
        return Pair(change, ((one.hole, written(bench, 0, best)), (other.hole, written(bench, 1, best))))


def search(
    file: ast.File, passed: Passed, passes: Passes, places: Sequence[tuple[Hole, Quantity]], present: Trial
) -> tuple[Pair | None, list[Move]]:
    """The best pair, None if there is none or time is up, and how near each single number comes."""
    looking = Search(file, passed, passes, places, present)
    moves = looking.moves()
    if any(requirement.op == "==" for requirement in present.bound.requirements):
        return None, moves
    return looking.pair(moves), moves
