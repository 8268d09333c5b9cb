"""The model's tree of stacked blocks, and the names of the core's table of parameters: from one to the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raptr_dsl.backend.network import Parameter, parameters
from raptr_dsl.ir.model import ModelShape
from raptr_jax.model import flat, nest
from raptr_jax.optim import Parts


def parts(tree: dict[str, Any]) -> Parts:
    """The model's tree as blocks and the rest; `whole` is its inverse."""
    return Parts(tree["blocks"], {name: value for name, value in tree.items() if name != "blocks"})


def whole(split: Parts) -> dict[str, Any]:
    """Blocks and the rest as the model's tree; `parts` is its inverse."""
    return {**split.rest, "blocks": split.blocks}


def named(shape: ModelShape, split: Parts) -> dict[str, NDArray]:
    """Copies of all values by the names of the core's table, factors of blocks among them. `nested` is its inverse."""
    values = flat(shape, whole(split))
    factors = () if split.factor is None else np.asarray(split.factor)
    return values | {f"blocks.{block}.factor": np.array(factor) for block, factor in enumerate(factors)}


def nested(shape: ModelShape, values: Mapping[str, Any], learned: bool) -> Parts:
    """Values by the names of the core's table → blocks, stacked, and the rest, on the host."""
    split = parts(nest(shape, values))
    if not learned:
        return split
    return split._replace(factor=np.stack([values[f"blocks.{block}.factor"] for block in range(shape.layers)]))


def by_path(shape: ModelShape) -> list[tuple[tuple[str, ...], Parameter]]:
    """The core's table of parameters by their paths in `Parts`, one block for all."""
    return [
        (tuple(entry.name.split(".")[0 if entry.block is None else 2 :]), entry)
        for entry in parameters(shape)
        if not entry.block
    ]
