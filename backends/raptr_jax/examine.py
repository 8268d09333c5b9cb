"""What an optax transform does, found by experiment on small matrices and not by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

IDLE_STEPS = 60
"""Zero gradients after which momentum must have faded: β₁=0.99 still leaves half of the movement, a sign all of it."""
FADED = 0.9
LR = 1e-3


@dataclass(frozen=True, slots=True)
class Facts:
    """What holds of a transform.

    Attributes:
        has_schedule: its state counts steps for a schedule.
        is_coupled: the update of one parameter depends on the gradient of another.
        ascends: its first updates point along the gradient.
        is_elementwise: an element's update depends on that element alone, so rows can be updated by themselves.
        fades: under zero gradients the movement dies away (not under sign- and matrix-normalised transforms).
    """

    has_schedule: bool
    is_coupled: bool
    ascends: bool
    is_elementwise: bool
    fades: bool


def examine(transform: optax.GradientTransformation) -> Facts:
    """The facts of a transform; nothing of it is kept."""
    with jax.enable_x64(False):
        return Facts(
            has_schedule=_has_schedule(transform),
            is_coupled=_is_coupled(transform),
            ascends=_ascends(transform),
            is_elementwise=_is_elementwise(transform),
            fades=_fades(transform),
        )


def _has_schedule(transform: optax.GradientTransformation) -> bool:
    state = transform.init({"a": _normal(0)})
    return any(type(node).__name__ in _SCHEDULED for node in _nodes(state))


_SCHEDULED = frozenset(
    {"ScaleByScheduleState", "InjectHyperparamsState", "InjectStatefulHyperparamsState", "WrappedScheduleState"}
)


def _nodes(state: Any) -> Iterator[Any]:
    yield state
    children = state.values() if isinstance(state, dict) else state if isinstance(state, tuple | list) else ()
    for child in children:
        yield from _nodes(child)


def _is_coupled(transform: optax.GradientTransformation) -> bool:
    parameters = {"a": _normal(0), "b": _normal(1)}
    moves = [
        _run(transform, parameters, [{"a": _normal(n), "b": _normal(9 + n) * strength} for n in range(2, 5)])["a"]
        for strength in (1.0, 1000.0)
    ]
    return not np.allclose(moves[0], moves[1], rtol=1e-4, atol=1e-7)


def _ascends(transform: optax.GradientTransformation) -> bool:
    parameters, gradient = {"a": jnp.zeros((8, 16))}, {"a": _normal(1)}
    updates: Any = transform.update(gradient, transform.init(parameters), parameters)[0]
    return float(jnp.vdot(updates["a"], gradient["a"])) > 0


def _is_elementwise(transform: optax.GradientTransformation) -> bool:
    rows = slice(2, 5)
    whole, gradients = {"a": _normal(0)}, [{"a": _normal(n)} for n in range(1, 4)]
    of_whole = _run(transform, whole, gradients)["a"][rows]
    of_part = _run(transform, {"a": whole["a"][rows]}, [{"a": g["a"][rows]} for g in gradients])["a"]
    return np.allclose(of_whole, of_part, rtol=1e-5, atol=1e-7)


def _fades(transform: optax.GradientTransformation) -> bool:
    def moved(carry: Any, gradient: Array) -> Any:
        parameters, state = carry
        updates: Any
        updates, state = transform.update({"a": gradient}, state, parameters)
        return (optax.apply_updates(parameters, jax.tree.map(lambda u: LR * u, updates)), state), updates["a"]

    active = jnp.stack([_normal(n) for n in range(20)])
    idle = jnp.zeros((IDLE_STEPS + 1, *active.shape[1:]))
    parameters = {"a": jnp.zeros_like(active[0])}
    carry, _ = jax.lax.scan(moved, (parameters, transform.init(parameters)), active)
    _, updates = jax.lax.scan(moved, carry, idle)
    first, last = float(jnp.linalg.norm(updates[0])), float(jnp.linalg.norm(updates[-1]))
    return last <= FADED * first


def _run(transform: optax.GradientTransformation, parameters: Any, gradients: list[Any]) -> dict[str, np.ndarray]:
    """How far the parameters move under these gradients."""

    @jax.jit
    def step(parameters: Any, state: Any, gradient: Any) -> tuple[Any, Any]:
        updates, state = transform.update(gradient, state, parameters)
        return jax.tree.map(lambda p, u: p + LR * u, parameters, updates), state

    now, state = parameters, transform.init(parameters)
    for gradient in gradients:
        now, state = step(now, state, gradient)
    return {name: np.asarray(now[name] - parameters[name]) for name in parameters}


def _normal(seed: int) -> Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal((8, 16)), dtype=jnp.float32)
