"""Blocks copied at a stage's start, with their optimizer state: one gather over stacked leaves (rule 35)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax import Array
from numpy.typing import NDArray

from raptr_dsl.ir.plan import Growth
from raptr_jax.optim import Optimizer, Parts
from raptr_jax.scan import Tree, rows_like


class Copied(NamedTuple):
    """The arguments of a growth; those of one kind share a program.

    Attributes:
        sources: int32[L], the block whose values each block takes; blocks that are not born yet stay.
        unborn: bool[L], blocks that begin anew and take no values, or None where there are none.
        start: what those begin with, as the stacked blocks and factors, or None.
        stateless: bool[L], blocks that begin without optimizer state, or None where there are none.
    """

    sources: NDArray[np.int32]
    unborn: NDArray[np.bool_] | None
    start: tuple[Tree, Tree] | None
    stateless: NDArray[np.bool_] | None


def copied(growth: Growth, layers: int, start: Callable[[], tuple[Tree, Tree]]) -> Copied:
    """What a growth copies in a stack of that many blocks; `start` is called where a block begins anew."""
    sources = np.arange(layers, dtype=np.int32)
    sources[: len(growth.sources)] = growth.sources
    unborn = sources < 0
    stateless = unborn.copy()
    if growth.moments == "zero":
        stateless[list(growth.new)] = True
    return Copied(
        np.where(unborn, 0, sources).astype(np.int32),
        unborn if unborn.any() else None,
        start() if unborn.any() else None,
        stateless if stateless.any() else None,
    )


def growing(optimizer: Optimizer) -> Callable[[Parts, Parts, Copied], tuple[Parts, Parts]]:
    """The pure function that grows parameters and optimizer state, to be compiled."""

    def grow(parameters: Parts, state: Parts, copied: Copied) -> tuple[Parts, Parts]:
        stacks, states = (parameters.blocks, parameters.factor), (state.blocks, state.factor)
        stacks, states = jax.tree.map(
            lambda leaf: leaf.at[copied.sources].get(mode="promise_in_bounds"), (stacks, states)
        )
        if copied.unborn is not None:
            stacks = _where(copied.unborn, copied.start, stacks)
        if copied.stateless is not None:
            states = _where(copied.stateless, tuple(map(optimizer.init_blocks, stacks)), states)
        (blocks, factor), (block_state, factor_state) = stacks, states
        return Parts(blocks, parameters.rest, factor), Parts(block_state, state.rest, factor_state)

    return grow


def _where(blocks: Array | NDArray[np.bool_], new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda new, old: jax.numpy.where(rows_like(blocks, old), new, old), new, old)
