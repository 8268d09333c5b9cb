"""The state machine between a plan and a training loop: which step is open, what it masks, and what has been counted.

A training forward, a step of the optimizer and a step of the plan can only happen in the right order; every other
order raises, because the silent alternative is training dense, or the wrong blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from raptr_dsl.backend import Executed
from raptr_dsl.backend.checks import require_turn
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch import ranks
from raptr_torch.account import StepAccount, logger
from raptr_torch.agreement import TIMEOUT
from raptr_torch.audit import Audit, summary
from raptr_torch.bindings import Bindings
from raptr_torch.compiling import CompiledBlocks, require_uncompiled, warm_up
from raptr_torch.growth import grow
from raptr_torch.meter import Meter
from raptr_torch.sites import Sites
from raptr_torch.structure import Structure
from raptr_torch.training import Constants, is_partial
from raptr_torch.watch import leave, watch


class Runner:
    """A plan attached to a model.

    Attributes:
        next_step: the step that has to come next; a resumed run sets it (or calls `load_state_dict`).
    """

    def __init__(self, plan: Plan, sites: Sites) -> None:
        self.plan = plan
        self._sites = sites
        self._constants = Constants()
        self._grown = -1
        self.next_step = 0
        self._bindings = Bindings(plan, sites)
        self._structure = Structure(sites.model, sites.stacked)
        self._account = StepAccount(plan, sites)
        self._is_open = False
        self._compiled: CompiledBlocks | None = None
        self._attached = True
        self._ranks: ranks.Ranks = ranks.Alone()
        watch(self._bindings, self._structure)
        sites.refuse()

    @property
    def next_step(self) -> int:
        return self._next_step

    @next_step.setter
    def next_step(self, step: int) -> None:
        self._next_step = step
        last = step if self._grown == step else max(step - 1, 0)
        self._sites.evaluate(self.plan.evaluated(min(last, self.plan.steps - 1)))

    def bind(self, optimizer: Optimizer) -> None:
        """Makes the optimizer obey `idle`; several optimizers may each hold a part of the parameters.

        Its state is created here, so that a checkpoint written before a block was ever drawn is complete. Weights
        stay as they are, to the bit.

        Raises:
            RaptrError: it is bound already, `idle` would not mean under it what the plan says, or the blocks are not
                those that the plan was attached to.
        """
        self._require_attached()
        self._structure.require_unchanged(whole=True)
        self._bindings.add(optimizer)

    def distribute(self, *, micro_batches: int | None = 1, timeout: timedelta = TIMEOUT) -> None:
        """Trains together with all processes of torch.distributed's default group; alone if there are none.

        Parameters and buffers become those of rank 0. Leaving a step averages the gradients, block by block, of the
        blocks that ran. A model that FSDP2 has sharded averages its gradients itself, and keeps its parameters. Before
        a step begins, all ranks have agreed on plan, step, mask and micro-batches.

        Args:
            micro_batches: training forwards of an optimizer step; None where they vary, at the price of reductions
                that begin when the step is left.
            timeout: how long ranks wait for each other between steps.

        Raises:
            RaptrError: `ranks-disagree`, `ranks-lost`.
        """
        self._join(lambda: ranks.distribute(self.plan, self._sites, micro_batches, timeout))

    def adopt(
        self, wrapper: DistributedDataParallel, *, micro_batches: int | None = None, timeout: timedelta = TIMEOUT
    ) -> None:
        """Trains together with other processes through a DistributedDataParallel that wraps the model already.

        Its communication is cut down to the blocks that ran; `no_sync` is for the caller, as ever.

        Raises:
            RaptrError: `ranks-adopt`: the wrapper needs find_unused_parameters=True, and may have no static graph,
                communication hook or reentrant checkpointing. `ranks-disagree`, `ranks-lost`.
        """
        self._join(lambda: ranks.adopt(self.plan, self._sites, wrapper, micro_batches, timeout))

    def join(self, prepared: nn.Module) -> None:
        """`adopt` for a model that a trainer has put into DistributedDataParallel, else `distribute`."""
        if isinstance(prepared, DistributedDataParallel):
            self.adopt(prepared)
        else:
            self.distribute(micro_batches=None)

    @property
    def model(self) -> nn.Module:
        """The model that obeys the plan."""
        return self._sites.model

    def _join(self, make: Callable[[], ranks.Ranks]) -> None:
        self._require_attached()
        self._require_closed()
        if not isinstance(self._ranks, ranks.Alone):
            raise fail("ranks-twice", "this runner trains together with other processes already")
        self._ranks = make()

    @contextmanager
    def step(self, index: int) -> Iterator[Step]:
        """All micro-batches of optimizer step `index` run inside; the mask is fixed until it exits.

        Raises:
            RaptrError: another step is due, one is still open, no optimizer is bound, or blocks were changed.
        """
        self._require_turn(index)
        step = self.plan.step(index)
        with self._running(step) as meter, self._ranks.together(step, meter):
            self._grow(index)
            yield step
        self._commit(step, meter)

    def average(self) -> None:
        """Within a step, after its last backward pass: averages the gradients over ranks now, not when it is left.

        For loops that look at gradients before the step counts as done.
        """
        self._ranks.average()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Trains everything on purpose, outside the plan: its steps are not counted."""
        self._require_attached()
        self._require_closed()
        self._structure.require_unchanged()
        with self._running(None) as meter, self._ranks.together(None, meter):
            yield

    def executed(self) -> Executed:
        """What ran in the steps of the plan so far, counted where it ran."""
        return self._account.executed()

    def audit(self) -> Audit:
        """Unit forwards and FLOPs that were planned for the steps so far, beside those that ran in this process."""
        return self._account.audit()

    def metrics(self) -> dict[str, float]:
        """What ran in the last step, for a trainer's logger: stage, active blocks, and heads and hidden units a block.

        And its FLOPs in this process, where they are counted. Counted where it ran; empty before the first step.
        """
        return self._account.metrics()

    def summary(self) -> str:
        """What is attached to what, in a few lines, for the start of a log."""
        return summary(self.plan, self.next_step, self._sites.describe(), list(self._bindings.optimizers))

    def compile(self, backend: str | Callable[..., Any] = "inductor", **options: Any) -> None:
        """Compiles the blocks, each for itself: one graph for all blocks and masks of one size of heads and width.

        torch's limit of graphs is set to what the plan can need (`graphs`), for the whole process until `detach`;
        beyond it torch raises instead of falling back to eager.

        Args:
            backend, options: as of `torch.compile`.

        Raises:
            RaptrError: `compile-blocks`: the blocks are compiled already, or are not somebody else's.
        """
        self._require_attached()
        self._require_closed()
        require_uncompiled(self._compiled, self._sites.blocks)
        self._compiled = CompiledBlocks(self._sites.blocks, self.plan, backend, options)

    @property
    def graphs(self) -> tuple[int, int]:
        """Graphs built so far, and those that the plan can need: kinds of blocks · (sizes + 1 for evaluation)."""
        return (self._compiled.graphs, self._compiled.expected) if self._compiled else (0, 0)

    def warm_up(self, run: Callable[[], Tensor]) -> None:
        """Runs every size of the plan once, so that no later step waits for a compiler.

        Gradients, buffers and random states stay as they are, and nothing is counted.

        Args:
            run: a forward pass of a batch of the shape that training uses; returns the loss.
        """
        self._require_attached()
        self._require_closed()
        try:
            warm_up(self._sites.model, run, self._open, self.plan)
        finally:
            self._constants.release()
            self._sites.refuse()

    def detach(self) -> Any:
        """Gives the model back as it was, and leaves the optimizers alone."""
        self._require_attached()
        self._require_closed()
        self._attached = False
        leave(self._bindings)
        self._bindings.release()
        self._ranks.release()
        if self._compiled is not None:
            self._compiled.release()
        self._sites.release()
        return self._sites.model

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the plan.

        Its keys are the same before the first step: torch.distributed.checkpoint loads those that it meets, no others.
        """
        return {"next_step": self.next_step, **self._account.state(), "grown": self._grown}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._require_closed()
        self._grown = state.get("grown", -1)
        self._account.load(state)
        self.next_step = state["next_step"]

    @contextmanager
    def _running(self, step: Step | None) -> Iterator[Meter]:
        self._is_open = True
        self._bindings.expect(step)
        try:
            yield self._open(step)
        except BaseException:
            self._bindings.expect_nothing()
            raise
        finally:
            self._is_open = False
            self._constants.release()
            self._sites.refuse()

    def _open(self, step: Step | None) -> Meter:
        """From now on forwards run what a step says, and autograd sees what it trains."""
        self._constants.release()
        if step is not None and is_partial(step):
            self._constants.hold(self._sites.parts, step)
        return self._sites.run(step)

    def _grow(self, index: int) -> None:
        """Copies what a stage copies before its first step: once, also where that step fails and is taken again."""
        growth = self.plan.grows_at(index)
        if growth is None or self._grown == index:
            return
        grow(growth, self._sites.stacked, self._sites.outputs, self._bindings.optimizers)
        self._grown = index
        self._sites.evaluate(self.plan.evaluated(index))

    def _commit(self, step: Step, meter: Meter) -> None:
        """Adds what one step ran."""
        if self._account.is_empty and logger.isEnabledFor(logging.INFO):
            logger.info(self.summary())
        self._account.add(step, meter)
        self.next_step = step.index + 1

    def _require_turn(self, index: int) -> None:
        self._require_attached()
        self._require_closed()
        self._bindings.require_any()
        require_turn(index, self.next_step, self.plan)
        self._structure.require_unchanged(whole=not self._bindings.is_complete)
        self._bindings.require_complete()

    def _require_closed(self) -> None:
        if self._is_open:
            raise fail("step-open", "a step of the plan is still open", help="leave its `with` block first")

    def _require_attached(self) -> None:
        if not self._attached:
            raise fail("attach-detached", "this runner was detached from its model", help="attach the plan again")
