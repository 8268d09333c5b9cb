"""Blocks copied at a stage's start, with their optimizer state (rule 35)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from raptr_dsl.backend.network import Parameter
from raptr_dsl.ir.plan import Growth
from raptr_reference.model import Array
from raptr_reference.optim import Moments


def grow(
    growth: Growth,
    values: dict[str, Array],
    moments: dict[str, Moments],
    start: Mapping[str, Array],
    table: tuple[Parameter, ...],
) -> None:
    """Gives every block that is born the values and the state of its source, as they were before, in place.

    Args:
        start: the values with which the model began.
    """
    old_values, old_moments = dict(values), dict(moments)
    for parameter in table:
        if parameter.block is None or parameter.block >= len(growth.sources):
            continue
        name, source = parameter.name, growth.sources[parameter.block]
        origin = parameter.in_block(source)
        if source >= 0:
            values[name] = old_values[origin].copy()
        else:
            values[name] = np.zeros_like(start[name]) if parameter.is_output else start[name].copy()
        if source < 0 or (parameter.block in growth.new and growth.moments == "zero"):
            moments[name] = Moments(np.zeros_like(values[name]), np.zeros_like(values[name]))
        else:
            state = old_moments[origin]
            moments[name] = Moments(state.mean.copy(), state.square.copy(), state.count)
