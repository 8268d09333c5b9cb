"""The trainer behind `raptr train --backend torch`: the small transformer, AdamW, and a runner between them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW

from raptr_dsl.backend import Backend, Batch, Executed, StepResult, TrainSettings
from raptr_dsl.backend.batches import mean_loss, micro_batches, require_batch, share_of, shortened
from raptr_dsl.backend.checks import require_finite, require_head_everywhere, require_micro_batches, require_settings
from raptr_dsl.backend.claims import agree_on_evaluation
from raptr_dsl.backend.network import parameters
from raptr_dsl.backend.processes import processes_of
from raptr_dsl.backend.state import TrainerState
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.plan import Plan
from raptr_torch import checkpoint
from raptr_torch.apply import attached, require_supported, transformer_sites
from raptr_torch.exchange import exported, imported
from raptr_torch.model import Transformer, build
from raptr_torch.processes import device, mean


class TorchTrainer:
    """Implements `raptr_dsl.backend.Trainer`.

    bfloat16 is mixed precision: weights, optimizer state and the residual stream stay in float32.

    Raises:
        RaptrError: the plan, the dtype or the micro-batches cannot be run.
    """

    def __init__(self, backend: Backend, plan: Plan, settings: TrainSettings) -> None:
        require_settings(settings, backend.name, backend.capabilities)
        require_supported(plan, backend, backend.capabilities)
        require_head_everywhere(plan, backend.name)
        self._processes = processes_of(backend)
        self.rank, self.ranks = self._processes.rank, self._processes.size
        require_micro_batches(plan.shape, settings, self.ranks)
        sizes = batch_sizes(plan)
        _require_divided(sizes, self.ranks)
        self.plan, self.settings = plan, settings
        self._thinned = frozenset(name for stage in plan.stages for name in stage.axes)
        self.device = device()
        dtype = torch.float64 if settings.dtype == "float64" else torch.float32
        self.model = build(plan.shape, settings.init_seed, dtype, learned=plan.learns_scales).to(self.device)
        self._table = parameters(plan.shape, plan.learns_scales)
        self.optimizer = adamw(self.model, settings)
        self.runner = attached(plan, transformer_sites(self.model, plan), self.optimizer)
        # a batch may shrink to fewer sequences than there are micro-batches
        self.runner.distribute(micro_batches=None if sizes else settings.micro_batches)

    def step(self, index: int, batch: Batch) -> StepResult:
        """Optimizer step `index`; loss and gradients are means over all targets of the step.

        Raises:
            RaptrError: the step is not the next one, the batch does not fit, or a loss or gradient is not finite.
        """
        require_batch(batch, self.plan.shape, self._thinned)
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate(index, self.plan.steps)
        self.model.train()
        try:
            with self.runner.step(index) as step:
                own_loss = self._accumulate(share_of(shortened(batch, step.axes), self.rank, self.ranks))
                self.runner.average()
                loss, norm = mean(own_loss, self.device), self._clip()
                require_finite(index, loss, norm)
            self.optimizer.step()
        finally:
            self.optimizer.zero_grad()
        return StepResult(loss, norm)

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch]) -> float:
        """The mean loss over all targets, of all blocks that are born, unscaled (rule 36).

        Raises:
            RaptrError: `trainer-batch`; `ranks-disagree`: another rank evaluates on other batches.
        """
        agree_on_evaluation(self._processes, batches, self.runner.next_step)
        self.model.eval()
        return mean(mean_loss(batches, self.plan.shape, self._own_loss), self.device)

    def executed(self) -> Executed:
        """What ran on all ranks, which take equal shares of every batch."""
        executed = self.runner.executed()
        units = {axis: count * (self.ranks if axis == "batch" else 1) for axis, count in executed.units.items()}
        return Executed(units=units, flops=executed.flops * self.ranks)

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state, counts and random states into an existing, empty folder."""
        checkpoint.save(folder, self.model, self.optimizer, self.runner)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, to the bit."""
        checkpoint.load(folder, self.model, self.optimizer, self.runner)

    def export_state(self) -> TrainerState:
        """Copies of weights, moments and counts by the names of `backend.network`."""
        return exported(self.model, self.optimizer, self._table, self.runner.state_dict(), self.executed())

    def import_state(self, state: TrainerState) -> None:
        """Takes up what a trainer of the same shape exported.

        Raises:
            RaptrError: what `backend.state.fitted` refuses; nothing was changed.
        """
        dtype = np.dtype("float64" if self.settings.dtype == "float64" else "float32")
        counts = imported(state, self.model, self.optimizer, self._table, dtype)
        counts["flops"] //= self.ranks  # each rank counts its share: see `executed`
        for axis in counts["units"].keys() & {"batch"}:
            counts["units"][axis] //= self.ranks
        self.runner.load_state_dict(counts)

    def _accumulate(self, batch: Batch) -> float:
        """The gradients of the step's mean loss, and that loss."""
        loss = torch.zeros((), dtype=torch.float64, device=self.device)
        for part, share in micro_batches(batch, self.settings.micro_batches):
            part_loss = self._loss(part)
            if share != 1:
                part_loss = part_loss * float(share)
            part_loss.backward()
            loss += part_loss.detach()
        return float(loss)

    def _own_loss(self, batch: Batch) -> float:
        """This rank's part of the mean loss of a batch, times the number of ranks."""
        own = share_of(batch, self.rank, self.ranks)
        if not own.targets.size:
            return 0.0
        return float(self._loss(own)) * (own.targets.size * self.ranks / batch.targets.size)

    def _clip(self) -> float:
        """Clips the gradient over the whole tree; its norm before that."""
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = get_total_norm(gradients)
        length = float(norm)
        if length + 1e-6 > self.settings.clip:  # below, the gradients would be read and written to be multiplied by 1
            clip_grads_with_norm_(self.model.parameters(), self.settings.clip, norm)
        return length

    def _loss(self, batch: Batch) -> Tensor:
        inputs, targets = self._tensor(batch.inputs), self._tensor(batch.targets)
        positions = None if batch.positions is None else self._tensor(batch.positions)
        with self._precision():
            logits = self.model(inputs, positions)
        if logits.dtype == torch.bfloat16:
            logits = logits.float()
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())

    def _tensor(self, tokens) -> Tensor:
        return torch.from_numpy(tokens).to(self.device)

    def _precision(self) -> AbstractContextManager:
        if self.settings.dtype == "bfloat16":
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()


