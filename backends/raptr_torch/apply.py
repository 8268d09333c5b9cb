"""Attaching a plan to a model: everything that can be refused is refused here, before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from raptr_dsl.backend import Backend, Capabilities
from raptr_dsl.backend.checks import require_same_shape
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan
from raptr_torch.attaching import sites_of
from raptr_torch.layouts import Layout
from raptr_torch.model import Transformer
from raptr_torch.runner import Runner
from raptr_torch.sites import Sites, TransformerSites

_OF_THE_LOOP = frozenset({"seq", "batch"})
"""Axes of the data, which the loop around the model cuts: `raptr train` does, a loop of somebody else may not."""


def attach(
    backend: Backend,
    model: nn.Module,
    plan: Plan,
    optimizer: Optimizer | None = None,
    *,
    stacks: Sequence[str] | None = None,
    layout: Layout | None = None,
    example: Any = None,
) -> Runner:
    """Makes a model obey a plan; trainers that build the optimizer later call `runner.bind(optimizer)`.

    Args:
        model: this package's transformer, a model of transformers, or any module with one or more stacks of residual
            blocks.
        stacks: paths of the stacks in the model, where they cannot be told: `["encoder.block", "decoder.block"]`.
        layout: where a block has its heads and hidden units, if its class is none of `raptr_torch.layouts.LAYOUTS`.
        example: a tiny batch (keyword arguments, or a tuple of positional ones) on which selecting heads and hidden
            units is proven; models of transformers that take `input_ids` need none.

    Raises:
        RaptrError: the plan is for another shape or says what this backend cannot do, the model cannot be attached or
            is already, or the optimizer would not keep `idle`. The model is left as it was.
    """
    own = isinstance(model, Transformer)
    require_supported(plan, backend, capabilities_of(backend.capabilities, own))
    sites = transformer_sites(model, plan) if own else sites_of(model, plan, stacks, layout, example)
    return attached(plan, sites, optimizer)


def capabilities_of(whole: Capabilities, is_own: bool) -> Capabilities:
    """Of all that the backend can do, what it can with a model in somebody else's loop.

    Args:
        is_own: whether the model is this package's transformer.
    """
    if is_own:
        return replace(whole, axes=whole.axes - _OF_THE_LOOP)
    return replace(whole, axes=whole.axes - _OF_THE_LOOP - {"positions", "experts"}, scales=whole.scales - {"learned"})


def require_supported(plan: Plan, backend: Backend, capabilities: Capabilities) -> None:
    """Refuses what is not among the capabilities.

    Raises:
        RaptrError: `backend-unsupported`, one for each word.
    """
    problems = unsupported(plan, backend, capabilities)
    if problems:
        raise RaptrError(problems)


def attached(plan: Plan, sites: Sites, optimizer: Optimizer | None) -> Runner:
    """The runner of a plan that the sites can run."""
    runner = Runner(plan, sites)
    if optimizer is None:
        return runner
    try:
        runner.bind(optimizer)
    except BaseException:
        runner.detach()
        raise
    return runner


def transformer_sites(model: Transformer, plan: Plan) -> Sites:
    """The sites of this package's transformer.

    Raises:
        RaptrError: `attach-shape`, `attach-twice`.
    """
    require_same_shape(plan, model.shape)
    if plan.learns_scales and not model.learned:
        raise fail(
            "attach-shape",
            "the plan trains a factor of each block (scale=learned), and this model has none",
            help="build the model with them: build(plan.shape, seed, learned=plan.learns_scales)",
        )
    if model.is_attached:
        raise fail("attach-twice", "the model is attached to a plan already", help="call runner.detach() first")
    return TransformerSites(model, {axis for stage in plan.stages for axis in stage.axes})
