"""Counts the FLOPs of a program in its jaxpr: every matmul by its shapes, times the lengths of the scans around it."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr


def matmul_flops(program: ClosedJaxpr | Jaxpr) -> int:
    """2·M·N·K of every `dot_general` that one execution runs, backward pass included where it is part of the program.

    Raises:
        ValueError: a loop of unknown length, or a choice between branches of different cost, holds a matmul.
    """
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum(_cost(equation) for equation in jaxpr.eqns)


def _cost(equation: Any) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        rows = equation.invars[0].aval.shape
        return 2 * prod(equation.outvars[0].aval.shape) * prod(rows[axis] for axis in contracted)
    inner = [matmul_flops(part) for part in _parts(equation.params)]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "cond" and len(set(inner)) == 1:
        return inner[0]
    if name in ("cond", "while") and any(inner):
        raise ValueError(f"the matmuls in a {name} cannot be counted")
    return sum(inner)


def _parts(parameters: dict[str, Any]) -> Iterator[ClosedJaxpr | Jaxpr]:
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield item
