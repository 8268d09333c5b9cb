"""A step of a plan as arguments of a compiled program: masks as arrays, made and checked on the host.

The shapes of the arrays are the sizes of the step, so that steps of one size share one program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from raptr_dsl.axes import AXES
from raptr_dsl.diagnostics import fail
from raptr_dsl.flops import MATMUL, block_cost
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask, Step
from raptr_jax.experts import tiling
from raptr_jax.scan import BlockMask, Tree, block_mask

PER_BLOCK: tuple[str, ...] = ("heads", "width", "experts")
"""Axes of units of weights within a block, in the order of `Span`."""


class Rows(NamedTuple):
    """The units of one axis that run: in a mask `[blocks, count]`, as a block gets them `[count]`.

    Attributes:
        index: int32, ascending rows of the unit-major weights. factor: of the units' outputs.
    """

    index: Array | NDArray[np.int32]  # pyright: ignore[reportIncompatibleMethodOverride]
    factor: Array | NDArray[np.floating]


class Span(NamedTuple):
    """Neighbouring blocks that run equal numbers of units; None: all of them, unscaled.

    Attributes:
        positions: int32[blocks, p], ascending; as a block gets them int32[p].
    """

    heads: Rows | None = None
    width: Rows | None = None
    experts: Rows | None = None
    positions: Array | NDArray[np.int32] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masks:
    """What runs in one step; `Masks()` is everything.

    Attributes:
        index: int32[k] ascending blocks, or None for all.
        factor: float[k] of the blocks' updates, or None for 1.
        spans: the blocks that run, in order, split where numbers of units change and where gradients begin; empty
            where they need not be.
        lengths: how many blocks are in each of the spans.
        still: how many of the blocks that run, the first ones, have no backward pass.
        trains: bool[k], the blocks that run whose parameters have gradients, or None for all but those.
        taken: float32[k]; see `raptr_jax.scan.BlockMask`.
        on: bool[k], which of these blocks run and which only fill a bucket; None where there is no bucket.
        touched: by axis whose idle rows are skipped, the rows that the optimizer may touch: bool[k, units], or
            bool[L, units] where it updates the blocks that are off too.
        trained: bool[k] or bool[L] alike, the blocks that the optimizer may touch, or None for all.
        skips_blocks: whether the optimizer leaves blocks that are off alone.
        learned: whether the factors of the blocks are multiplied by trained ones.
        frozen: the parts outside the blocks that are not trained.
    """

    index: Array | NDArray[np.int32] | None = None
    factor: Array | NDArray[np.floating] | None = None
    spans: tuple[Span, ...] = ()
    lengths: tuple[int, ...] = field(default=(), metadata={"static": True})
    still: int = field(default=0, metadata={"static": True})
    trains: Array | NDArray[np.bool_] | None = None
    taken: Array | NDArray[np.float32] | None = None
    on: Array | NDArray[np.bool_] | None = None
    touched: Mapping[str, Array | NDArray[np.bool_]] = field(default_factory=dict)
    trained: Array | NDArray[np.bool_] | None = None
    skips_blocks: bool = field(default=False, metadata={"static": True})
    learned: bool = field(default=False, metadata={"static": True})
    frozen: frozenset[str] = field(default=frozenset(), metadata={"static": True})

    def without_index(self) -> Masks:
        """The masks of the blocks that run, taken out of the stack."""
        return replace(self, index=None)

    def spans_of(self, running: Tree) -> Iterator[tuple[Tree, BlockMask, bool]]:
        """The parameters [k, …] of the blocks that run and what `scan_blocks` needs besides, span by span.

        The last of the three says whether a span has a backward pass.
        """
        if len(self.lengths) < 2:
            units = self.spans[0] if self.spans else Span()
            flows = not self.still
            chosen = (self.trains, self.taken) if flows else (None, None)
            yield running, BlockMask(None, self.factor, tuple(units), self.on, *chosen), flows
            return
        per_block = (running, self.factor, self.on, self.trains, self.taken)
        for part, units in zip(self.parts(), self.spans, strict=True):
            here, factor, on, *chosen = jax.tree.map(lambda leaf, part=part: leaf[part], per_block)
            flows = part.start >= self.still
            yield here, BlockMask(None, factor, tuple(units), on, *(chosen if flows else (None, None))), flows

    def parts(self) -> list[slice]:
        """Where the spans are among the blocks that run."""
        stops = list(accumulate(self.lengths))
        return [slice(stop - length, stop) for stop, length in zip(stops, self.lengths, strict=True)]

    def taken_by_span(self, taken: Any) -> list[Any]:
        """Of taken[k], how often blocks had gradients of their parameters: by span with a choice, the last first."""
        if len(self.lengths) < 2:
            return [taken.sum()]
        return [taken[part].sum() for part in reversed(self.parts()) if part.start >= self.still]


def masks_of(step: Step, stage: BoundStage, layers: int, dtype: Any) -> Masks:
    """The masks of one step of a plan for a stack of blocks; factors are of that dtype.

    Raises:
        RaptrError: `attach-shape`: a mask is not of that many blocks.
    """
    thinned = {axis: mask for axis, mask in step.axes.items() if not (mask.full or AXES[axis].thins_tokens)}
    depth = step.axes.get("depth")
    trains = None if depth is None or depth.trains is None or depth.trains.all() else depth.trains[0]
    if not thinned and trains is None:
        return Masks(frozen=step.frozen)
    for axis, mask in thinned.items():
        has = mask.on.shape[0] if AXES[axis].per_block else mask.on.shape[1]
        if has != layers:
            raise fail("attach-shape", f"the mask of {axis} is of {has} blocks, and the stack has {layers}")
    on = np.ones(layers, dtype=bool) if depth is None else depth.on[0]
    active, runs = _filled(on, stage)
    is_thinned = depth is not None and not depth.full
    skips_blocks = is_thinned and stage.axes["depth"].idle == "skip"
    blocks = block_mask(active, layers, depth.scale[0, active].astype(dtype) if is_thinned and depth else None)
    touched = {
        axis: thinned[axis].on[active] if skips_blocks else thinned[axis].on | ~on[:, None]
        for axis in PER_BLOCK
        if axis in thinned and stage.axes[axis].idle == "skip"
    }
    is_drawn = trains is not None and stage.axes["depth"].train is not None
    still = _still(trains, active) if "embed" in step.frozen else 0
    spans = tuple(_spans(thinned, active, still, dtype))
    return Masks(
        index=blocks.index,
        factor=blocks.factor,
        spans=tuple(span for _, span in spans),
        lengths=tuple(length for length, _ in spans),
        still=still,
        trains=_unless_all(trains, active[still:], active, is_drawn and "embed" not in step.frozen),
        touched=touched,
        on=runs,
        trained=_both(_unless_all(trains, active, active, is_drawn), runs) if skips_blocks else trains,
        skips_blocks=skips_blocks,
        learned=depth is not None and depth.learned,
        frozen=step.frozen,
    )


def padded_flops(step: Step, stage: BoundStage, shape: ModelShape, sequences: int, micro_batches: int) -> int:
    """FLOPs of what is computed to fill up a shape, and discarded.

    Those are the idle blocks in the bucket of a step, and the rows of zeros in the tiles of experts.

    Args:
        sequences: of the step, run in so many micro-batches.
    """
    depth = step.axes.get("depth")
    on = np.ones(shape.layers, dtype=bool) if depth is None else depth.on[0]
    blocks, runs = _filled(on, stage)
    units = {axis: mask.on for axis, mask in step.axes.items() if AXES[axis].per_block}
    idle = sum(
        int(block_cost(shape, {axis: Fraction(int(on[block].sum()), on.shape[1]) for axis, on in units.items()}))
        for block in ([] if runs is None else blocks[~runs])
    )
    return idle + (_padded_by_tiles(step, shape, blocks, sequences, micro_batches) if shape.has_experts else 0)


def _padded_by_tiles(
    step: Step, shape: ModelShape, blocks: NDArray[np.int64], sequences: int, micro_batches: int
) -> int:
    """FLOPs of the rows of zeros in the tiles of these blocks' experts, in training."""
    depth, seq = step.axes.get("depth"), step.axes.get("seq")
    positions, experts = step.axes.get("positions"), step.axes.get("experts")
    trains = np.ones(len(blocks), dtype=bool) if depth is None or depth.trains is None else depth.trains[0, blocks]
    flows = np.logical_or.accumulate(trains) if "embed" in step.frozen else np.ones(len(blocks), dtype=bool)
    costs, total = MATMUL.costs(shape), 0
    for block, trained, flowing in zip(blocks, trains, flows, strict=True):
        seen = shape.seq if seq is None else int(seq.on.sum())
        seen = seen if positions is None else int(positions.on[block].sum())
        rows = sequences // micro_batches * seen * shape.top_k
        padding = tiling(rows, shape.experts if experts is None else int(experts.on[block].sum())).rows - rows
        of_all = sum(costs.block(part, 0, bool(trained), bool(flowing)) for part in ("ffn.input", "ffn.output"))
        total += Fraction(of_all * padding * micro_batches, shape.tokens * shape.top_k)
    return int(total)


