"""Compiling the blocks of an attached model: one graph serves all blocks and all masks of one size.

The graphs that a run can need are known from its plan, so that torch's limit is set to their number, and reaching it is
an error: torch's default is to fall back to eager after eight graphs of all blocks together, with a line in the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch._dynamo
from torch import Tensor, nn

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_dsl.occupancy import alike_blocks
from raptr_torch.stacks import unwrapped

_SETTINGS = ("recompile_limit", "accumulated_recompile_limit", "fail_on_recompile_limit_hit")
_SCANNED = 64
"""Steps of a stage that are looked through for sizes that its rule does not list."""


class CompiledBlocks:
    """The compiled blocks of one model.

    Attributes:
        graphs: how many were built so far. expected: how many the plan can need:
            kinds of blocks · (sizes of heads and width in the plan · `tracked` + 1 for evaluation).
    """

    def __init__(
        self, blocks: Sequence[nn.Module], plan: Plan, backend: str | Callable[..., Any], options: Any
    ) -> None:
        self.graphs = 0
        self.expected = kinds(blocks) * (sizes(plan) * tracked(plan) + 1)
        self._blocks = blocks
        config = torch._dynamo.config
        self._before = {word: getattr(config, word) for word in _SETTINGS}
        config.recompile_limit = max(config.recompile_limit, self.expected)
        config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, self.expected)
        config.fail_on_recompile_limit_hit = True
        build: Any = torch._dynamo.lookup_backend(backend) if isinstance(backend, str) else backend

        def counted(graph: Any, inputs: Any, **given: Any) -> Any:
            self.graphs += 1
            return build(graph, inputs, **given)

        for block in blocks:
            block.compile(backend=counted, dynamic=False, **options)

    def release(self) -> None:
        """Blocks run eagerly again, and torch's settings are what they were."""
        for block in self._blocks:
            block.__dict__.pop("_compiled_call_impl", None)
        for word, value in self._before.items():
            setattr(torch._dynamo.config, word, value)


def require_uncompiled(compiled: CompiledBlocks | None, blocks: Sequence[nn.Module]) -> None:
    """Refuses blocks that are compiled already, or that cannot be.

    Raises:
        RaptrError: `compile-blocks`.
    """
    if compiled is not None or not blocks:
        raise fail(
            "compile-blocks",
            "the blocks are compiled already"
            if compiled
            else "the small transformer of raptr_torch counts within its blocks, and is not compiled",
        )


def kinds(blocks: Sequence[nn.Module]) -> int:
    """Blocks that differ in class or in the parameters they hold do not share a graph."""
    described = {
        (type(unwrapped(block)), tuple((name, p.shape) for name, p in block.named_parameters())) for block in blocks
    }
    return len(described)


def tracked(plan: Plan) -> int:
    """In how many ways blocks can differ in what autograd tracks: their weights or not, their input or not."""
    weights = any(rule.train is not None for stage in plan.stages if (rule := stage.axes.get("depth")))
    return (1 + weights) * (1 + any("embed" in stage.freeze for stage in plan.stages))


def sizes(plan: Plan) -> int:
    """Combinations of active heads and hidden units that a block of the plan can need; depth costs no graph."""
    of_blocks = tuple(
        stage.model_copy(
            update={
                "axes": {
                    axis: rule.model_copy(update={"full": ()})
                    for axis, rule in stage.axes.items()
                    if axis != "depth" and axis not in alike.full
                }
            }
        )
        for stage in plan.stages
        for alike in alike_blocks(stage, plan.shape.layers)
    )
    return plan.model_copy(update={"stages": of_blocks}).shapes


def representatives(plan: Plan) -> Iterator[Step]:
    """A step of each size that the plan names, and of each way to train a part, with all blocks on."""
    seen: set[tuple[Any, ...]] = set()
    for stage in plan.stages:
        offsets = {0} | {border.offset for rule in stage.axes.values() for border in rule.sizes}
        if any(rule.choices or not rule.law.exact for rule in stage.axes.values()):
            offsets |= set(range(min(_SCANNED, stage.steps)))
        for offset in sorted(offsets):
            step = plan.step(stage.start + offset)
            axes = {axis: mask for axis, mask in step.axes.items() if axis != "depth"}
            sized = tuple((axis, tuple(mask.on.sum(axis=1).tolist()), mask.full) for axis, mask in sorted(axes.items()))
            if stage.axes.get("depth") is not None and stage.axes["depth"].train is not None:
                everything = np.ones_like(step.axes["depth"].on)
                axes["depth"] = replace(step.axes["depth"], on=everything, scale=everything * 1.0, full=True)
            key = sized, "depth" in axes, step.frozen
            if key not in seen:
                seen.add(key)
                yield Step(step.index, step.stage, axes, step.frozen)


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Gradients, buffers, modes and random states are afterwards what they were."""
    gradients = {parameter: parameter.grad for parameter in model.parameters()}
    buffers = {buffer: buffer.detach().clone() for buffer in model.buffers()}
    modes = {module: module.training for module in model.modules()}
    for parameter in gradients:
        parameter.grad = None
    devices = range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, value in buffers.items():
                buffer.copy_(value)
        for module, training in modes.items():
            module.training = training


def warm_up(model: nn.Module, run: Callable[[], Tensor], open_step: Callable[[Step | None], Any], plan: Plan) -> None:
    """Runs every size of the plan once forward and backward, and once in evaluation."""
    with unchanged(model):
        model.train()
        for step in representatives(plan):
            open_step(step)
            run().backward()
        open_step(None)
        model.eval()
        with torch.no_grad():
            run()
