"""Counts the FLOPs of a program in its jaxpr: every matmul by its shapes, times the lengths of the scans around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.interpreters.partial_eval import dce_jaxpr

from raptr_jax.choice import TRAINED


@dataclass(frozen=True, slots=True)
class Work:
    """FLOPs of the matmuls of one execution.

    Attributes:
        always: whatever is chosen while it runs.
        by_choice: what one backward pass of a block costs besides if it trains; an entry for each scan over blocks of
            which some train (see `raptr_jax.choice`), in the order in which they run.
    """

    always: int
    by_choice: tuple[int, ...] = ()

    def flops(self, taken: Sequence[int] = ()) -> int:
        """FLOPs where so many blocks of each of those scans trained, over all executions of the scan."""
        return self.always + sum(cost * times for cost, times in zip(self.by_choice, taken, strict=True))


def matmul_flops(program: ClosedJaxpr | Jaxpr) -> int:
    """2·M·N·K of every `dot_general` that one execution runs, backward pass included where it is part of the program.

    Raises:
        ValueError: a loop of unknown length, or a choice between branches of different cost, holds a matmul.
    """
    work = work_of(program)
    if any(work.by_choice):
        raise ValueError("which blocks train is chosen while the program runs")
    return work.always


def work_of(program: ClosedJaxpr | Jaxpr) -> Work:
    """As `matmul_flops`, where blocks choose while they run whether they train."""
    choices: list[int] = []
    return Work(_cost_of(program, choices), tuple(choices))


def _cost_of(program: ClosedJaxpr | Jaxpr, choices: list[int]) -> int:
    jaxpr = program.jaxpr if isinstance(program, ClosedJaxpr) else program
    return sum(_cost(equation, choices) for equation in jaxpr.eqns)


def _cost(equation: Any, choices: list[int]) -> int:
    name = equation.primitive.name
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        rows = equation.invars[0].aval.shape
        return 2 * prod(equation.outvars[0].aval.shape) * prod(rows[axis] for axis in contracted)
    if name == "cond" and _is_choice(equation):
        frozen, trained = (matmul_flops(_live(branch)) for branch in equation.params["branches"])
        choices.append(trained - frozen)
        return frozen
    inner = [_cost_of(part, choices) for part in _parts(equation.params)]
    if name == "scan":
        return equation.params["length"] * sum(inner)
    if name == "cond" and len(set(inner)) == 1:
        return inner[0]
    if name in ("cond", "while") and any(inner):
        raise ValueError(f"the matmuls in a {name} cannot be counted")
    return sum(inner)


def _is_choice(cond: Any) -> bool:
    equations = (equation for branch in cond.params["branches"] for equation in branch.jaxpr.eqns)
    return any(equation.params.get("name") == TRAINED for equation in equations)


def _live(branch: ClosedJaxpr) -> Jaxpr:
    """Without what no result depends on: XLA compiles none of it."""
    return dce_jaxpr(branch.jaxpr, [True] * len(branch.jaxpr.outvars))[0]


def _parts(parameters: dict[str, Any]) -> Iterator[ClosedJaxpr | Jaxpr]:
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr | Jaxpr):
                yield item
