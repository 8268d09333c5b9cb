"""The state machine between a plan and a training loop: which step is open, what it masks, and what has been counted.

A training forward, a step of the optimizer and a step of the plan can only happen in the right order; every other
order raises, because the silent alternative is training dense, or the wrong blocks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import finalize, ref

from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from raptr_dsl.backend import Executed
from raptr_dsl.backend.checks import require_turn
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan, Step
from raptr_torch.meter import Meter
from raptr_torch.optim import OptimizerBinding
from raptr_torch.sites import Sites


class Runner:
    """A plan attached to a model.

    Attributes:
        next_step: the step that has to come next; a resumed run sets it (or calls `load_state_dict`).
    """

    def __init__(self, plan: Plan, sites: Sites) -> None:
        self.plan = plan
        self.next_step = 0
        self._sites = sites
        self._bindings: list[OptimizerBinding] = []
        self._is_open = False
        self._units: Counter[str] = Counter()
        self._flops = 0
        self._attached = True
        self._watch = _watch_optimizers(self)
        sites.refuse()

    def bind(self, optimizer: Optimizer) -> None:
        """Makes the optimizer obey `idle`; several optimizers may each hold a part of the parameters.

        Its state is created here, so that a checkpoint written before a block was ever drawn is complete. Weights
        stay as they are, to the bit.

        Raises:
            RaptrError: it is bound already, or `idle` would not mean under it what the plan says.
        """
        self._require_attached()
        if any(binding.optimizer is optimizer for binding in self._bindings):
            raise fail("optimizer-bound-twice", "this optimizer is bound to the plan already")
        binding = OptimizerBinding(optimizer, self._sites.parts, self.plan)
        self._bindings.append(binding)
        binding.start()

    @contextmanager
    def step(self, index: int) -> Iterator[Step]:
        """All micro-batches of optimizer step `index` run inside; the mask is fixed until it exits.

        Raises:
            RaptrError: another step is due, one is still open, or no optimizer is bound.
        """
        self._require_turn(index)
        step = self.plan.step(index)
        with self._running(step) as meter:
            yield step
        self._commit(index, meter)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Trains everything on purpose, outside the plan: its steps are not counted."""
        self._require_attached()
        self._require_closed()
        with self._running(None):
            yield

    def executed(self) -> Executed:
        """What ran in the steps of the plan so far, counted where it ran."""
        return Executed(units=dict(self._units), flops=self._flops)

    def detach(self) -> Any:
        """Gives the model back as it was, and leaves the optimizers alone."""
        self._require_attached()
        self._require_closed()
        self._attached = False
        self._watch.remove()
        for binding in self._bindings:
            binding.release()
        self._sites.release()
        return self._sites.model

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the plan."""
        return {"next_step": self.next_step, "units": dict(self._units), "flops": self._flops}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self._require_closed()
        self.next_step, self._flops = state["next_step"], state["flops"]
        self._units = Counter(state["units"])

    @contextmanager
    def _running(self, step: Step | None) -> Iterator[Meter]:
        self._is_open = True
        for binding in self._bindings:
            binding.expect(step)
        try:
            yield self._sites.run(step)
        except BaseException:
            for binding in self._bindings:
                binding.expect_nothing()
            raise
        finally:
            self._is_open = False
            self._sites.refuse()

    def _commit(self, index: int, meter: Meter) -> None:
        """Adds what one step ran. Units are counted per optimizer step, so micro-batches count once together."""
        self.next_step = index + 1
        self._flops += meter.flops
        for axis, count in meter.units.items():
            self._units[axis] += count // meter.passes

    def _require_bound(self, optimizer: Optimizer) -> None:
        """Refuses the step of an optimizer that holds parameters of the model and is not bound."""
        if any(binding.optimizer is optimizer for binding in self._bindings):
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter in self._sites.parts:
                    raise fail(
                        "optimizer-unbound",
                        f"{type(optimizer).__qualname__} steps {self._sites.parts[parameter].name} of a model that "
                        "obeys a plan, and is not bound to the plan",
                        help="call runner.bind(optimizer) before training",
                    )

    def _require_turn(self, index: int) -> None:
        self._require_attached()
        self._require_closed()
        if not self._bindings:
            raise fail(
                "optimizer-unbound",
                "no optimizer is bound to the plan, so nothing would keep `idle`",
                help="attach(model, plan, optimizer), or runner.bind(optimizer) once it exists",
            )
        require_turn(index, self.next_step, self.plan)

    def _require_closed(self) -> None:
        if self._is_open:
            raise fail("step-open", "a step of the plan is still open", help="leave its `with` block first")

    def _require_attached(self) -> None:
        if not self._attached:
            raise fail("attach-detached", "this runner was detached from its model", help="attach the plan again")


def _watch_optimizers(runner: Runner) -> RemovableHandle:
    """Asks the runner before a step of any optimizer in this process, for as long as the runner lives."""
    alive = ref(runner)

    def before(optimizer: Optimizer, *_: object) -> None:
        watching = alive()
        if watching is not None:
            watching._require_bound(optimizer)

    handle = register_optimizer_step_pre_hook(before)
    finalize(runner, handle.remove)
    return handle
