"""A trainer's state by the names of the core's table, and back: what other backends can take up.

Optax counts updates once a state: of all tensors of a block together, of a block's factor, of each name outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np
import optax
from numpy.typing import NDArray

from raptr_dsl.backend.network import Parameter
from raptr_dsl.backend.state import Moments, no_moments, shared_count
from raptr_dsl.ir.model import ModelShape
from raptr_jax.names import named, nested
from raptr_jax.optim import Parts
from raptr_jax.scan import Tree


def exported(shape: ModelShape, trained: Parts, state: Parts) -> tuple[dict[str, NDArray], dict[str, Moments]]:
    """Copies of the values, and of AdamW's moments, by the names of the core's table."""
    trained, state = jax.tree.map(np.asarray, (trained, state))
    means, squares = (named(shape, _of_parameters(state, word)) for word in ("mu", "nu"))
    moments = {name: Moments(mean, squares[name], _count(state, name)) for name, mean in means.items()}
    return named(shape, trained), moments


def imported(
    shape: ModelShape,
    table: Sequence[Parameter],
    state: Parts,
    values: Mapping[str, NDArray],
    moments: Mapping[str, Moments] | None,
) -> tuple[Parts, Parts]:
    """Parameters and optimizer state on the host, of tensors by name.

    Args:
        state: of the same optimizer and parameters; its values are of no account.

    Raises:
        RaptrError: `convert-counts`: tensors that are counted together have had different numbers of updates.
    """
    learned = state.factor is not None
    moments = moments or no_moments(values)
    groups: dict[tuple[str, int], dict[str, int]] = {}
    for entry in table:
        groups.setdefault(_group(entry.name), {})[entry.name] = moments[entry.name].count
    counts = {group: shared_count(of) for group, of in groups.items()}
    mean = nested(shape, {name: of.mean for name, of in moments.items()}, learned)
    square = nested(shape, {name: of.square for name, of in moments.items()}, learned)

    def stacked(of: Tree, name: str, mu: Tree, nu: Tree) -> Tree:
        count = np.array([counts[name, block] for block in range(shape.layers)], dtype=np.int32)
        return optax.tree.set(of, mu=mu, nu=nu, count=count)

    rest = {
        name: optax.tree.set(
            of, mu={name: mean.rest[name]}, nu={name: square.rest[name]}, count=np.int32(counts[name, 0])
        )
        for name, of in state.rest.items()
    }
    factor = stacked(state.factor, "factor", mean.factor, square.factor) if learned else None
    return nested(shape, values, learned), Parts(
        stacked(state.blocks, "blocks", mean.blocks, square.blocks), rest, factor
    )


def _of_parameters(state: Parts, word: str) -> Parts:
    """A part of the state that is like the parameters, such as their mean gradients."""
    rest = {name: optax.tree.get(of, word)[name] for name, of in state.rest.items()}
    factor = None if state.factor is None else optax.tree.get(state.factor, word)
    return Parts(optax.tree.get(state.blocks, word), rest, factor)


def _count(state: Parts, name: str) -> int:
    kind, block = _group(name)
    if kind in ("blocks", "factor"):
        return int(optax.tree.get(getattr(state, kind), "count")[block])
    return int(optax.tree.get(state.rest[kind], "count"))


def _group(name: str) -> tuple[str, int]:
    """What is counted together: of a block, of its factor, or of a name outside the blocks."""
    first, *words = name.split(".")
    if first != "blocks":
        return first, 0
    return "factor" if words[1:] == ["factor"] else "blocks", int(words[0])
