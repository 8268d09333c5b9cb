"""Where a trainer's arrays lie: on one device, or on a mesh whose devices share each batch."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from raptr_jax.mesh import AXIS, by_batch, data_mesh, entered, place, require_divides, shardings
from raptr_jax.optim import Parts
from raptr_jax.scan import Tree


class Places:
    """Places of a trainer's arrays.

    Args:
        mesh: one axis, `data`; all devices of all processes unless given. With one device nothing is placed at all.
        splits_parameters: whether matrices are split over the devices, and not whole on each.
    """

    def __init__(self, mesh: Mesh | None, splits_parameters: bool) -> None:
        mesh = data_mesh() if mesh is None else mesh
        self.devices = mesh.shape[AXIS]
        self._mesh = mesh if self.devices > 1 else None
        self._splits = splits_parameters

    def require_divides(self, sequences: int) -> None:
        """Raises RaptrError (`mesh-batch`) where the devices cannot share a batch of so many."""
        if self._mesh is not None:
            require_divides(self._mesh, sequences)

    def entered(self) -> AbstractContextManager[Any]:
        """The mesh in context, for what is traced within."""
        return entered(self._mesh)

    def trained(self, parts: Parts) -> Parts:
        """Parameters or optimizer state, whole on the host before."""
        where = self._shardings(parts)
        return jax.device_put(parts) if where is None else place(parts, where)

    def batch(self, tokens: Tree) -> Tree:
        """Arrays [batch, …] split over the devices; whole on each where they cannot be split evenly."""
        if self._mesh is None:
            return tokens
        rows = len(jax.tree.leaves(tokens)[0])
        spec = PartitionSpec() if rows % self.devices else PartitionSpec(AXIS)
        return place(tokens, NamedSharding(self._mesh, spec))

    def everywhere(self, tree: Tree) -> Tree:
        """Small arrays, whole on every device."""
        return tree if self._mesh is None else place(tree, NamedSharding(self._mesh, PartitionSpec()))

    def whole(self, carried: tuple[Parts, Parts]) -> tuple[Parts, Parts]:
        """The same, whole in every process, where it lies in parts on several; to be called in all of them."""
        if not is_scattered(carried):
            return carried
        assert self._mesh is not None
        return jax.jit(lambda tree: tree, out_shardings=NamedSharding(self._mesh, PartitionSpec()))(carried)

    def results(self, carried: tuple[Parts, Parts]) -> Any:
        """Shardings of what a step returns: what it carries on where it was, everything else whole."""
        if self._mesh is None:
            return None
        return (*map(self._shardings, carried), NamedSharding(self._mesh, PartitionSpec()))

    def constrained(self, gradients: Parts) -> Parts:
        """Gradients split as their parameters are; to be called in a compiled function."""
        where = self._shardings(gradients)
        return gradients if where is None else jax.tree.map(jax.lax.with_sharding_constraint, gradients, where)

    def in_parts(self, tokens: Tree, parts: int) -> Tree:
        """[batch, …] → [parts, batch / parts, …], each part spread over the devices without moving a sequence."""

        def split(array: jax.Array) -> jax.Array:
            rows, *rest = array.shape
            if rows % (self.devices * parts):
                return array.reshape(parts, -1, *rest)
            by_device = array.reshape(self.devices, parts, -1, *rest).swapaxes(0, 1)
            return by_batch(by_device.reshape(parts, -1, *rest), dimension=1)

        return jax.tree.map(split, tokens)

    def _shardings(self, parts: Parts) -> Parts | None:
        if self._mesh is None:
            return None
        if self._splits:
            factor = jax.tree.map(lambda _: NamedSharding(self._mesh, PartitionSpec()), parts.factor)  # pyright: ignore
            return Parts(shardings(parts.blocks, self._mesh), shardings(parts.rest, self._mesh, leading=0), factor)
        return jax.tree.map(lambda _: NamedSharding(self._mesh, PartitionSpec()), parts)  # pyright: ignore


def is_scattered(tree: Tree) -> bool:
    """Whether an array lies in parts on several processes."""
    return not all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in jax.tree.leaves(tree))
