"""A step of a plan as arguments of a compiled program: masks as arrays, made and checked on the host.

The shapes of the arrays are the sizes of the step, so that steps of one size share one program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.plan import AxisMask, Step
from raptr_jax.scan import BlockMask, Tree, block_mask

PER_BLOCK = ("heads", "width")


class Rows(NamedTuple):
    """The units of one axis that run: in a mask `[blocks, count]`, as a block gets them `[count]`.

    Attributes:
        index: int32, ascending rows of the unit-major weights. factor: of the units' outputs.
    """

    index: Array | NDArray[np.int32]  # pyright: ignore[reportIncompatibleMethodOverride]
    factor: Array | NDArray[np.floating]


class Span(NamedTuple):
    """Neighbouring blocks that run equal numbers of units; None: all of them, unscaled."""

    heads: Rows | None
    width: Rows | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masks:
    """What runs in one step; `Masks()` is everything.

    Attributes:
        index: int32[k] ascending blocks, or None for all.
        factor: float[k] of the blocks' updates, or None for 1.
        spans: the blocks that run, in order, split where numbers of units change; empty where no unit is off.
        touched: by axis whose idle rows are skipped, the rows that the optimizer may touch: bool[k, units], or
            bool[L, units] where it updates the blocks that are off too.
        skips_blocks: whether the optimizer leaves blocks that are off alone.
    """

    index: Array | NDArray[np.int32] | None = None
    factor: Array | NDArray[np.floating] | None = None
    spans: tuple[Span, ...] = ()
    touched: Mapping[str, Array | NDArray[np.bool_]] = field(default_factory=dict)
    skips_blocks: bool = field(default=False, metadata={"static": True})

    def without_index(self) -> Masks:
        """The masks of the blocks that run, taken out of the stack."""
        return replace(self, index=None)

    def spans_of(self, running: Tree) -> Iterator[tuple[Tree, BlockMask]]:
        """The parameters [k, …] of the blocks that run and what `scan_blocks` needs besides, span by span."""
        if len(self.spans) < 2:
            yield running, BlockMask(factor=self.factor, units=self.spans[0] if self.spans else Span(None, None))
            return
        start = 0
        for span in self.spans:
            rows = span.heads or span.width
            assert rows is not None
            part = slice(start, start + rows.index.shape[0])
            start = part.stop
            factor = None if self.factor is None else self.factor[part]
            yield jax.tree.map(lambda leaf, part=part: leaf[part], running), BlockMask(factor=factor, units=span)


def masks_of(step: Step, stage: BoundStage, layers: int, dtype: Any) -> Masks:
    """The masks of one step of a plan for a stack of blocks; factors are of that dtype.

    Raises:
        RaptrError: `attach-shape`: a mask is not of that many blocks.
    """
    thinned = {axis: mask for axis, mask in step.axes.items() if not mask.full}
    if not thinned:
        return Masks()
    for axis, mask in thinned.items():
        has = mask.on.shape[0] if axis in PER_BLOCK else mask.on.shape[1]
        if has != layers:
            raise fail("attach-shape", f"the mask of {axis} is of {has} blocks, and the stack has {layers}")
    depth = thinned.get("depth")
    on = np.ones(layers, dtype=bool) if depth is None else depth.on[0]
    active = on.nonzero()[0]
    skips_blocks = depth is not None and stage.axes["depth"].idle == "skip"
    blocks = block_mask(active, layers, None if depth is None else depth.scale[0, active].astype(dtype))
    touched = {
        axis: thinned[axis].on[active] if skips_blocks else thinned[axis].on | ~on[:, None]
        for axis in PER_BLOCK
        if axis in thinned and stage.axes[axis].idle == "skip"
    }
    return Masks(
        index=blocks.index,
        factor=blocks.factor,
        spans=tuple(_spans({axis: thinned[axis] for axis in PER_BLOCK if axis in thinned}, active, dtype)),
        touched=touched,
        skips_blocks=skips_blocks,
    )


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


def _spans(thinned: Mapping[str, AxisMask], active: NDArray[np.int64], dtype: Any) -> Iterator[Span]:
    if not thinned:
        return
    counts = {axis: mask.on.sum(axis=1) for axis, mask in thinned.items()}
    for _, members in groupby(active, lambda block: [count[block] for count in counts.values()]):
        blocks = np.fromiter(members, dtype=np.int64)
        yield Span(*(_rows(thinned[axis], blocks, dtype) if axis in thinned else None for axis in PER_BLOCK))


def _rows(mask: AxisMask, blocks: NDArray[np.int64], dtype: Any) -> Rows:
    """Of blocks with equal numbers of units on."""
    on = mask.on[blocks]
    index = on.nonzero()[1].reshape(len(blocks), -1).astype(np.int32)
    return Rows(index, mask.scale[blocks][on].reshape(index.shape).astype(dtype))
