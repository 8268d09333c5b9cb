"""Several processes that train one model: that they run the same step, and who averages their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from raptr_dsl.backend.claims import Claim, Claims
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.adopted import DDPReduction
from raptr_torch.agreement import Agreement, layout
from raptr_torch.meter import Meter
from raptr_torch.reduction import Active, BlockReduction, Reduction
from raptr_torch.sites import Sites
from raptr_torch.training import runs_untrained, trains


class Ranks(Protocol):
    """What a runner does around a step on account of other processes."""

    def together(self, step: Step | None, meter: Meter) -> AbstractContextManager[None]:
        """A step of all ranks (None: training in full); on leaving it gradients are averaged."""
        ...

    def average(self) -> None:
        """No backward pass follows in this step: averages the gradients before it is left."""
        ...

    def release(self) -> None:
        """Leaves the model alone."""
        ...


def size() -> int:
    """The processes of the default group; 1 where there is none."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class Alone:
    """One process; or several, of which nobody said how they train together."""

    @contextmanager
    def together(self, step: Step | None, meter: Meter) -> Iterator[None]:
        if size() > 1:
            raise fail(
                "ranks-undecided",
                f"{size()} processes train, and nothing was said of how their gradients are averaged",
                help="call runner.distribute() before the first step, or runner.adopt(wrapper) for a model in "
                "DistributedDataParallel",
            )
        yield

    def average(self) -> None:
        return

    def release(self) -> None:
        return


class Together:
    """Ranks that train one model by one plan, each step agreed on before it begins.

    Args:
        micro_batches: training forwards of one optimizer step; None where they are not known in advance.
        reduction: None where the model averages its gradients by itself (FSDP2).
    """

    def __init__(self, plan: Plan, agreement: Agreement, claims: Claims, reduction: Reduction | None = None) -> None:
        self._plan, self._agreement, self._claims, self._reduction = plan, agreement, claims, reduction
        self._agreed: Claim | None = None
        self._running: tuple[Step | None, Meter] | None = None

    @contextmanager
    def together(self, step: Step | None, meter: Meter) -> Iterator[None]:
        reduction = self._reduction
        try:
            self._begin(step)
            if reduction is not None:
                reduction.begin(_active(step))
            self._running = step, meter
            yield
            self.average()
        except BaseException as error:
            self._running = None
            if reduction is not None:
                reduction.abandon()
            reason = self._agreement.explain(error)
            if reason is error:
                raise
            raise reason from error

    def average(self) -> None:
        if self._running is None:
            return
        (step, meter), self._running = self._running, None
        self._end(step, meter.passes)
        if self._reduction is not None:
            self._reduction.finish()

    def release(self) -> None:
        if self._reduction is not None:
            self._reduction.release()

    def _begin(self, step: Step | None) -> None:
        """Goes on only if all ranks are about to run this step; asks about the next one, and does not wait."""
        claim = self._claims.of(step)
        self._settle()
        if self._agreed is None:
            self._agreement.gather()
        if self._agreed != claim:  # the first step, one after a resume, or training in full
            self._agreement.exchange(claim)
        self._agreed = None
        if step is not None and step.index + 1 < self._plan.steps:
            self._agreement.announce(self._claims.of(self._plan.step(step.index + 1)))

    def _end(self, step: Step | None, passes: int) -> None:
        """Before anybody waits for a reduction: whether all ranks go on, and ran as many micro-batches."""
        self._settle()
        declared = self._claims.micro_batches
        if step is None or passes == declared:
            return
        if declared is None:
            self._agreement.exchange(replace(self._claims.of(step), micro_batches=passes))
            return
        raise fail(
            "ranks-micro-batches",
            f"step {step.index} ran {passes} micro-batches, and {declared} were declared",
            help=f"declare the training forwards of a step: micro_batches={passes}, or None where they vary",
        )

    def _settle(self) -> None:
        self._agreed = self._agreement.settle() or self._agreed


def distribute(plan: Plan, sites: Sites, micro_batches: int | None, timeout: timedelta) -> Ranks:
    """All processes of the default group train the model, which nothing wraps or which FSDP2 has sharded."""
    if size() == 1:
        return Alone()
    is_sharded = any(isinstance(parameter, DTensor) for parameter in sites.parts)
    if is_sharded:
        _require_whole_rows(plan)
        _require_trained(plan)
    agreement, claims = _meet(plan, sites, micro_batches, timeout)
    if is_sharded:
        return Together(plan, agreement, claims)
    return Together(plan, agreement, claims, BlockReduction(sites.model, sites.parts, micro_batches))


def adopt(
    plan: Plan, sites: Sites, wrapper: DistributedDataParallel, micro_batches: int | None, timeout: timedelta
) -> Ranks:
    """All processes train the model in a wrapper that somebody else made."""
    reduction = DDPReduction(wrapper, sites.model, sites.parts)
    agreement, claims = _meet(plan, sites, micro_batches, timeout)
    return Together(plan, agreement, claims, reduction)


def _meet(plan: Plan, sites: Sites, micro_batches: int | None, timeout: timedelta) -> tuple[Agreement, Claims]:
    """Goes on only if every rank is there, with this plan and a model of these tensors."""
    agreement, claims = Agreement(timeout), Claims(plan, layout(sites.model), micro_batches)
    agreement.gather()
    agreement.exchange(claims.of(None))
    return agreement, claims


def _require_whole_rows(plan: Plan) -> None:
    """Refuses to leave out rows of matrices that are cut into shards along their rows."""
    axes = {axis for stage in plan.stages for axis, rule in stage.axes.items() if rule.idle == "skip"}
    for axis in sorted(axes - {"depth"}):
        raise fail(
            "ranks-sharded-rows",
            f"the model is sharded by FSDP2, and idle=skip on {axis} would leave out rows of its shards",
            help=f"write {axis}.idle=zero, or train without FSDP2 by runner.distribute()",
        )


def _require_trained(plan: Plan) -> None:
    """Refuses to run what does not train: FSDP2 decides once which of its weights have gradients."""
    if any(map(runs_untrained, plan.stages)):
        raise fail(
            "ranks-sharded-train",
            "the model is sharded by FSDP2, which would compute and send the gradients of what the plan does not train",
            help="leave depth.train and freeze out of the schedule, or train without FSDP2 by runner.distribute()",
        )


def _active(step: Step | None) -> Active | None:
    """Whether a parameter runs and trains; None for all of them, however often."""
    if step is None:
        return None
    depth = step.axes.get("depth")
    on = None if depth is None else depth.on.ravel()
    return lambda part: trains(part, step) and (on is None or part.block is None or bool(on[part.block]))
