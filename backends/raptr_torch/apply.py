"""Attaching a plan to a model: everything that can be refused is refused here, before anything is changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from raptr_dsl.backend import Backend
from raptr_dsl.backend.checks import require_same_shape
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan
from raptr_torch.attaching import sites_of
from raptr_torch.layouts import Layout
from raptr_torch.model import Transformer
from raptr_torch.runner import Runner
from raptr_torch.sites import Sites, TransformerSites


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
    problems = unsupported(plan, backend)
    if problems:
        raise RaptrError(problems)
    runner = Runner(plan, _sites(model, plan, stacks, layout, example))
    if optimizer is None:
        return runner
    try:
        runner.bind(optimizer)
    except BaseException:
        runner.detach()
        raise
    return runner


def _sites(model: nn.Module, plan: Plan, stacks: Sequence[str] | None, layout: Layout | None, example: Any) -> Sites:
    if not isinstance(model, Transformer):
        return sites_of(model, plan, stacks, layout, example)
    require_same_shape(plan, model.shape)
    if model.is_attached:
        raise fail("attach-twice", "the model is attached to a plan already", help="call runner.detach() first")
    return TransformerSites(model)
