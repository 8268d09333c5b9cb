"""What lies between the two projections of a feed-forward part."""

from __future__ import annotations

from functools import partial

import jax
from jax import Array

from raptr_dsl.backend.network import GELU


@partial(jax.checkpoint, prevent_cse=False)
def activation(up: Array, gate: Array | None) -> Array:
    """GELU, or SiLU of the gate times `up`, of their shape.

    The backward pass computes it again from these: a scan would keep each intermediate result of every block, which is
    a third of the temporary memory of a step, and costs more time to write and read than to compute.
    """
    return jax.nn.gelu(up, approximate=GELU == "tanh") if gate is None else jax.nn.silu(gate) * up
