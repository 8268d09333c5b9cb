"""What the account of the core says of an attached model's step, at the shapes that its blocks and head really see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate
from operator import or_
from typing import NamedTuple

from raptr_dsl.flops import MATMUL, block_cost, head_cost
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Step


class Seen(NamedTuple):
    """What one training forward of a block sees.

    Attributes:
        batch, seq: sequences, and positions of each. source_seq: positions of an encoder's output that it attends to,
            0 where there is none.
    """

    batch: int
    seq: int
    source_seq: int = 0


class Gradients(NamedTuple):
    """What autograd tracks of a block.

    Attributes:
        weights: whether its matrices have gradients; None where only some of them, or only one of two inputs, have.
        input: whether its input has.
    """

    weights: bool | None
    input: bool

    @property
    def costs(self) -> tuple[bool, bool]:
        """Whether gradients of weights are computed, and whether a gradient reaches the block at all."""
        return bool(self.weights), bool(self.weights) or self.input


class BlockForward(NamedTuple):
    """One training forward of a block.

    Attributes:
        block: its number through all stacks. active: units of each axis of the formula.
    """

    block: int
    seen: Seen
    active: tuple[int, ...]
    gradients: Gradients


class LinearForward(NamedTuple):
    """One training forward of a linear layer outside the blocks, on `rows` positions.

    Attributes:
        weight, input: whether they have gradients.
    """

    path: str
    rows: int
    inputs: int
    outputs: int
    weight: bool
    input: bool

    @property
    def flops(self) -> int:
        """Of the matmul, and of each gradient one of the same size."""
        return (1 + self.weight + self.input) * 2 * self.rows * self.inputs * self.outputs


class Formula:
    """Training FLOPs of a model of a plan's shape, by the account `matmul`, as integers.

    Attributes:
        units: of one block, by each axis that is counted block by block, in the order of `active`.
    """

    def __init__(self, shape: ModelShape, units: Mapping[str, int]) -> None:
        self.shape, self.units = shape, units
        self._cost = lru_cache(maxsize=4096)(self._block_cost)

    def block(self, stack: int, seen: Seen, active: tuple[int, ...], gradients: Gradients) -> int:
        """One forward of one block, and its part of backward."""
        return self._cost(stack, seen, active, *gradients.costs)

    def fits(self, stack: int, seen: Seen) -> bool:
        """Whether a block of that stack attends to an encoder's output where it should, and only there."""
        return (seen.source_seq > 0) == (stack > 0)

    def _block_cost(self, stack: int, seen: Seen, active: tuple[int, ...], trains: bool, flows: bool) -> int:
        """See `raptr_dsl.flops.block_cost`."""
        is_encoder = stack < self.shape.stacks - 1
        seq, source_seq = (1, seen.seq) if is_encoder else (seen.seq, seen.source_seq)
        shape = self.shape.model_copy(update={"batch": seen.batch, "seq": seq, "source_seq": source_seq})
        units = zip(self.units.items(), active, strict=True)
        shares = {axis: Fraction(count, whole) for (axis, whole), count in units}
        return int(block_cost(shape, shares, stack=stack, trains=trains, flows=flows))

    def head(self, rows: int, frozen: Iterable[str] = ()) -> int:
        """The head on so many positions, and its part of backward."""
        return head_cost(self._on(rows), frozen=frozenset(frozen)) if rows else 0

    def head_forward(self, rows: int) -> int:
        """The head's forward pass alone."""
        return int(sum(MATMUL.costs(self._on(rows)).outside.values()))

    def _on(self, rows: int) -> ModelShape:
        return self.shape.model_copy(update={"batch": rows, "seq": 1, "head_share": Fraction(1)})

    def executed(self, blocks: Mapping[BlockForward, int], outside: Mapping[LinearForward, int]) -> int:
        """What ran, by how often it did."""
        layers = self.shape.layers
        inside = sum(
            times * self.block(ran.block // layers, ran.seen, ran.active, ran.gradients)
            for ran, times in blocks.items()
        )
        return inside + sum(times * ran.flops for ran, times in outside.items())

    def planned(self, step: Step, passes: Sequence[Mapping[Seen, int]], rows: int) -> int:
        """What a step is to run.

        Args:
            passes: by stack, what its blocks see in the step's forwards, and how often. rows: positions that the head
                sees in all of them.
        """
        blocks = running(step, self.shape)
        counts = [
            step.axes[axis].on.sum(axis=1)[blocks].tolist() if axis in step.axes else [units] * len(blocks)
            for axis, units in self.units.items()
        ]
        stacks = [block // self.shape.layers for block in blocks]
        active = zip(*counts, strict=True) if counts else [()] * len(blocks)
        alike = Counter(zip(stacks, active, tracked(step, blocks), strict=True))
        inside = sum(
            times * often * self._cost(stack, seen, units, trained, flowing)
            for (stack, units, (trained, flowing)), times in alike.items()
            for seen, often in passes[stack].items()
        )
        return inside + self.head(rows, step.frozen)

    def nominal(self, step: Step) -> int:
        """What a step is to run at the shapes that the plan names: those of all ranks together."""
        shape = self.shape
        passes = [{Seen(shape.batch, shape.seq, shape.source_seq): 1}]
        if shape.stacks > 1:
            passes = [{Seen(shape.batch, shape.source_seq): 1}, *passes]
        return self.planned(step, passes, shape.head_positions)


def running(step: Step, shape: ModelShape) -> list[int]:
    """The blocks that a step runs, in order, numbered through all stacks."""
    depth = step.axes.get("depth")
    return list(range(shape.blocks)) if depth is None else depth.on.ravel().nonzero()[0].tolist()


def tracked(step: Step, blocks: Sequence[int]) -> list[tuple[bool, bool]]:
    """Of blocks that a step runs, what it has autograd compute; see `Gradients.costs`."""
    depth = step.axes.get("depth")
    trains = [True] * len(blocks) if depth is None or depth.trains is None else depth.trains.ravel()[blocks].tolist()
    flows = accumulate(trains, or_) if "embed" in step.frozen else [True] * len(blocks)
    return list(zip(trains, flows, strict=True))
