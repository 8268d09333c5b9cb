"""Durations solved exactly: requirements that are linear in them by vertices, others in whole steps."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.compiler.solving.linear import Line, Point, best_vertices, line_through
from raptr_dsl.compiler.solving.trial import Bench, TooManyTrials, Trial

NUDGE = Fraction(1, 2**60)
"""So little that no border of a stage moves by it: what a metric gains by it is its exact slope."""

ROUNDS = 8
"""Along curves the mean of a stage changes with its length: its slopes are taken anew at each solution."""


class Undecided(Exception):
    """The requirements do not say what the durations are.

    Attributes:
        unbounded: the hole that would take all or nothing; None where several solutions are equally good.
    """

    def __init__(self, unbounded: int | None = None, takes_all: bool = False, touched: bool = True) -> None:
        self.unbounded, self.takes_all, self.touched = unbounded, takes_all, touched


class _Lines(NamedTuple):
    """What is linear in the free durations, as it is near some point."""

    flops: Line
    missed: tuple[Line, ...]
    room: tuple[Line, ...]


def solve_durations(bench: Bench, sizes: Sequence[Fraction]) -> Trial | None:
    """The best trial with these sizes: the most FLOPs, then the longest hole. None if no durations are feasible.

    Raises:
        Undecided: no durations are the best.
    """
    free = bench.free
    if not free:
        trial = bench.attempt(sizes)
        return trial if trial and trial.feasible else None
    values = bench.interior(sizes)
    trial = None
    for _ in range(ROUNDS):
        lines = _lines_at(bench, values, free)
        if lines is None:
            return None
        point = _optimum(bench, lines, free)
        if point is None:
            break
        trial = _placed(bench, values, free, point)
        if trial is None or _as_predicted(bench, lines, trial, point):
            break
        values = list(trial.values)
    if trial is not None and trial.feasible:
        return trial
    return _in_whole_steps(bench, values, free[0]) if len(free) == 1 else None


def _lines_at(bench: Bench, values: Sequence[Fraction], free: Sequence[int]) -> _Lines | None:
    base = bench.attempt(values)
    if base is None:
        return None
    at = [values[number] for number in free]
    nudged: list[Trial] = []
    for number in free:
        moved = list(values)
        moved[number] += NUDGE
        trial = bench.attempt(moved)
        if trial is None:
            return None
        nudged.append(trial)

    def line(of: Callable[[Trial], Fraction]) -> Line:
        return line_through(at, of(base), [(of(trial) - of(base)) / NUDGE for trial in nudged])

    missed = tuple(line(lambda trial, i=i: trial.missed[i]) for i in range(len(bench.requirements)))
    return _Lines(line(lambda trial: trial.flops), missed, _room(bench, free))


def _room(bench: Bench, free: Sequence[int]) -> tuple[Line, ...]:
    """Nothing is shorter than nothing: each hole itself, and what `rest` or a dependent hole gets of each level."""
    unknowns = range(len(free))
    lines = [Line(Fraction(0), tuple(Fraction(i == j) for j in unknowns)) for i in unknowns]
    for level, share in {room.level: room.share for room in bench.rooms.values()}.items():
        taken = [-Fraction(bench.rooms[i].times) if bench.rooms[i].level == level else Fraction(0) for i in free]
        if any(taken):
            lines.append(Line(share, tuple(taken)))
    return tuple(lines)


def _optimum(bench: Bench, lines: _Lines, free: Sequence[int]) -> Point | None:
    """The best durations as far as linear requirements say; None if there are none, or if these say nothing."""
    zeros: list[Line] = []
    positives = list(lines.room)
    for number, requirement in enumerate(bench.requirements):
        if not bench.is_weighed(number):
            continue
        missed = lines.missed[number]
        if requirement.op == "==":
            zeros.append(missed)
        else:
            positives.append(missed if requirement.op == ">=" else missed.negative())
    best = best_vertices(lines.flops, zeros, positives)
    if best is None:
        raise TooManyTrials
    if not best or any(_is_always_zero(line, zeros, positives) for line in lines.room):
        return None
    if len(free) == 1:
        best = [max(best)]  # then the longest hole
    is_stepped = any(not bench.is_weighed(number) for number in range(len(bench.requirements)))
    at_border = any(line.at(best[0]) == 0 for line in lines.room)
    if len(best) == 1 and not at_border:
        return best[0]
    if is_stepped and len(free) == 1:
        return None
    if len(best) > 1 or len(free) > 1:
        raise Undecided
    touched = any(any(line.slopes) for line in lines.missed)
    raise Undecided(free[0], takes_all=best[0][0] > 0, touched=touched)


def _is_always_zero(room: Line, zeros: Sequence[Line], positives: Sequence[Line]) -> bool:
    """Whether the requirements leave no time at all to something."""
    most = best_vertices(room, zeros, positives)
    return bool(most) and room.at(most[0]) == 0


def _placed(bench: Bench, values: Sequence[Fraction], free: Sequence[int], point: Point) -> Trial | None:
    placed = list(values)
    for number, value in zip(free, point, strict=True):
        placed[number] = value
    return bench.attempt(placed)


def _as_predicted(bench: Bench, lines: _Lines, trial: Trial, point: Point) -> bool:
    """Whether what is linear came out as its lines say, so that the optimum is one."""
    return all(
        lines.missed[number].at(point) == missed
        for number, missed in enumerate(trial.missed)
        if bench.is_weighed(number)
    )


def _in_whole_steps(bench: Bench, values: Sequence[Fraction], number: int) -> Trial | None:
    """The best whole number of steps of one hole; each requirement is taken to hold on one side of some number.

    Raises:
        Undecided: the more, or the less, the better.
    """
    room = bench.rooms[number]
    step = 1 / room.steps
    most = int(room.share * room.steps) // room.times - room.takes_rest

    def of(steps: int) -> Trial | None:
        moved = list(values)
        moved[number] = steps * step
        return bench.attempt(moved)

    shortest, longest = of(1), of(most)
    if most < 1 or shortest is None or longest is None:
        return None
    rises = longest.flops >= shortest.flops
    best, other = (most, 1) if rises else (1, most)
    trial = longest if rises else shortest
    if trial.feasible:
        raise Undecided(number, takes_all=rises, touched=shortest.answers != longest.answers)
    while not trial.feasible:
        broken = trial.holds.index(False)
        good, bad = other, best
        far = of(other)
        if far is None or not reaches(bench, far, trial, broken):
            return None
        while abs(good - bad) > 1:
            middle = (good + bad) // 2
            tried = of(middle)
            if tried is not None and reaches(bench, tried, trial, broken):
                good = middle
            else:
                bad = middle
        tried = of(good)
        if tried is None or not tried.holds[broken]:
            return None
        best, trial = good, tried
    return trial


def reaches(bench: Bench, tried: Trial, start: Trial, number: int) -> bool:
    """Whether a requirement that is missed at the start holds, or for `==` is met or passed."""
    if bench.requirements[number].op != "==":
        return tried.holds[number]
    target = bench.requirements[number].value.value
    return (start.answers[number] - target) * (tried.answers[number] - target) <= 0
