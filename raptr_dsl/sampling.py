"""What a rule draws: segments of one size, single steps and long ranges of masks, in any order."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

from raptr_dsl.axes import AXES, BLOCKS, Axis, Space, trained
from raptr_dsl.ir.bound import BoundDraw, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.step import AxisMask, Step
from raptr_dsl.laws import Draws, Law, Pool
from raptr_dsl.laws.base import Select
from raptr_dsl.laws.ranking import always
from raptr_dsl.laws.rotate import Rotate
from raptr_dsl.profiles import weights_of
from raptr_dsl.scales import SCALES, Evaluate, evaluator
from raptr_dsl.words import Words, below

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_WORDS = 2**17
"""Words made at once: as many as stay in a core's cache."""

CHUNK_MASKS = 2**22
"""Mask entries written at once where a draw lasts many steps."""


def sites_of(blocks: Sequence[int], shape: ModelShape) -> list[int]:
    """The sites, of an axis that has one in every block, in these blocks of every stack."""
    return [stack * shape.layers + block for stack in range(shape.stacks) for block in blocks]


def pool_at(rule: BoundDraw, space: Space, offset: int) -> Pool:
    """The pool of a rule without drawn sizes, `offset` steps into its stage."""
    place = bisect_right(rule.sizes, offset, key=lambda border: border.offset) - 1
    return _pool(rule, space, rule.sizes[place].value)


def pools(rule: BoundDraw, space: Space) -> Iterator[Pool]:
    """Every pool that a rule draws from, in order; those of drawn sizes once each."""
    if rule.choices:
        yield from (_pool(rule, space, Fraction(size)) for size in dict.fromkeys(rule.choices))
    else:
        yield from (_pool(rule, space, border.value) for border in rule.sizes)


def _pool(rule: BoundDraw, space: Space, value: Fraction) -> Pool:
    """A keep probability is turned into the size it means: rule 26 turns it back."""
    weights = weights_of(rule.profile, space.units, rule.keep)
    if rule.measure == "units":
        return Pool(space.units, rule.keep, value, weights)
    weight = Fraction(space.units - len(rule.keep)) if weights is None else weights.total
    return Pool(space.units, rule.keep, space.units - (1 - value) * weight, weights)