def _filled(on: NDArray[np.bool_], stage: BoundStage) -> tuple[NDArray[np.int64], NDArray[np.bool_] | None]:
    """The blocks to compute, ascending, and which of them run: those of a mask, and idle ones that fill its bucket."""
    active = on.nonzero()[0]
    rule = stage.axes.get("depth")
    if rule is None or not rule.buckets or rule.train is not None or len(active) == len(on):
        return active, None
    size = next(size for size in rule.buckets if len(active) <= size)
    idle = (~on).nonzero()[0][: size - len(active)]
    blocks = np.sort(np.concatenate([active, idle]))
    return blocks, on[blocks]


def _both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_] | None) -> NDArray[np.bool_] | None:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _still(trains: NDArray[np.bool_] | None, active: NDArray[np.int64]) -> int:
    """How many of the first blocks that run have nothing before them that trains, nor train themselves."""
    if trains is None:
        return 0
    places = trains[active].nonzero()[0]
    return int(places[0]) if places.size else len(active)


def _unless_all(
    trains: NDArray[np.bool_] | None, asked: NDArray[np.int64], active: NDArray[np.int64], always: bool
) -> NDArray[np.bool_] | None:
    """bool[k] of the blocks that run, or None where all that are asked for train.

    Args:
        always: what trains is drawn: that all do is chance, and would be another program.
    """
    if trains is None or (not always and trains[asked].all()):
        return None
    return trains[active]


