"""Small linear programs in exact fractions: few unknowns, few constraints, every vertex looked at."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations
from typing import NamedTuple

MAX_VERTICES = 5000

Point = tuple[Fraction, ...]


class Line(NamedTuple):
    """The affine function constant + slopes · x."""

    constant: Fraction
    slopes: Point

    def at(self, point: Sequence[Fraction]) -> Fraction:
        return self.constant + sum((s * x for s, x in zip(self.slopes, point, strict=True)), Fraction(0))

    def negative(self) -> "Line":
        return Line(-self.constant, tuple(-slope for slope in self.slopes))


def line_through(at: Sequence[Fraction], value: Fraction, slopes: Sequence[Fraction]) -> Line:
    """The affine function with these slopes that has a value at a point."""
    return Line(value - sum((s * x for s, x in zip(slopes, at, strict=True)), Fraction(0)), tuple(slopes))


def best_vertices(objective: Line, zeros: Sequence[Line], positives: Sequence[Line]) -> list[Point] | None:
    """The vertices of the polytope {zeros = 0, positives ≥ 0} at which the objective is largest; none if it is empty.

    The polytope has to be bounded. None if it has too many vertices to look at.
    """
    equations = _independent(zeros)
    if equations is None:
        return []
    unknowns = len(objective.slopes)
    best: list[Point] = []
    for looked_at, chosen in enumerate(combinations(positives, unknowns - len(equations))):
        if looked_at >= MAX_VERTICES:
            return None
        point = _solve([*equations, *chosen], unknowns)
        if point is None or point in best or any(line.at(point) < 0 for line in positives):
            continue
        gain = objective.at(point) - objective.at(best[0]) if best else Fraction(1)
        if gain > 0:
            best = []
        if gain >= 0:
            best.append(point)
    return best


def _independent(lines: Sequence[Line]) -> list[Line] | None:
    """As many of the equations as say all of them; None if they contradict each other."""
    reduced: list[Line] = []
    for line in lines:
        for pivot in reduced:
            line = _without(line, pivot)
        if any(line.slopes):
            reduced.append(line)
        elif line.constant:
            return None
    return reduced


def _without(line: Line, pivot: Line) -> Line:
    """A line minus the multiple of another that takes its leading unknown away."""
    lead = next(i for i, slope in enumerate(pivot.slopes) if slope)
    factor = line.slopes[lead] / pivot.slopes[lead]
    if not factor:
        return line
    slopes = tuple(a - factor * b for a, b in zip(line.slopes, pivot.slopes, strict=True))
    return Line(line.constant - factor * pivot.constant, slopes)


def _solve(lines: Sequence[Line], unknowns: int) -> Point | None:
    """The only point at which all lines are zero, if there is exactly one."""
    rows = _independent(lines)
    if rows is None or len(rows) < unknowns:
        return None
    solved: dict[int, Fraction] = {}
    for row in _reduced(rows):
        lead = next(i for i, slope in enumerate(row.slopes) if slope)
        solved[lead] = -row.constant / row.slopes[lead]
    return tuple(solved[i] for i in range(unknowns))


def _reduced(rows: Sequence[Line]) -> list[Line]:
    """Independent rows with each leading unknown in one of them only."""
    done: list[Line] = []
    for row in rows:
        done = [_without(other, row) for other in done]
        done.append(row)
    return done