@dataclass(frozen=True)
class Sized:
    """A rule at one size: how it draws, and how what it drew is scaled."""

    law: Law
    pool: Pool
    scale: str
    by_gap: bool

    @property
    def is_full(self) -> bool:
        """All units are on, surely, and so every factor is 1."""
        return self.pool.size == self.pool.n

    @cached_property
    def select(self) -> Select:
        if self.pool.is_settled:
            return always(self.pool, self.pool.units if self.is_full else ())
        return self.law.sampler(self.pool)

    @cached_property
    def factors(self) -> Evaluate:
        return evaluator(self.scale, self.by_gap, self.law.marginals(self.pool))


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps [start, stop) in which every draw has one size, or chooses its own from the same list.

    Attributes:
        sizes: the different ones. choices: the list, as places in `sizes`; empty where there is nothing to choose.
    """

    start: int
    stop: int
    sizes: tuple[Sized, ...]
    choices: tuple[int, ...] = ()


class Track:
    """All that one rule draws along one axis in one stage; a pure function of the words.

    Args:
        rule: what is drawn; the units that run, or those that train.
        scale: by what those that run are multiplied.
        blocks: what depth draws in the same stage, for a per-block axis whose turn may follow it (rule 24).
        full: the sites in which all units run, unscaled, whatever is drawn for the others (rule 4).
    """

    def __init__(
        self,
        stage: BoundStage,
        rule: BoundDraw,
        axis: Axis,
        words: Words,
        scale: str = "none",
        blocks: Track | None = None,
        full: Sequence[int] = (),
    ) -> None:
        self._space, self._full = Space(words.sites, words.units, 1), list(full)
        self._rule, self._axis, self._words, self._scale = rule, axis, words, scale
        self._every = min(rule.every or stage.steps, stage.steps)
        self.segments = tuple(self._make_segments(stage))
        self._starts = [segment.start for segment in self.segments]
        rotates = isinstance(rule.law, Rotate) and blocks is not None and isinstance(blocks._rule.law, Rotate)
        self._leader = blocks if rotates else None

    def _make_segments(self, stage: BoundStage) -> Iterator[Segment]:
        rule = self._rule
        if rule.choices:
            places = {size: place for place, size in enumerate(dict.fromkeys(rule.choices))}
            sizes = tuple(self._sized(_pool(rule, self._space, Fraction(size))) for size in places)
            yield Segment(stage.start, stage.stop, sizes, tuple(places[size] for size in rule.choices))
            return
        stops = [*(border.offset for border in rule.sizes[1:]), stage.steps]
        for border, stop in zip(rule.sizes, stops, strict=True):
            sized = self._sized(_pool(rule, self._space, border.value))
            yield Segment(stage.start + border.offset, stage.start + stop, (sized,))

    def _sized(self, pool: Pool) -> Sized:
        return Sized(self._rule.law, pool, self._scale, self._axis.units_are_blocks)

    def at(self, step: int) -> tuple[NDArray[np.bool_], NDArray[np.float64], bool]:
        """Of one step: bool[sites, n] what is on, float64[sites, n] the factors, and whether it is all, unscaled."""
        segment = self._segment(step)
        every = self._every
        index = (step - segment.start) // every
        begin = segment.start + index * every
        draws = Draws(self._words, range(begin, begin + every, every), index)
        sized = segment.sizes[0]
        if segment.choices:
            sized = segment.sizes[segment.choices[int(draws.reserved()[0]) * len(segment.choices) >> 64]]
        if self._leader is not None:
            draws.rounds = self._rounds(draws)
        on = sized.select(draws)[0]
        on[self._full] = True
        factors = sized.factors(on)
        factors[self._full] = 1
        full = sized.is_full or (not sized.law.exact and bool((factors == 1).all()))
        return on, factors, full

    def fill(self, start: int, stop: int, out: NDArray[np.bool_]) -> None:
        """Writes the masks of steps [start, stop) of this stage to `out`, bool[stop − start, sites, n]."""
        for segment in self.segments:
            first, last = max(start, segment.start), min(stop, segment.stop)
            if first < last:
                self._fill(segment, first, last, out[first - start : last - start])

    def _fill(self, segment: Segment, start: int, stop: int, out: NDArray[np.bool_]) -> None:
        import numpy as np

        every = self._every
        at_once = max(1, min(CHUNK_WORDS // self._words.per_step, CHUNK_MASKS // (every * self._words.per_step)))
        step = start
        while step < stop:
            index = (step - segment.start) // every
            begin = segment.start + index * every
            upto = min(begin + at_once * every, stop)
            on = self._draw(segment, Draws(self._words, range(begin, upto, every), index))
            on[:, self._full] = True
            if every == 1:
                rows = on[: upto - begin]
            elif len(on) == 1:
                rows = on
            else:
                rows = np.repeat(on, every, axis=0)[step - begin : upto - begin]
            out[step - start : upto - start] = rows
            step = upto

    def _draw(self, segment: Segment, draws: Draws) -> NDArray[np.bool_]:
        import numpy as np

        if self._leader is not None:
            draws.rounds = self._rounds(draws)
        if not segment.choices:
            return segment.sizes[0].select(draws)
        rows = self._words.rows(draws.steps)
        places = np.array(segment.choices)[below(len(segment.choices), self._words.reserved(rows))]
        on = np.empty(draws.shape, np.bool_)
        for place in np.unique(places):
            drawn = (places == place).nonzero()[0]
            on[drawn] = segment.sizes[place].select(Draws(self._words, draws.steps, draws.index, rows=rows[drawn]))
        return on

    def _segment(self, step: int) -> Segment:
        if len(self.segments) == 1:
            return self.segments[0]
        return self.segments[bisect_right(self._starts, step) - 1]

    def _rounds(self, draws: Draws) -> NDArray[np.int64]:
        """Depth's round at each draw, and the draw's own number where depth does not rotate (rule 24)."""
        import numpy as np

        leader = self._leader
        if leader is None:
            return np.arange(draws.index, draws.index + len(draws.steps))
        numbered = enumerate(draws.steps, draws.index)
        return np.array([index if (turn := leader.round_at(step)) is None else turn for index, step in numbered])

    def round_at(self, step: int) -> int | None:
        """The number of the round, within its segment, that holds this step; None at full size."""
        segment = self._segment(step)
        sized = segment.sizes[0]
        length = sized.law.round_length(sized.pool)
        if sized.is_full or length is None:
            return None
        return (step - segment.start) // self._every // length


@dataclass(frozen=True, slots=True)
class _Tracks:
    """What runs along one axis in one stage, and what of it trains: all where `trains` and `born` are None."""

    runs: Track
    trains: Track | None
    born: int | None
    learned: bool

    def at(self, step: int) -> AxisMask:
        on, factors, full = self.runs.at(step)
        if self.trains is None and self.born is None:
            return AxisMask(on, factors, full, None, self.learned and not full)
        trained = on | True if self.trains is None else self.trains.at(step)[0]
        if self.born is not None:
            trained[:, self.born :] = False
        return AxisMask(on, factors, full, trained, self.learned and not full)

    def fill_trained(self, start: int, stop: int, out: NDArray[np.bool_]) -> None:
        """Writes which units train in steps [start, stop) if they run, to `out`, bool[stop − start, sites, n]."""
        if self.trains is None:
            out[...] = True
        else:
            self.trains.fill(start, stop, out)
        if self.born is not None:
            out[..., self.born :] = False


class Sampler:
    """Every draw of one plan. It keeps what it prepared, and nothing that depends on the order of the questions."""

    def __init__(self, seed: int, shape: ModelShape, stages: Sequence[BoundStage]) -> None:
        self._seed, self._shape, self._stages = seed, shape, stages
        self._starts = [stage.start for stage in stages]
        self._tracks: dict[int, dict[str, _Tracks]] = {}
        self._words: dict[str, Words] = {}

    def step(self, index: int) -> Step:
        """One step, with the axes that its stage thins."""
        place = bisect_right(self._starts, index) - 1
        axes = {name: tracks.at(index) for name, tracks in self._tracks_of(place).items()}
        return Step(index, place, axes, frozenset(self._stages[place].freeze))

    def fill(self, axis: str, start: int, stop: int, out: NDArray[np.bool_]) -> None:
        """Writes the masks of an axis in steps [start, stop) to `out`, bool[stop − start, sites, n]."""
        self._fill(axis, start, stop, out, lambda tracks, *part: tracks.runs.fill(*part))

    def fill_trained(self, axis: str, start: int, stop: int, out: NDArray[np.bool_]) -> None:
        """The same of the units that train, where they run."""
        self._fill(axis, start, stop, out, _Tracks.fill_trained)

    def _fill(
        self,
        axis: str,
        start: int,
        stop: int,
        out: NDArray[np.bool_],
        fill: Callable[[_Tracks, int, int, NDArray[np.bool_]], None],
    ) -> None:
        place = bisect_right(self._starts, start) - 1
        while start < stop:
            end = min(stop, self._stages[place].stop)
            tracks = self._tracks_of(place).get(axis)
            part, out = out[: end - start], out[end - start :]
            if tracks is None:
                part[...] = True
            else:
                fill(tracks, start, end, part)
            start, place = end, place + 1

    def _tracks_of(self, place: int) -> dict[str, _Tracks]:
        tracks = self._tracks.get(place)
        if tracks is None:
            tracks = self._tracks[place] = self._make_tracks(self._stages[place])
        return tracks

    def _make_tracks(self, stage: BoundStage) -> dict[str, _Tracks]:
        tracks: dict[str, _Tracks] = {}
        for name in sorted(stage.axes, key=lambda name: AXES[name].per_block):  # blocks first: others may follow them
            axis = AXES[name]
            rule, blocks = (
                stage.axes[name],
                tracks[BLOCKS.name].runs if axis.per_block and BLOCKS.name in tracks else None,
            )
            full = sites_of(rule.full, self._shape)
            runs = Track(stage, rule, axis, self._words_of(axis, name), rule.scale, blocks, full)
            trains = rule.train and Track(stage, rule.train, axis, self._words_of(axis, trained(axis.name)))
            tracks[name] = _Tracks(runs, trains, rule.born, SCALES[rule.scale].learned)
        return tracks

    def _words_of(self, axis: Axis, key: str) -> Words:
        words = self._words.get(key)
        if words is None:
            space = axis.space(self._shape)
            words = self._words[key] = Words(self._seed, key, space.sites, space.units)
        return words
