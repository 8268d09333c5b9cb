"""A plan in a loop of Accelerate: one step of the plan for each step in which gradients are synchronised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from raptr_dsl.ir.plan import Plan
from raptr_torch import attach as attach_plain
from raptr_torch.runner import Runner


class AcceleratedRunner:
    """A runner for loops of micro-batches; `runner` is what `raptr_torch.attach` returns.

    It is registered for checkpoints: `accelerator.save_state` and `load_state` keep its place in the plan.
    """

    def __init__(self, accelerator: Accelerator, runner: Runner) -> None:
        self.runner = runner
        self._accelerator = accelerator
        self._open: ExitStack | None = None
        self._joined = False
        accelerator.register_for_checkpointing(runner)

    @contextmanager
    def micro_batch(self) -> Iterator[None]:
        """Forward and backward of one micro-batch, within `accelerator.accumulate(model)`.

        The first one opens the next step of the plan; the one in which gradients are synchronised closes it.
        """
        if self._open is None:
            if not self._joined:
                self._join()
            self._open = ExitStack()
            self._open.enter_context(self.runner.step(self.runner.next_step))
        try:
            yield
        except BaseException as error:
            step, self._open = self._open, None
            step.__exit__(type(error), error, error.__traceback__)
            raise
        if self._accelerator.sync_gradients:
            step, self._open = self._open, None
            step.close()

    def _join(self) -> None:
        """Trains together with the other processes, by what `prepare` has made of the model."""
        prepared = [m for m in self._accelerator._models if self._accelerator.unwrap_model(m) is self.runner.model]
        self.runner.join(prepared[0] if prepared else self.runner.model)
        self._joined = True


def attach(
    accelerator: Accelerator, model: nn.Module, plan: Plan, optimizer: Optimizer, **options: Any
) -> AcceleratedRunner:
    """Makes a model obey a plan, before or after `accelerator.prepare`.

    Args:
        options: further arguments of `raptr_torch.attach`: `stacks`, `layout`, `example`.

    Raises:
        RaptrError: what `raptr_torch.attach` refuses.
    """
    inner: Any = getattr(optimizer, "optimizer", optimizer)
    runner = attach_plain(accelerator.unwrap_model(model), plan, inner, **options)
    return AcceleratedRunner(accelerator, runner)
