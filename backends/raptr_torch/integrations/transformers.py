"""A plan in the `Trainer` of transformers: `RaptrCallback(plan).add_to(trainer)`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from weakref import ref

from torch import nn
from torch.optim import Optimizer
from transformers.trainer_callback import (
    ExportableState,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from transformers.training_args import TrainingArguments

if TYPE_CHECKING:
    from transformers.trainer import Trainer

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan
from raptr_torch import attach
from raptr_torch.runner import Runner, logger


class RaptrCallback(TrainerCallback, ExportableState):
    """Attaches a plan when training begins, runs a step of it for each optimizer step, and detaches at the end.

    Stage, active blocks, heads and hidden units are logged with the trainer's own metrics, to whatever it logs to. A
    resume goes on where the checkpoint was. At the end, the units that ran are compared with those planned.

    Args:
        plan: of as many steps as the trainer takes, or more.
        options: further arguments of `raptr_torch.attach`: `stacks`, `layout`, `example`.

    Raises (in training):
        RaptrError: what `attach` refuses; `trainer-steps`: the plan is shorter than the training; `train-audit`: other
            units ran than were planned.
    """

    def __init__(self, plan: Plan, **options: Any) -> None:
        self.plan = plan
        self.runner: Runner | None = None
        self._options = options
        self._saved: Mapping[str, Any] | None = None
        self._open = ExitStack()
        self._trainer: ref[Trainer] | None = None

    def add_to(self, trainer: Trainer) -> None:
        """Adds this callback before all others, so that those which report to W&B, TensorBoard, … see its metrics."""
        trainer.callback_handler.callbacks.insert(0, self)
        self._trainer = ref(trainer)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.max_steps > self.plan.steps:
            raise fail(
                "trainer-steps",
                f"the trainer takes {state.max_steps} steps, and the plan has {self.plan.steps}",
                help=f"compile the schedule for steps={state.max_steps}, or set max_steps={self.plan.steps}",
            )
        model: nn.Module = kwargs["model"]
        self.runner = attach(model, self.plan, _plain(kwargs["optimizer"]), **self._options)
        saved = self._saved or _found(state, type(self).__name__)
        if saved:
            self.runner.load_state_dict(saved)
        self.runner.next_step = state.global_step
        trainer = self._trainer() if self._trainer else None
        self.runner.join((trainer and trainer.model_wrapped) or model)
        logger.info(self.runner.summary())

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        assert self.runner is not None
        self._open.enter_context(self.runner.step(state.global_step))

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._open.close()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        logs = kwargs.get("logs")
        if self.runner is None or logs is None or "loss" not in logs:
            return
        metrics = self.runner.metrics()
        logs.update(metrics)  # for callbacks that log after this one
        if state.log_history:
            state.log_history[-1].update(metrics)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.runner is None:
            return
        self._open.close()
        runner, self.runner = self.runner, None
        self._saved = None
        audit = runner.audit()
        runner.detach()
        logger.info("raptr: %s", audit)
        if not audit.holds:
            raise fail("train-audit", f"what ran is not what was planned: {audit}")

    def state(self) -> dict[str, Any]:
        """What a checkpoint of the trainer keeps of the runner."""
        kept = self.runner.state_dict() if self.runner else dict(self._saved or {})
        return {"args": {}, "attributes": {"runner": kept}}


def _plain(optimizer: Any) -> Optimizer:
    """The optimizer within Accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


def _found(state: TrainerState, name: str) -> Mapping[str, Any] | None:
    """What a checkpoint kept; None in a new run."""
    callbacks: Any = state.stateful_callbacks or {}
    kept = callbacks.get(name) if isinstance(callbacks, dict) else None
    return kept["attributes"]["runner"] if kept and "runner" in kept.get("attributes", {}) else None
