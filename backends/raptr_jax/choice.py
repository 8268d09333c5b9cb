"""A block whose backward pass, when it runs, either has gradients of the parameters or has not.

Which blocks train is an argument of a program, as is which run: one program serves every choice of one size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

Tree = Any

TRAINED = "backward_of_a_block_that_trains"
"""The name of that branch in a program; see `raptr_jax.meter`."""


def choosing(block: Callable[[Tree, Tree, Tree], tuple[Tree, Any]]) -> Callable[..., tuple[Tree, Any]]:
    """A function of (parameters, x, units, trains, taken) that returns what `block` does of the first three.

    Args:
        block: pure function of (parameters, x, units) → (x, aux).

    Returns:
        With trains, bool[], true its derivatives by parameters and x are those of the block, and that by `taken`,
        float32[], is 1. With trains false those by parameters and `taken` are 0, and no matmul computes them.
    """

    @jax.custom_vjp
    def chosen(parameters: Tree, x: Tree, units: Tree, trains: Any, taken: Any) -> tuple[Tree, Any]:
        return block(parameters, x, units)

    def forward(parameters: Tree, x: Tree, units: Tree, trains: Any, taken: Any) -> tuple[Any, Any]:
        after, backward, aux = jax.vjp(lambda p, y: block(p, y, units), parameters, x, has_aux=True)
        return (after, aux), (backward, trains)

    def backward(saved: Any, cotangent: Any) -> Any:
        of_block, trains = saved

        def trained() -> Any:
            return *of_block(cotangent[0]), jnp.float32(1)

        def frozen() -> Any:
            parameters, x = of_block(cotangent[0])
            return jax.tree.map(jnp.zeros_like, parameters), x, jnp.float32(0)

        trained.__name__ = TRAINED
        parameters, x, taken = lax.cond(trains, jax.jit(trained), frozen)
        return parameters, x, None, None, taken

    chosen.defvjp(forward, backward)
    return chosen
