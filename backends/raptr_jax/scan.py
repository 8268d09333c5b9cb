"""Running some blocks of a stack: parameters with a leading axis over blocks, a gather, and one `lax.scan`.

How many blocks run is part of a program; which ones is an argument of it. So one compiled program serves every mask of
one size, and what a mask leaves out is not computed. Where everything runs there is no gather: plain training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from raptr_dsl.diagnostics import fail
from raptr_jax.choice import choosing

Tree = Any
"""A pytree of arrays."""


class BlockMask(NamedTuple):
    """What runs of a stack; arrays alone, so that it can be an argument of a compiled function.

    Attributes:
        index: int32[k] ascending blocks, or None for all; made by `block_mask`, which checks it.
        factor: float[k], what the update of each of these blocks is multiplied by, or None for 1.
        units: further arguments of the block; each leaf has one row a block that runs.
        on: bool[k], or None for all: the others fill a bucket. They are computed, and what they did is discarded.
        trains: bool[k], the blocks whose parameters have gradients, or None for all; others are computed in no
            backward pass, and are zero.
        taken: float32[k] of zeros, or None. Its gradient is 1 where the backward pass of a block had gradients of its
            parameters, and 0 elsewhere: counted where it runs. Needed where `trains` is given.
    """

    index: Array | np.ndarray | None = None  # pyright: ignore[reportIncompatibleMethodOverride]
    factor: Array | np.ndarray | None = None
    units: tuple[Tree, ...] = ()
    on: Array | np.ndarray | None = None
    trains: Array | np.ndarray | None = None
    taken: Array | np.ndarray | None = None


def block_mask(index: Sequence[int] | np.ndarray, layers: int, factor: Any = None) -> BlockMask:
    """The mask of some of `layers` blocks, checked on the host: in a program JAX would silently clamp a wrong index.

    Args:
        index: the blocks that run, ascending.
        factor: one number, or one for each of them; a factor that is always 1 is better left out.

    Raises:
        RaptrError: `block-index`.
    """
    blocks = np.asarray(index, dtype=np.int32).reshape(-1)
    outside = blocks[(blocks < 0) | (blocks >= layers)]
    if outside.size:
        raise fail("block-index", f"block {outside[0]} is not one of {layers} blocks, 0 to {layers - 1}")
    if (np.diff(blocks) <= 0).any():
        raise fail("block-index", f"the blocks {blocks.tolist()} are not ascending, each once", help="sort them")
    if factor is not None:
        dtype = np.result_type(np.asarray(factor).dtype, np.float32)
        factor = np.ascontiguousarray(np.broadcast_to(np.asarray(factor, dtype=dtype), blocks.shape))
    return BlockMask(None if blocks.size == layers else blocks, factor)


def scan_blocks(
    block: Callable[..., Any], stacked: Tree, x: Tree, mask: BlockMask | None = None, *, has_aux: bool = False
) -> Any:
    """`x` through the blocks that run, in order; each is compiled once, however many there are.

    A block that is off is the identity and is not computed. Where the mask has factors, a block adds
    factor · (block(x) − x) to x.

    Args:
        block: pure function of (parameters of one block, x, *units) → x of the same shape and dtype.
        stacked: parameters, each leaf [L, …] with one row a block (see `stack`).
        mask: which blocks run; None for all of them.
        has_aux: whether the block returns (x, aux), as in `jax.value_and_grad`.

    Returns:
        x; with `has_aux` (x, aux), where each leaf of aux has one row a block that ran.

    Raises:
        RaptrError: `block-stack`: the leading axes of the stack differ.
    """
    mask = mask or BlockMask()
    depth(stacked)
    running = take(stacked, mask.index)

    def with_aux(parameters: Tree, before: Tree, units: tuple[Tree, ...]) -> tuple[Tree, Any]:
        result = block(parameters, before, *units)
        return result if has_aux else (result, None)

    chosen = choosing(with_aux)

    def body(before: Tree, here: tuple[Tree, Any, tuple[Tree, ...], Any, Any, Any]) -> tuple[Tree, Any]:
        parameters, factor, units, on, trains, taken = here
        if trains is None:
            after, aux = with_aux(parameters, before, units)
        else:
            after, aux = chosen(parameters, before, units, trains, taken)
        if factor is not None:
            after = _scaled(before, after, factor)
        if on is not None:
            after = jax.tree.map(lambda new, old: jnp.where(on, new, old), after, before)
        return after, aux

    x, aux = lax.scan(body, x, (running, mask.factor, mask.units, mask.on, mask.trains, mask.taken))
    return (x, aux) if has_aux else x


def _scaled(before: Tree, after: Tree, factor: Array) -> Tree:
    return jax.tree.map(lambda old, new: old + factor.astype(old.dtype) * (new - old), before, after)


def depth(stacked: Tree) -> int:
    """The number of blocks of a stack.

    Raises:
        RaptrError: `block-stack`.
    """
    lengths: dict[int | None, str] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(stacked):
        lengths.setdefault(leaf.shape[0] if leaf.ndim else None, jax.tree_util.keystr(path))
    if len(lengths) == 1 and None not in lengths:
        (length,) = lengths
        assert length is not None
        return length
    if not lengths:
        raise fail("block-stack", "the stack holds no parameter")
    found = ", ".join(f"{path} {'none' if length is None else length}" for length, path in lengths.items())
    raise fail(
        "block-stack",
        f"the parameters of the stack do not all have the same leading axis: {found}",
        help="make the stack with raptr_jax.stack(trees), one tree a block",
    )


def take(stacked: Tree, index: Array | np.ndarray | None) -> Tree:
    """[L, …] → [k, …]: the rows of a checked index; the stack itself for None. `put` is its inverse."""
    if index is None:
        return stacked
    return jax.tree.map(lambda leaf: jnp.asarray(leaf).at[index].get(**_CHECKED), stacked)


def put(stacked: Tree, index: Array | np.ndarray, part: Tree) -> Tree:
    """[L, …] with the rows of a checked index replaced by `part` [k, …]. `take` is its inverse."""
    return jax.tree.map(lambda leaf, rows: jnp.asarray(leaf).at[index].set(rows, **_CHECKED), stacked, part)


def rows_like(rows: Array | np.ndarray, leaf: Array) -> Array | np.ndarray:
    """The same, to be broadcast against a leaf whose leading axes are those of `rows`."""
    return rows.reshape(*rows.shape, *[1] * (leaf.ndim - rows.ndim))


_CHECKED: Any = {"mode": "promise_in_bounds", "unique_indices": True, "indices_are_sorted": True}


def stack(blocks: Sequence[Tree]) -> Tree:
    """One tree a block → one tree whose leaves are [L, …]. `unstack` is its inverse.

    Raises:
        RaptrError: `block-stack`: the blocks are not alike.
    """
    if not blocks:
        raise fail("block-stack", "there is no block to stack")
    kinds = [_kind(tree) for tree in blocks]
    for number, kind in enumerate(kinds):
        differ = dict(kind.items() ^ kinds[0].items())
        if differ:
            path = min(differ)
            here, first = kind.get(path, "missing"), kinds[0].get(path, "missing")
            raise fail(
                "block-stack",
                f"block {number} is not like block 0: {path} is {here} there and {first} in block 0",
                help="stack the blocks that are alike, and run the others by themselves",
            )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *blocks)


def unstack(stacked: Tree) -> list[Tree]:
    """Leaves [L, …] → L trees, one a block. `stack` is its inverse.

    Raises:
        RaptrError: `block-stack`: the leading axes of the stack differ.
    """
    return [jax.tree.map(lambda leaf, block=block: leaf[block], stacked) for block in range(depth(stacked))]


def _kind(tree: Tree) -> dict[str, str]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path): f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}" for path, leaf in leaves}
