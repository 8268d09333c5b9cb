"""Attaching a plan to a model: everything that can be refused is refused here, before anything is changed."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from raptr_dsl.backend import Backend
from raptr_dsl.backend.checks import require_same_shape
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan
from raptr_torch.model import Transformer
from raptr_torch.runner import Runner
from raptr_torch.shapes import foreign
from raptr_torch.sites import TransformerSites


def attach(backend: Backend, model: nn.Module, plan: Plan, optimizer: Optimizer | None = None) -> Runner:
    """Makes a model obey a plan; trainers that build the optimizer later call `runner.bind(optimizer)`.

    Raises:
        RaptrError: the plan is for another shape or says what this backend cannot do, the model is attached already,
            or the optimizer would not keep `idle`. The model is left as it was.
    """
    problems = unsupported(plan, backend)
    if problems:
        raise RaptrError(problems)
    if not isinstance(model, Transformer):
        raise foreign(model)
    require_same_shape(plan, model.shape)
    if model.is_attached:
        raise fail("attach-twice", "the model is attached to a plan already", help="call runner.detach() first")
    runner = Runner(plan, TransformerSites(model))
    if optimizer is None:
        return runner
    try:
        runner.bind(optimizer)
    except BaseException:
        runner.detach()
        raise
    return runner