def depth_mask(step: Step, layers: int) -> BlockMask:
    """The blocks that one step of a plan runs, for a stack of one's own; a plan that thins depth alone is all there.

    Raises:
        RaptrError: `attach-shape`: the plan is of another number of blocks, or thins another axis.
    """
    others = [axis for axis, mask in step.axes.items() if axis != "depth" and not mask.full]
    if others:
        raise fail("attach-shape", f"step {step.index} thins {others[0]}, and the mask of a stack is of blocks alone")
    depth = step.axes.get("depth")
    if depth is None or depth.full:
        return BlockMask()
    if depth.on.shape != (1, layers):
        raise fail("attach-shape", f"the mask of depth is of {depth.on.shape[1]} blocks, and the stack has {layers}")
    active = depth.active()
    return block_mask(active, layers, depth.scale[0, active].astype(np.float32))


def _spans(
    thinned: Mapping[str, AxisMask], active: NDArray[np.int64], still: int, dtype: Any
) -> Iterator[tuple[int, Span]]:
    """Neighbouring blocks that are alike: how many, and their units. Nothing where one scan is all there is."""
    units = {axis: mask for axis, mask in thinned.items() if AXES[axis].per_block}
    if not units and still in (0, len(active)):
        return
    counts = [mask.on.sum(axis=1) for mask in units.values()]
    alike = groupby(enumerate(active), lambda at: [at[0] < still, *(count[at[1]] for count in counts)])
    for _, members in alike:
        blocks = np.array([block for _, block in members], dtype=np.int64)
        rows = {axis: _rows(units[axis], blocks, dtype) for axis in PER_BLOCK if axis in units}
        positions = _index(units["positions"].on[blocks]) if "positions" in units else None
        yield len(blocks), Span(**rows, positions=positions)


def _rows(mask: AxisMask, blocks: NDArray[np.int64], dtype: Any) -> Rows:
    """Of blocks with equal numbers of units on."""
    on = mask.on[blocks]
    index = _index(on)
    return Rows(index, mask.scale[blocks][on].reshape(index.shape).astype(dtype))


def _index(on: NDArray[np.bool_]) -> NDArray[np.int32]:
    """bool[blocks, units] with equally many on → int32[blocks, count], ascending."""
    return on.nonzero()[1].reshape(len(on), -1).astype(np.int32)
