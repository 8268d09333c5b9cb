"""The trainer of the reference: the small transformer and AdamW in float64, one whole batch at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raptr_dsl.backend import Backend, Batch, Executed, StepResult, TrainSettings
from raptr_dsl.backend.batches import mean_loss, require_batch
from raptr_dsl.backend.checks import (
    require_finite,
    require_head_everywhere,
    require_micro_batches,
    require_settings,
    require_turn,
    unreadable_checkpoint,
)
from raptr_dsl.backend.network import initial_values, parameters
from raptr_dsl.backend.state import Moments as SharedMoments
from raptr_dsl.backend.state import TrainerState, fitted, no_moments
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.plan import Plan
from raptr_reference.account import count
from raptr_reference.growth import grow
from raptr_reference.model import loss_and_gradients
from raptr_reference.optim import Moments, clip, leave, update

TENSORS = "trainer.npz"
COUNTS = "counts.json"


class ReferenceTrainer:
    """Implements `raptr_dsl.backend.Trainer`.

    Micro-batches do not change a mean, so the batch is taken whole. `executed` counts what the masks let through:
    here the rest is computed all the same, and multiplied by zero.

    Raises:
        RaptrError: the plan, the dtype or the micro-batches cannot be run.
    """

    def __init__(self, backend: Backend, plan: Plan, settings: TrainSettings) -> None:
        problems = unsupported(plan, backend)
        if problems:
            raise RaptrError(problems)
        require_settings(settings, backend.name, backend.capabilities)
        require_micro_batches(plan.shape, settings)
        require_head_everywhere(plan, backend.name)
        self.plan, self.settings = plan, settings
        self.table = parameters(plan.shape, plan.learns_scales)
        start = initial_values(plan.shape, settings.init_seed, plan.learns_scales)
        self._start = {name: value.astype(np.float64) for name, value in start.items()}
        self.values = {name: value.copy() for name, value in self._start.items()}
        self.moments = {name: Moments(np.zeros_like(v), np.zeros_like(v)) for name, v in self.values.items()}
        self._thinned = frozenset(name for stage in plan.stages for name in stage.axes)
        self._next_step, self._flops, self._grown = 0, 0, -1
        self._units: Counter[str] = Counter()

    def step(self, index: int, batch: Batch) -> StepResult:
        """Optimizer step `index`.

        Raises:
            RaptrError: the step is not the next one, the batch does not fit, or a loss or gradient is not finite.
        """
        require_batch(batch, self.plan.shape, self._thinned)
        require_turn(index, self._next_step, self.plan)
        step, growth = self.plan.step(index), self.plan.grows_at(index)
        if growth is not None and self._grown != index:
            grow(growth, self.values, self.moments, self._start, self.table)
            self._grown = index
        loss, gradients = loss_and_gradients(self.plan.shape, self.values, batch, step.axes)
        leave(gradients, self.table, step, self.plan)
        norm = clip(gradients, self.settings.clip)
        require_finite(index, loss, norm)
        update(self.values, gradients, self.moments, self.table, step, self.plan, self.settings)
        units, flops = count(self.plan.shape, batch, step, self._thinned)
        self._units += units
        self._flops += flops
        self._next_step += 1
        return StepResult(loss, norm)

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """The mean loss over all targets, of all blocks that are born, unscaled (rule 36)."""
        shape, masks = self.plan.shape, self.plan.evaluated(max(self._next_step - 1, 0))
        return mean_loss(batches, shape, lambda batch: loss_and_gradients(shape, self.values, batch, masks)[0])

    def executed(self) -> Executed:
        return Executed(units=dict(self._units), flops=self._flops)

    def save(self, folder: Path) -> None:
        """Writes weights, moments and counts into an existing, empty folder."""
        arrays = {f"value {name}": value for name, value in self.values.items()}
        for name, moments in self.moments.items():
            arrays |= {f"mean {name}": moments.mean, f"square {name}": moments.square}
        np.savez(folder / TENSORS, **arrays)  # pyright: ignore[reportArgumentType]
        counts = {
            "next_step": self._next_step,
            "flops": self._flops,
            "grown": self._grown,
            "units": self._units,
            "updates": {name: moments.count for name, moments in self.moments.items()},
        }
        (folder / COUNTS).write_text(json.dumps(counts), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, to the bit.

        Raises:
            RaptrError: `trainer-checkpoint`; nothing was changed.
        """
        try:
            with (folder / TENSORS).open("rb") as file, np.load(file) as arrays:
                saved = dict(arrays)
            counts = json.loads((folder / COUNTS).read_text(encoding="utf-8"))
            values = {name: _like(saved[f"value {name}"], value) for name, value in self.values.items()}
            moments = {
                name: Moments(
                    _like(saved[f"mean {name}"], value),
                    _like(saved[f"square {name}"], value),
                    counts["updates"][name],
                )
                for name, value in self.values.items()
            }
        except Exception as error:  # a damaged file can fail in any way
            raise unreadable_checkpoint(folder, error) from error
        self.values, self.moments = values, moments
        self._next_step, self._flops, self._grown = counts["next_step"], counts["flops"], counts["grown"]
        self._units = Counter(counts["units"])

    def export_state(self) -> TrainerState:
        """Copies of weights, moments and counts by the names of `backend.network`."""
        moments = {name: SharedMoments(of.mean, of.square, of.count) for name, of in self.moments.items()}
        held = TrainerState(self.values, moments, self._next_step, self.executed(), self._grown)
        return held.cast("float64")

    def import_state(self, state: TrainerState) -> None:
        """Takes up what a trainer of the same shape exported.

        Raises:
            RaptrError: what `backend.state.fitted` refuses; nothing was changed.
        """
        state = fitted(state, self.table, np.dtype("float64"))
        self.values = {name: value.astype(np.float64) for name, value in state.parameters.items()}
        self.moments = {
            name: Moments(of.mean.astype(np.float64), of.square.astype(np.float64), of.count)
            for name, of in (state.moments or no_moments(state.parameters)).items()
        }
        self._next_step, self._flops, self._grown = state.next_step, state.executed.flops, state.grown
        self._units = Counter(state.executed.units)


def _like(saved: np.ndarray, here: np.ndarray) -> np.ndarray:
    if (saved.shape, saved.dtype) != (here.shape, here.dtype):
        raise ValueError(f"a tensor is {saved.dtype}{saved.shape} there and {here.dtype}{here.shape} here")
    return saved