def batch_sizes(plan: Plan) -> set[int]:
    """The sequences of a step, where the plan thins them in some stage; else none."""
    rules = [stage.axes["batch"] for stage in plan.stages if "batch" in stage.axes]
    return {size for rule in rules for size in (*(int(border.value) for border in rule.sizes), *rule.choices)}


def _require_divided(sizes: set[int], ranks: int) -> None:
    """Refuses steps whose sequences the ranks cannot share out evenly: their gradients are averaged as they are."""
    uneven = sorted(size for size in sizes if size % ranks)
    if uneven:
        raise fail(
            "ranks-batch",
            f"{ranks} ranks do not divide a batch of {uneven[0]} sequences, which the plan asks for",
            help=f"give the batch sizes that are multiples of {ranks} in the schedule, or start fewer ranks",
        )


def adamw(model: Transformer, settings: TrainSettings) -> AdamW:
    """AdamW as `TrainSettings` words it: decay on the matrices only."""
    tensors = dict(model.named_parameters())
    table = parameters(model.shape, model.learned)
    groups = [
        {
            "params": [tensors[entry.name] for entry in table if entry.decay],
            "weight_decay": settings.weight_decay,
        },
        {"params": [tensors[entry.name] for entry in table if not entry.decay], "weight_decay": 0.0},
    ]
    return AdamW(groups, lr=settings.lr, betas=(settings.beta1, settings.beta2), eps=settings.eps, fused=True)
