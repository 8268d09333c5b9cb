"""How often every unit is trained, whatever the seed: by the theorems of rules 23 and 39, without drawing a mask.

In every step a unit is certain to run, certain to rest, dealt in rounds, or left to chance. Dealt ones run equally
often to within one draw and rest for less than two rounds; what is left to chance may never run, which is a bound as
well: a schedule that ends with the full network for a quarter of its steps trains every unit in that quarter.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from operator import itemgetter
from typing import NamedTuple

from raptr_dsl.axes import AXES, BLOCKS, Space
from raptr_dsl.flops.backward import is_partial
from raptr_dsl.ir.bound import BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.laws import Pool
from raptr_dsl.laws.rotate import Rotate
from raptr_dsl.sampling import pools

MOST_COMPARISONS = 2_000_000
"""Units or kinds of units × spans of steps: beyond, counting masks is faster than reasoning about them."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What holds under every seed, over all units of an axis.

    Attributes:
        least: each is trained in at least so many steps. is_exact: and some unit in no more, whatever the seed.
        longest_gap: none goes untrained for more steps than these in a row.
    """

    least: int
    is_exact: bool
    longest_gap: int


@dataclass(frozen=True, slots=True, eq=False)
class _Deal:
    """Units dealt in rounds (rule 23): `quota` of `size` in each draw of `every` steps, the first at step `start`."""

    start: int
    every: int
    size: int
    quota: int
    rotates: bool

    @property
    def longest_start(self) -> int:
        """Steps that any unit can rest before its first draw: all are among the first ⌈size / quota⌉ draws."""
        return (-(-self.size // self.quota) - 1) * self.every

    @property
    def longest_rest(self) -> int:
        """Steps that any unit can rest in a row; where all rounds have one order they are as one."""
        return self.longest_start if self.rotates else 2 * self.longest_start

    def least(self, step: int) -> int:
        """In how many of the steps before `step` every unit runs."""
        return self._steps(step, lambda draws: draws * self.quota // self.size)

    def most(self, step: int) -> int:
        """In how many of the steps before `step` a unit can run."""
        return self._steps(step, lambda draws: -(-draws * self.quota // self.size))

    def _steps(self, step: int, runs: Callable[[int], int]) -> int:
        """Steps of whole draws, and a share of what the next one adds where `step` is in the middle of it."""
        draws, begun = divmod(step - self.start, self.every)
        return (self.every - begun) * runs(draws) + begun * runs(draws + 1)


_Fate = bool | _Deal | None
"""Of a unit: on, off, dealt in rounds, or (None) left to chance."""


class _Span(NamedTuple):
    """Steps [start, stop) in which nothing changes along one axis, and the fate of every unit of a site."""

    start: int
    stop: int
    fates: tuple[_Fate, ...]


def guarantee(shape: ModelShape, stages: Sequence[BoundStage], axis: str) -> Guarantee | None:
    """The guarantee of a run along an axis; of a per-block axis, of steps in which block and unit both run (rule 39).

    None where there is too much to compare, and where what is trained is drawn beside what runs.
    """
    if any(is_partial(stage) for stage in stages):
        return None
    found: list[_Bounds] = []
    for blocks in _thinned_alike(stages, axis, shape.layers):
        tracks = [_spans(stages, name, AXES[name].space(shape), blocks) for name in _axes(axis)]
        if None in tracks:
            return None
        spans = [track for track in tracks if track is not None]
        kinds = [list(dict.fromkeys(zip(*(span.fates for span in track), strict=True))) for track in spans]
        merged = list(_merged(spans))
        combinations = list(product(*kinds))
        if len(combinations) * len(merged) > MOST_COMPARISONS:
            return None
        found += [_bounds(merged, fates) for fates in combinations]
    least = min(bounds.least for bounds in found)
    return Guarantee(
        least=least,
        is_exact=least == min(bounds.most for bounds in found),
        longest_gap=max(bounds.longest_gap for bounds in found),
    )


def _axes(axis: str) -> tuple[str, ...]:
    """What has to run for a unit of an axis to run."""
    return (axis, BLOCKS.name) if AXES[axis].per_block else (axis,)


def _thinned_alike(stages: Sequence[BoundStage], axis: str, layers: int) -> list[list[int]]:
    """The blocks of a stack, those together in which the same stages run an axis in full (rule 4)."""
    spared = [frozenset(stage.axes[axis].full) for stage in stages if axis in stage.axes]
    alike: dict[tuple[bool, ...], list[int]] = {}
    for block in range(layers):
        alike.setdefault(tuple(block in blocks for blocks in spared if blocks), []).append(block)
    return list(alike.values())


def _spans(stages: Sequence[BoundStage], axis: str, space: Space, blocks: Sequence[int]) -> list[_Span] | None:
    """The spans of a run along an axis in these blocks, in order; None if they are too many for that many units.

    The fates of an axis of blocks are those of these blocks; of another, of the units of a site in one of them.
    """
    count = sum(len(stage.axes[axis].sizes) if axis in stage.axes else 1 for stage in stages)
    if count * space.units > MOST_COMPARISONS:
        return None
    spans: list[_Span] = []
    for stage in stages:
        rule = stage.axes.get(axis)
        if rule is None or blocks[0] in rule.full:
            spans.append(_Span(stage.start, stage.stop, (True,) * space.units))
            continue
        offsets = [border.offset for border in rule.sizes] or [0]
        drawn = [[pool] for pool in pools(rule, space)] if rule.sizes else [list(pools(rule, space))]
        for offset, following, choice in zip(offsets, [*offsets[1:], stage.steps], drawn, strict=True):
            start = stage.start + offset
            every = min(rule.every or stage.steps, stage.steps)
            spans.append(_Span(start, stage.start + following, _fates(rule, choice, start, every)))
    if AXES[axis].units_are_blocks and len(blocks) < space.units:
        return [span._replace(fates=tuple(span.fates[block] for block in blocks)) for span in spans]
    return spans


def _fates(rule: BoundRule, drawn: Sequence[Pool], start: int, every: int) -> tuple[_Fate, ...]:
    """What a rule makes of each unit, that draws from one of these pools every so many steps from `start` on."""
    if len(drawn) > 1:
        each = zip(*(_fates(rule, [pool], start, every) for pool in drawn), strict=True)
        return tuple(fates[0] if len(set(fates)) == 1 else None for fates in each)
    pool, law = drawn[0], rule.law
    kept = frozenset(pool.keep)
    if pool.is_settled:
        return tuple(unit in kept or pool.size == pool.n for unit in range(pool.n))
    if not law.varies:
        return tuple(chance == 1 for chance in law.marginals(pool))
    deal = None
    if law.round_length(pool) is not None:
        deal = _Deal(start, every, len(pool.units), int(pool.quota), isinstance(law, Rotate))
    return tuple(True if unit in kept else deal for unit in range(pool.n))


def _merged(tracks: Sequence[Sequence[_Span]]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """(start, stop, number of the span of each track): the parts of the run in which nothing changes anywhere."""
    places, start, end = [0] * len(tracks), 0, tracks[0][-1].stop
    while start < end:
        stop = min(track[place].stop for track, place in zip(tracks, places, strict=True))
        yield start, stop, tuple(places)
        places = [place + (track[place].stop == stop) for track, place in zip(tracks, places, strict=True)]
        start = stop


@dataclass(slots=True)
class _Bounds:
    """What can become of a unit up to some step: the steps in which it runs, and how long it may have rested."""

    least: int = 0
    most: int = 0
    resting: int = 0
    longest_gap: int = 0

    def rest(self, steps: int) -> None:
        """It may rest for that long from here on."""
        self.resting += steps
        self.longest_gap = max(self.longest_gap, self.resting)

    def add(self, fate: _Fate, start: int, stop: int) -> None:
        """What its fate adds in steps [start, stop)."""
        steps = stop - start
        if isinstance(fate, _Deal):
            self._add_deal(fate, start, stop)
        elif fate:
            self.least += steps
            self.most += steps
            self.resting = 0
        else:
            self.most += steps if fate is None else 0
            self.rest(steps)

    def _add_deal(self, deal: _Deal, start: int, stop: int) -> None:
        self.least += max(0, deal.least(stop) - deal.most(start))
        self.most += deal.most(stop) - deal.least(start)
        before = deal.longest_start if start == deal.start else deal.longest_rest
        if stop - start <= before:  # it may rest all along
            self.rest(stop - start)
            return
        self.rest(before)
        self.resting = 0
        self.rest(min(deal.longest_rest, stop - start - 1))


def _bounds(merged: Sequence[tuple[int, int, tuple[int, ...]]], fates: Sequence[Sequence[_Fate]]) -> _Bounds:
    """The bounds of one kind of unit, `fates` being those of all that has to run for it, by span.

    Where its fate goes on into the next span, as where the change is another unit's, the two count as one: of a deal
    from its start on more is known than from anywhere within.
    """
    bounds = _Bounds()
    timeline = (
        (_together([fate[place] for fate, place in zip(fates, places, strict=True)]), start, stop)
        for start, stop, places in merged
    )
    for fate, group in groupby(timeline, key=itemgetter(0)):
        spans = list(group)
        bounds.add(fate, spans[0][1], spans[-1][2])
    return bounds


def _together(fates: Sequence[_Fate]) -> _Fate:
    """The fate of a unit that runs only where all of these do; two deals know nothing of each other."""
    if False in fates:
        return False
    uncertain = [fate for fate in fates if fate is not True]
    return uncertain[0] if len(uncertain) == 1 else None if uncertain else True
