"""The steps in which several axes hold their draws: what is random about them is the same in all of these."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import lcm

from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.occupancy import Segment

Cell = tuple[list[tuple[int, Segment]], int]
"""(steps, the segment they are in) of each piece of a cell, and how often the like occurs, by the square of steps."""


def cells(stage: BoundStage, parts: Sequence[Segment], every: Sequence[int]) -> Iterator[Cell]:
    """The cells of axes that draw `every` so many steps from the stage's start on, each axis cut at the stage's end.

    All that lie within one segment are one entry, of one step and as many times as their squared lengths add up to:
    what depends on a cell depends on the square of its length.
    """
    lengths = _coarsest(every)
    pieces: list[tuple[int, Segment]] = []
    for part in parts:
        start, stop = part.start - stage.start, part.stop - stage.start
        first = min(-(-start // length) * length for length in lengths)
        if first > stop:
            pieces.append((stop - start, part))
            continue
        last = max(stop // length * length for length in lengths)
        if first > start:
            pieces.append((first - start, part))
        if pieces:
            yield pieces, 1
        if first < last:
            yield [(1, part)], _squares(first, last, lengths)
        pieces = [(stop - last, part)] if last < stop else []
    if pieces:
        yield pieces, 1


def _coarsest(every: Sequence[int]) -> list[int]:
    """The lengths whose multiples are all borders: multiples of another add none."""
    lengths: list[int] = []
    for length in sorted(set(every)):
        if all(length % shorter for shorter in lengths):
            lengths.append(length)
    return lengths


def _squares(first: int, last: int, lengths: Sequence[int]) -> int:
    """The squared lengths of the cells between two borders, added up."""
    if len(lengths) == 1:
        return (last - first) * lengths[0]
    period = lcm(*lengths)
    periods, rest = divmod(last - first, period)
    total = _enumerated(last - rest, last, lengths)
    if periods:
        total += periods * _enumerated(first, first + period, lengths)
    return total


def _enumerated(first: int, last: int, lengths: Sequence[int]) -> int:
    borders = {first, last}
    for length in lengths:
        borders.update(range(-(-first // length) * length, last, length))
    return sum((stop - start) ** 2 for start, stop in pairwise(sorted(borders)))
