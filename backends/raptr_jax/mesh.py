"""Several devices: what lies where, and the constraints that keep a scan over sharded blocks from gathering them all.

Batches are split over one axis of a mesh. Parameters and optimizer state are whole on every device, or each matrix is
split along its last axis, which no index of a plan selects from. Then a scan gathers one block an iteration, used and
forgotten, if its body says so: without `replicate` and `by_batch` the compiler gathers several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from raptr_dsl.diagnostics import fail

AXIS = "data"
"""The axis of a mesh over which a batch is split, unless another one is named."""

Tree = Any


def data_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """All devices of all processes (or those given) along one axis, `data`."""
    chosen = list(jax.devices() if devices is None else devices)
    return jax.make_mesh((len(chosen),), (AXIS,), axis_types=(AxisType.Auto,), devices=chosen)


def replicate(tree: Tree) -> Tree:
    """Whole on every device of the mesh in context (`jax.set_mesh`); as it is where there is none."""
    if jax.sharding.get_abstract_mesh().empty:
        return tree
    return jax.tree.map(lambda leaf: _constrained(leaf, PartitionSpec()), tree)


def regathering(block: Callable[..., Any]) -> Callable[..., Any]:
    """A block whose backward pass gathers again what `replicate` gathered, where a mesh is in context.

    Otherwise a scan would keep the whole parameters of all its blocks until then. Nothing else is computed again.
    """
    if jax.sharding.get_abstract_mesh().empty:
        return block
    return jax.checkpoint(block, policy=_is_not_moved, prevent_cse=False)


def _is_not_moved(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """A policy of `jax.checkpoint`: everything is kept but what was put elsewhere, which is put there again."""
    return primitive.name != "sharding_constraint"


def by_batch(tree: Tree, axis: str = AXIS, dimension: int = 0) -> Tree:
    """Split along a dimension over one axis of the mesh in context; as it is where there is none.

    Arrays that the mesh does not divide stay whole on every device.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return tree
    split = PartitionSpec(*[None] * dimension, axis)

    def constrained(leaf: Array) -> Array:
        is_even = leaf.shape[dimension] % mesh.shape[axis] == 0
        return _constrained(leaf, split if is_even else PartitionSpec())

    return jax.tree.map(constrained, tree)


def gathered(block: Callable[..., Any], axis: str = AXIS) -> Callable[..., Any]:
    """A block for `scan_blocks` that gathers its own parameters when it runs, and keeps its input split by batch.

    Without a mesh in context (`jax.set_mesh`) it is the block itself.
    """

    def constrained(parameters: Tree, x: Tree, *units: Tree) -> Any:
        return regathering(lambda split, y: block(replicate(split), by_batch(y, axis), *units))(parameters, x)

    return constrained


def shardings(tree: Tree, mesh: Mesh, axis: str = AXIS, leading: int = 1) -> Tree:
    """A sharding for each array: matrices split along their last axis where the mesh divides it, the rest whole.

    Args:
        leading: axes in front that are no part of a matrix: 1 for stacked blocks, 0 for anything else.
    """

    def of(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        is_split = len(shape) - leading >= 2 and shape[-1] % mesh.shape[axis] == 0
        return NamedSharding(mesh, PartitionSpec(*[None] * (len(shape) - 1), axis) if is_split else PartitionSpec())

    return jax.tree.map(of, tree)


def place(tree: Tree, where: Tree) -> Tree:
    """Arrays that every process holds in full, on the devices that shardings name; one sharding serves all arrays."""
    if isinstance(where, Sharding):
        where = jax.tree.map(lambda _: where, tree)
    return jax.tree.map(_placed, tree, where)


def _placed(leaf: Any, sharding: Sharding) -> Array:
    if sharding.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda index: value[index])


def entered(mesh: Mesh | None) -> AbstractContextManager[Any]:
    """The mesh in context, for what is traced within."""
    return nullcontext() if mesh is None else jax.set_mesh(mesh)


def require_divides(mesh: Mesh, sequences: int, axis: str = AXIS) -> None:
    """Refuses a mesh over which a batch cannot be split evenly.

    Raises:
        RaptrError: `mesh-batch`.
    """
    devices = mesh.shape[axis]
    if sequences % devices == 0:
        return
    fewer = max(n for n in range(1, devices) if sequences % n == 0)
    raise fail(
        "mesh-batch",
        f"a mesh of {devices} devices along {axis} does not divide a batch of {sequences} sequences",
        help=f"train on {fewer} device{'s' if fewer > 1 else ''}, or compile the schedule for a batch of "
        f"{sequences - sequences % devices or devices}",
    )


def _constrained(leaf: Array, spec: PartitionSpec) -> Array:
    return jax.lax.with_sharding_constraint(leaf, spec)
