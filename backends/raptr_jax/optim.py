"""An optimizer over stacked blocks: any optax transform, applied to each block by itself.

Stacking changes what many transforms do: matrices, norms and statistics would span blocks that have nothing to do with
each other. So the transform is vmapped over the blocks and every leaf of its state, counts included, has a leading axis
[L]. Then `idle=skip` gathers parameters and state of the blocks that ran, updates k of them and scatters them back; a
count advances in the steps in which its block runs. Clipping, once over the whole tree, and the learning rate, from
the optimizer step, stay outside: inside, they would see one block, and its own count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from raptr_dsl.diagnostics import fail
from raptr_jax.examine import Facts, examine
from raptr_jax.scan import Tree, put, rows_like, take

CLIP_EPS = 1e-6
"""Added to the norm of the gradient, as torch does."""


class Parts(NamedTuple):
    """Parameters, gradients or optimizer state: of stacked blocks [L, …], and of all else.

    Attributes:
        factor: [L], a trained factor of each block (`scale=learned`), or None.
    """

    blocks: Tree
    rest: Tree
    factor: Tree = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Idle:
    """What ran, for the optimizer; by default everything.

    Attributes:
        index: int32[k] of the blocks that ran, or None for all.
        skips: whether blocks that did not run are left alone, and not updated with a gradient of zero.
        touched: a tree like a block's parameters: bool[k, units], the rows that may be updated (bool[L, units] unless
            `skips`), or None for all. None instead of the tree: all rows of all parameters.
        trained: bool[k] (bool[L] unless `skips`), the blocks that may be updated at all, or None for all.
        frozen: names in `rest` that are not updated; of an optimizer that keeps them `apart`.
        learned: whether the factors of the blocks are in use; else they are left alone.
    """

    index: Array | np.ndarray | None = None
    skips: bool = field(default=False, metadata={"static": True})
    touched: Tree | None = None
    trained: Array | np.ndarray | None = None
    frozen: frozenset[str] = field(default=frozenset(), metadata={"static": True})
    learned: bool = field(default=False, metadata={"static": True})


@dataclass(frozen=True)
class Optimizer:
    """Made by `optimizer`, which refuses what would not mean what it says.

    Attributes:
        apart: whether each name in `rest` has a state, and so a count, of its own; then it can be frozen by itself.
    """

    clip: float | None
    per_block: optax.GradientTransformation
    lr: Callable[[int], float]
    apart: bool = False

    def init(self, parameters: Parts) -> Parts:
        """The state before the first step; every leaf of its blocks has the leading axis [L]."""
        rest = {name: self.per_block.init(part) for name, part in self._apart(parameters.rest).items()}
        return Parts(
            self.init_blocks(parameters.blocks),
            rest if self.apart else rest[""],
            self.init_blocks(parameters.factor),
        )

    def init_blocks(self, stacked: Tree) -> Tree:
        """The state of stacked blocks before the first step; None for None."""
        return None if stacked is None else jax.vmap(self.per_block.init)(stacked)

    def update(
        self, gradients: Parts, state: Parts, parameters: Parts, lr: Array, idle: Idle | None = None,
        accept: Array | bool = True,
    ) -> tuple[Parts, Parts, Array]:  # fmt: skip
        """One optimizer step; pure, to be called in a compiled function.

        Args:
            gradients: of the blocks that ran, [k, …], and of the rest.
            lr: of this step: `lr(step)`, evaluated on the host and given as an argument.
            accept: nothing is changed where it is false, or where the gradient is not finite.

        Returns:
            Parameters, state, and the norm of the gradient before clipping.
        """
        idle = idle or Idle()
        norm = optax.tree.norm(gradients)
        if self.clip is not None:
            factor = jnp.minimum(1.0, self.clip / (norm + CLIP_EPS))
            gradients = jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients)
        accept = jnp.isfinite(norm) & accept
        rest, rest_state = self._rest(gradients.rest, state.rest, parameters.rest, lr, accept, idle.frozen)
        blocks, blocks_state = self._blocks(gradients.blocks, state.blocks, parameters.blocks, lr, accept, idle)
        factor, factor_state = parameters.factor, state.factor
        if idle.learned:
            whole = replace(idle, touched=None)
            factor, factor_state = self._blocks(gradients.factor, factor_state, factor, lr, accept, whole)
        return Parts(blocks, rest, factor), Parts(blocks_state, rest_state, factor_state), norm

    def _apart(self, rest: Tree) -> dict[str, Tree]:
        """By name; each part still by its own name, which transforms may look at."""
        return {name: {name: part} for name, part in rest.items()} if self.apart else {"": rest}

    def _rest(
        self, gradients: Tree, state: Tree, parameters: Tree, lr: Array, accept: Array, frozen: frozenset[str]
    ) -> tuple[Tree, Tree]:
        if not self.apart:
            return self._step(self.per_block.update, gradients, state, parameters, lr, accept)
        parameters, state, of_each = dict(parameters), dict(state), self._apart(gradients)
        for name, part in self._apart(parameters).items():
            if name not in frozen:
                after = self._step(self.per_block.update, of_each[name], state[name], part, lr, accept)
                parameters[name], state[name] = after[0][name], after[1]
        return parameters, state

    def _blocks(
        self, gradients: Tree, state: Tree, parameters: Tree, lr: Array, accept: Array, idle: Idle
    ) -> tuple[Tree, Tree]:
        update = jax.vmap(self.per_block.update)
        if idle.index is None or not idle.skips:
            if idle.index is not None:
                gradients = put(jax.tree.map(jnp.zeros_like, parameters), idle.index, gradients)
            return self._step(update, gradients, state, parameters, lr, accept, idle.touched, idle.trained)
        before = take((parameters, state), idle.index)
        after = self._step(update, gradients, before[1], before[0], lr, accept, idle.touched, idle.trained)
        return put((parameters, state), idle.index, after)

    def _step(
        self, update: Callable, gradients: Tree, state: Tree, parameters: Tree, lr: Array, accept: Array,
        touched: Tree | None = None, trained: Array | np.ndarray | None = None,
    ) -> tuple[Tree, Tree]:  # fmt: skip
        updates, new_state = update(gradients, state, parameters)
        new = jax.tree.map(lambda value, change: value + lr.astype(value.dtype) * change, parameters, updates)
        if touched is None and trained is None:
            return _where(accept, (new, new_state), (parameters, state))
        accept = accept if trained is None else accept & trained
        touched = jax.tree.map(lambda _: None, parameters) if touched is None else touched
        rows = jax.tree.map(lambda value, on: _rows(value, on, accept), parameters, touched)
        state_rows = optax.tree.map_params(  # counts advance whatever rows are on
            self.per_block,
            lambda _, on: on,
            new_state,
            rows,
            transform_non_params=lambda leaf: _rows(leaf, None, accept),
        )
        return jax.tree.map(jnp.where, (rows, state_rows), (new, new_state), (parameters, state))


def optimizer(
    clip: float | None, per_block: optax.GradientTransformation, lr: float | Callable[[int], float]
) -> Optimizer:
    """An optimizer whose transform is applied to each block by itself.

    Args:
        clip: greatest norm of the gradient of the whole tree, or None.
        per_block: any optax optimizer made with learning rate 1, such as `optax.adamw(1.0, weight_decay=0.1)`.
        lr: the learning rate, or a function of the optimizer step over the whole run (an optax schedule is one).

    Raises:
        RaptrError: `optim-schedule`: a schedule inside `per_block` would read the count of its block.
            `optim-coupled`: parameters of a block depend on each other's gradients, as under a clip of the global norm.
            `optim-ascends`: it goes up the gradient.
    """
    facts = examine(per_block)
    if facts.has_schedule:
        raise fail(
            "optim-schedule",
            "per_block holds a schedule, which would read the count of a block and not the step of the run",
            help="give the schedule as lr=, and make per_block with the learning rate 1.0",
        )
    if facts.is_coupled:
        raise fail(
            "optim-coupled",
            "under per_block the update of a parameter depends on the gradients of others, as when the global norm is "
            "clipped, and it would see those of one block alone",
            help="give the greatest norm as clip=, which is over the whole tree",
        )
    if facts.ascends:
        raise fail(
            "optim-ascends",
            "per_block goes up the gradient",
            help="give a whole optimizer with the learning rate 1.0, such as optax.adamw(1.0)",
        )
    return Optimizer(clip, per_block, lr if callable(lr) else lambda _: lr)


def require_idle(facts: Facts, rules: Iterable[tuple[str, str]], per_block: Iterable[str]) -> None:
    """Refuses rules of `idle` that would not mean under a transform what a plan says.

    Args:
        rules: (axis, idle) of all stages. per_block: the axes whose units are rows of parameters.

    Raises:
        RaptrError: `optimizer-idle-zero`, `optimizer-idle-rows`.
    """
    for axis, idle in sorted(set(rules)):
        if idle == "zero" and not facts.fades:
            raise fail(
                "optimizer-idle-zero",
                f"under this optimizer, idle=zero would move idle parts of {axis} at full strength in every step",
                help=f"write {axis}.idle=skip",
            )
        if idle == "skip" and axis in per_block and not facts.is_elementwise:
            raise fail(
                "optimizer-idle-rows",
                f"this optimizer updates a matrix as a whole, so idle=skip cannot leave out rows of it along {axis}",
                help="use an elementwise optimizer, such as AdamW, for the matrices of the blocks",
            )


def _where(accept: Array, new: Tree, old: Tree) -> Tree:
    return jax.tree.map(lambda after, before: jnp.where(accept, after, before), new, old)


def _rows(value: Array, on: Array | None, accept: Array) -> Array:
    """bool, broadcastable to value[k, units, …]: what is replaced; `accept` is bool[] or bool[k]."""
    whole = jnp.asarray(rows_like(accept, value))
    return whole if on is None else whole & rows_like(on, value)
