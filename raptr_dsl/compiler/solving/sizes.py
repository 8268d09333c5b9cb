"""Sizes solved by search over whole units, with the durations solved for each."""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import product
from math import prod
from typing import NamedTuple

from raptr_dsl.compiler.solving.durations import Undecided, reaches, solve_durations
from raptr_dsl.compiler.solving.trial import Bench, TooManyTrials, Trial

FEW_UNITS = 16
"""So many sizes are tried one by one; among more, that metrics grow with size is made use of where they do."""


class Best(NamedTuple):
    """The best trial, and another that is as good; or why the durations are not decided."""

    trial: Trial | None = None
    rival: Trial | None = None
    undecided: Undecided | None = None


def search(bench: Bench) -> Best:
    """The solution of a file's holes: of what is feasible the most FLOPs, then the longest hole."""
    if not bench.sizes:
        return _durations_alone(bench)
    *outer, inner = bench.sizes
    if prod(map(bench.units, outer)) > bench.left:
        raise TooManyTrials
    best, ranked, undecided = Best(), None, None
    for chosen in product(*(range(bench.units(number), 0, -1) for number in outer)):
        sizes = [Fraction(1)] * len(bench.holes)
        for number, units in zip(outer, chosen, strict=True):
            sizes[number] = Fraction(units, bench.units(number))
        for trial in _down(bench, sizes, inner):
            if isinstance(trial, Undecided):
                undecided = undecided or trial
                continue
            rank = _rank(bench, trial)
            if ranked is None or rank > ranked:
                best, ranked = Best(trial), rank
            elif rank == ranked and trial.values != (best.trial and best.trial.values):
                best = best._replace(rival=trial)
    return best._replace(undecided=undecided)


def _durations_alone(bench: Bench) -> Best:
    try:
        return Best(solve_durations(bench, [Fraction(1)] * len(bench.holes)))
    except Undecided as undecided:
        return Best(undecided=undecided)


def _rank(bench: Bench, trial: Trial) -> tuple[Fraction, Fraction]:
    """The most FLOPs, then the longest hole; a determined one is no choice, but it counts as any other."""
    durations = [trial.values[number] for number, hole in enumerate(bench.holes) if not hole.axis]
    return trial.flops, max(durations, default=Fraction(0))


def _down(bench: Bench, sizes: Sequence[Fraction], number: int) -> Iterator[Trial | Undecided]:
    """The feasible trials among which the best is, from the largest size of one hole down."""
    units = bench.units(number)
    if not bench.free and units > FEW_UNITS and all(map(bench.grows, range(len(bench.requirements)))):
        found, is_sure = _by_bisection(bench, sizes, number)
        if found is not None:
            yield found
        if is_sure:
            return
    for size in range(units, 0, -1):
        trial = _with(bench, sizes, number, size)
        if trial is None:
            continue
        yield trial
        if not bench.free and isinstance(trial, Trial):
            return  # smaller sizes have fewer FLOPs


def _with(bench: Bench, sizes: Sequence[Fraction], number: int, units: int) -> Trial | Undecided | None:
    tried = list(sizes)
    tried[number] = Fraction(units, bench.units(number))
    try:
        return solve_durations(bench, tried)
    except Undecided as undecided:
        return undecided


def _by_bisection(bench: Bench, sizes: Sequence[Fraction], number: int) -> tuple[Trial | None, bool]:
    """The largest feasible size, of metrics that grow with it; and whether that is sure: all sizes tried compiled."""

    def of(units: int) -> Trial | None:
        tried = list(sizes)
        tried[number] = Fraction(units, bench.units(number))
        return bench.attempt(tried)

    best = bench.units(number)
    trial = of(best)
    while trial is not None and not trial.feasible:
        broken = trial.holds.index(False)
        good, bad, met = 0, best, None
        while bad - good > 1:
            middle = (good + bad) // 2
            tried = of(middle)
            if tried is None:
                return None, False
            if reaches(bench, tried, trial, broken):
                good, met = middle, tried
            else:
                bad = middle
        if met is None or not met.holds[broken]:
            return None, True
        best, trial = good, met
    return trial, trial is not None
