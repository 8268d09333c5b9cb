"""A plan for a training loop of somebody's own: masks in order, one compiled program a size, and an audit of them.

A JAX model is a pure function, so nothing is attached to it: the loop hands each step's mask to its own function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from raptr_dsl.backend import Backend, Capabilities, Executed
from raptr_dsl.backend.checks import require_turn
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_jax.apply import masks_of
from raptr_jax.examine import examine
from raptr_jax.jitted import Jitted, Ran
from raptr_jax.optim import Optimizer, require_idle
from raptr_jax.scan import BlockMask, Tree, depth

PER_BLOCK = ("heads", "width")
"""Axes that a block of somebody's own gets the rows of, in this order."""


def attach(backend: Backend, stacked: Tree, plan: Plan, optimizer: Any = None) -> Runner:
    """See `raptr_jax.JaxBackend.attach`."""
    leaves = jax.tree.leaves(stacked)
    if callable(stacked) or not leaves or not all(hasattr(leaf, "shape") for leaf in leaves):
        raise fail(
            "attach-model",
            f"a JAX model is a pure function, and nothing can be attached to a {type(stacked).__qualname__}",
            help="give the stacked parameters of its blocks; its forward pass calls "
            "raptr_jax.scan_blocks(block, stacked, x, mask) with the mask of each step",
        )
    problems = unsupported(plan, backend, _of_loops(backend.capabilities))
    if problems:
        raise RaptrError(problems)
    if optimizer is not None:
        _require_optimizer(optimizer, plan)
    return Runner(plan, stacked)


def _of_loops(capabilities: Capabilities) -> Capabilities:
    """What a mask can say to a function of somebody's own; `rewarm` is `plan.rate_factor(step)`, for its own rate."""
    return replace(
        capabilities,
        axes=frozenset({"depth", *PER_BLOCK}),
        scales=capabilities.scales - {"learned"},
        attributes=capabilities.attributes & {"rewarm"},
    )


def _require_optimizer(optimizer: Any, plan: Plan) -> None:
    if not isinstance(optimizer, Optimizer):
        raise fail(
            "attach-model",
            f"a {type(optimizer).__qualname__} updates a stack of blocks as one matrix",
            help="give raptr_jax.optimizer(clip, per_block, lr), which updates each block by itself",
        )
    rules = [(axis, rule.idle) for stage in plan.stages for axis, rule in stage.axes.items()]
    require_idle(examine(optimizer.per_block), rules, PER_BLOCK)


@dataclass(frozen=True)
class Audit:
    """Blocks that were planned for the steps so far, and blocks that ran, each once a step."""

    planned: int
    executed: int

    @property
    def holds(self) -> bool:
        return self.planned == self.executed


class Runner:
    """A plan beside a loop of somebody's own; made by `raptr_jax.attach`.

    Attributes:
        next_step: the step that has to come next; a resumed run sets it.
    """

    def __init__(self, plan: Plan, stacked: Tree, dtype: Any = np.float32) -> None:
        """`stacked` is the parameters of the blocks, or their shapes; `dtype` is that of factors.

        Raises:
            RaptrError: `block-stack`; `attach-shape`: the stack has another number of blocks than the plan;
                `attach-uneven`: blocks would run different numbers of heads or hidden units.
        """
        layers = depth(stacked)
        if layers != plan.shape.layers:
            raise fail("attach-shape", f"the plan is for {plan.shape.layers} blocks, and the stack has {layers}")
        _require_even(plan)
        self.plan, self.next_step = plan, 0
        self._stacked, self._dtype = stacked, np.dtype(dtype)
        self._planned = self._executed = self._flops = 0
        self._mask: BlockMask | None = None
        self._ran: list[Ran] = []

    @contextmanager
    def step(self, index: int) -> Iterator[BlockMask]:
        """All compiled calls of optimizer step `index` run inside, with the mask that it gives.

        Raises:
            RaptrError: `step-order`, `step-beyond`: another step is due. `step-open`.
        """
        require_turn(index, self.next_step, self.plan)
        planned = self.plan.step(index)
        with self._open(self._mask_of(planned)) as mask:
            yield mask
        idle = 0 if mask.on is None else int((~np.asarray(mask.on)).sum())
        self._planned += self.plan.shape.layers if mask.index is None else len(mask.index) - idle
        self._executed += max((ran.blocks - idle for ran in self._ran), default=0)
        self._flops += sum(ran.flops for ran in self._ran)
        self.next_step += 1

    @contextmanager
    def full(self) -> Iterator[BlockMask]:
        """Trains everything on purpose, outside the plan: nothing of it is counted."""
        with self._open(BlockMask()) as mask:
            yield mask

    def jit(self, function: Callable[..., Any], donated: int = 0) -> Jitted:
        """As `jax.jit`, for functions of which one argument is the mask of a step: one program a size of mask.

        Args:
            donated: how many arguments, from the first on, may be overwritten, such as parameters and their state.

        Raises:
            RaptrError: the returned function raises `step-outside` outside a step; `mask-unused`: the number of blocks
                that run does not depend on the mask; `retrace`: an argument has another shape or dtype than before.
        """
        return Jitted(function, donated, self._require_open, self._ran.append)

    def prepare(self, jitted: Jitted, index: int, *arguments: Any) -> None:
        """Compiles what step `index` will run, in another thread: for these arguments with its mask in place of one."""
        jitted.prepare(self._mask_of(self.plan.step(index)), arguments)

    def executed(self) -> Executed:
        """What ran in the steps so far, read from the programs that ran."""
        return Executed(units={"depth": self._executed}, flops=self._flops)

    def audit(self) -> Audit:
        """Planned blocks beside those that ran; a step without a call of a function made by `jit` ran none."""
        return Audit(self._planned, self._executed)

    def detach(self) -> Tree:
        """The stack, which was never changed."""
        return self._stacked

    def _require_open(self) -> None:
        """Raises RaptrError (`step-outside`) outside a step."""
        if self._mask is None:
            raise fail(
                "step-outside",
                "a compiled function of this runner was called outside a step of its plan",
                help="call it within `with runner.step(n) as mask:`, or `with runner.full() as mask:`",
            )

    @contextmanager
    def _open(self, mask: BlockMask) -> Iterator[BlockMask]:
        if self._mask is not None:
            raise fail("step-open", "a step of the plan is still open", help="leave its `with` block first")
        self._mask = mask
        self._ran.clear()
        try:
            yield mask
        finally:
            self._mask = None

    def _mask_of(self, step: Step) -> BlockMask:
        masks = masks_of(step, self.plan.stages[step.stage], self.plan.shape.layers, self._dtype)
        units = tuple(getattr(masks.spans[0], axis) for axis in PER_BLOCK) if masks.spans else ()
        return BlockMask(masks.index, masks.factor, units, masks.on)


def _require_even(plan: Plan) -> None:
    for stage in plan.stages:
        for axis in PER_BLOCK:
            rule = stage.axes.get(axis)
            if rule is not None and not rule.law.exact:
                raise fail(
                    "attach-uneven",
                    f"sample={rule.law.law} runs another number of {axis} in each block, and a scan runs equal ones",
                    help=f"write {axis}.sample=fixed, or another law of exact counts",
                )
            if rule is not None and rule.full:
                raise fail(
                    "attach-uneven",
                    f"block {rule.full[0]} runs all of its {axis} and others do not, and a scan runs equal ones",
                    help=f"leave {axis}.full out; `raptr train --backend jax` scans them in spans",
                )
