"""The trainer behind `raptr train --backend jax`: the small transformer, AdamW, and one program a size of step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Backend, Batch, Executed, StepResult, TrainSettings
from raptr_dsl.backend.batches import mean_loss, require_batch, shortened
from raptr_dsl.backend.checks import (
    require_finite,
    require_head_everywhere,
    require_micro_batches,
    require_settings,
    require_turn,
)
from raptr_dsl.backend.claims import Claims, agree_on_evaluation
from raptr_dsl.backend.network import initial_values, parameters
from raptr_dsl.backend.processes import processes_of
from raptr_dsl.backend.state import TrainerState, fitted
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.plan import Plan, Step
from raptr_jax import checkpoint
from raptr_jax.apply import PER_BLOCK, Masks, masks_of, padded_flops
from raptr_jax.exchange import exported, imported
from raptr_jax.growth import copied, growing
from raptr_jax.model import build, nest
from raptr_jax.names import by_path, parts
from raptr_jax.optim import Optimizer
from raptr_jax.places import Places, is_scattered
from raptr_jax.processes import agree_on, announce, layout, naming_the_lost, withdraw
from raptr_jax.programs import Programs
from raptr_jax.scan import Tree
from raptr_jax.stepping import Tokens, evaluation, micro_batches_of, tokens_of, training_step

LOOK_AHEAD = 16
"""Steps ahead for which programs are compiled beside training, besides the first of the next stage."""


class JaxTrainer:
    """Implements `raptr_dsl.backend.Trainer`.

    bfloat16 is mixed precision: weights, optimizer state and the residual stream stay in float32. float64 holds within
    the trainer's own programs, whatever `jax_enable_x64` says elsewhere.

    Args:
        mesh: the devices that share each batch, and under `shard_parameters` the parameters and their moments too; all
            devices of all processes unless given.

    Raises:
        RaptrError: the plan, the dtype or the micro-batches cannot be run, or the mesh does not divide the batch.
    """

    def __init__(self, backend: Backend, plan: Plan, settings: TrainSettings, mesh: Mesh | None = None) -> None:
        problems = unsupported(plan, backend)
        if problems:
            raise RaptrError(problems)
        require_settings(settings, backend.name, backend.capabilities)
        require_head_everywhere(plan, backend.name)
        self._processes = processes_of(backend)
        self._places = Places(mesh, settings.shard_parameters)
        self._places.require_divides(plan.shape.batch)
        require_micro_batches(plan.shape, settings, self._places.devices)
        self.plan, self.settings = plan, settings
        self.optimizer = adamw(plan, settings)
        self._dtype = np.dtype("float64" if settings.dtype == "float64" else "float32")
        with self._precision():
            graph, state = nnx.split(build(plan.shape, settings.init_seed, jnp.dtype(settings.dtype)))
            initial = parts(nnx.to_pure_dict(state))
            if plan.learns_scales:
                initial = initial._replace(factor=np.ones(plan.shape.layers, self._dtype))
            self.parameters = self._places.trained(initial)
            self.state = self._places.trained(self.optimizer.init(jax.device_put(initial)))
        step = training_step(graph, plan.shape, self.optimizer, settings, self._places)
        carried = (self.parameters, self.state)
        results = self._places.results(carried)
        self.programs = Programs(step, carried, self._context, donated=2, results=results)
        self.growths = Programs(
            growing(self.optimizer), carried, self._context, donated=2, results=results and results[:2]
        )
        self.evaluations = Programs(evaluation(graph), (self.parameters,), self._context)
        self._claims = Claims(plan, layout(carried), settings.micro_batches)
        self._thinned = frozenset(name for stage in plan.stages for name in stage.axes)
        counted = (name for name, axis in AXES.items() if axis.is_counted(plan.shape))
        self._counted = self._thinned.union(counted)
        self._next_step, self._flops, self._prepared, self._grown = 0, 0, 0, -1
        self._padded = 0
        self._units: Counter[str] = Counter()
        self._growing: set[int] = set()
        self._placed: dict[tuple[tuple[int, ...], ...], Tokens] = {}

    def step(self, index: int, batch: Batch) -> StepResult:
        """Optimizer step `index`; loss and gradients are means over all targets of the step.

        Raises:
            RaptrError: the step is not the next one, the batch does not fit, or a loss or gradient is not finite.
        """
        require_batch(batch, self.plan.shape, self._thinned)
        require_turn(index, self._next_step, self.plan)
        agree_on(self._processes, self._claims, index)
        planned = self.plan.step(index)
        sequences = tokens_of(shortened(batch, planned.axes))
        with self._precision(), naming_the_lost():
            self._grow(index)
            tokens, masks = self._places.batch(sequences), self._masks(planned)
            lr = self._places.everywhere(self._dtype.type(self.optimizer.lr(index)))
            program = self.programs.get(tokens, masks, lr)
            self.parameters, self.state, seen = program.run(self.parameters, self.state, tokens, masks, lr)
            announce(self._processes, self._claims, index + 1)
            self._prepare(index + 1, batch)  # while the step runs
            loss, norm = float(seen["loss"]), float(seen["norm"])
        require_finite(index, loss, norm)
        self._count(planned, sequences[0].shape, np.asarray(seen["ran"]).tolist())
        stage, shape, rows = self.plan.stages[planned.stage], self.plan.shape, sequences[0].shape[0]
        padded = padded_flops(planned, stage, shape, rows, micro_batches_of(rows, shape, self.settings))
        self._flops += program.work.flops([int(times) for times in seen["taken"]]) - padded
        self._padded += padded
        self._next_step += 1
        return StepResult(loss, norm)

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """The mean loss over all targets, of all blocks that are born, unscaled (rule 36).

        Raises:
            RaptrError: `trainer-batch`; `ranks-disagree`: another process evaluates on other batches.
        """
        agree_on_evaluation(self._processes, batches, self._next_step)
        born = self.plan.evaluated(max(self._next_step - 1, 0)).get("depth")
        masks = Masks() if born is None else Masks(born.active().astype(np.int32))
        return mean_loss(batches, self.plan.shape, lambda batch: self._loss(batch, masks))

    def executed(self) -> Executed:
        return Executed(units=dict(self._units), flops=self._flops, padded_flops=self._padded)

    def save_part(self, folder: Path) -> None:
        """Writes what lies in parts on several processes, each its own; called in all of them before `save`."""
        if is_scattered((self.parameters, self.state)):
            with self._precision():
                checkpoint.save_scattered(folder, (self.parameters, self.state))

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state, counts and random states into an existing, empty folder."""
        counts: dict[str, Any] = {"next_step": self._next_step, "flops": self._flops, "padded_flops": self._padded}
        counts |= {"units": dict(self._units), "grown": self._grown}
        checkpoint.save(folder, (self.parameters, self.state), counts)

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, to the bit.

        Raises:
            RaptrError: `trainer-checkpoint`; nothing was changed.
        """
        with self._precision():
            (self.parameters, self.state), counts = checkpoint.load(folder, (self.parameters, self.state))
        self._next_step, self._flops = counts["next_step"], counts["flops"]
        self._units, self._prepared = Counter(counts["units"]), 0
        self._padded, self._grown = counts.get("padded_flops", 0), counts["grown"]
        withdraw(self._processes)

    def export_state(self) -> TrainerState:
        """Copies of weights, moments and counts by the names of `backend.network`; to be called in all processes."""
        with self._precision():
            values, moments = exported(self.plan.shape, *self._places.whole((self.parameters, self.state)))
        return TrainerState(values, moments, self._next_step, self.executed(), self._grown)

    def import_state(self, state: TrainerState) -> None:
        """Takes up what a trainer of the same shape exported.

        Raises:
            RaptrError: what `backend.state.fitted` refuses, `convert-counts`; nothing was changed.
        """
        table = parameters(self.plan.shape, self.plan.learns_scales)
        state = fitted(state, table, self._dtype)
        with self._precision():
            carried = imported(self.plan.shape, table, self.state, state.parameters, state.moments)
            self.parameters, self.state = map(self._places.trained, carried)
        self._next_step, self._grown, self._prepared = state.next_step, state.grown, 0
        self._flops, self._padded = state.executed.flops, state.executed.padded_flops
        self._units = Counter(state.executed.units)
        withdraw(self._processes)

    def _loss(self, batch: Batch, masks: Masks) -> float:
        with self._precision(), naming_the_lost():
            arguments = self._places.batch(tokens_of(batch)), self._places.everywhere(masks)
            return float(self.evaluations.get(*arguments).run(self.parameters, *arguments))

    def _masks(self, step: Step) -> Masks:
        masks = masks_of(step, self.plan.stages[step.stage], self.plan.shape.layers, self._dtype)
        return self._places.everywhere(masks)

    def _grow(self, index: int) -> None:
        """What the plan copies before a step: once, also if the step is tried again."""
        growth = self.plan.grows_at(index)
        if growth is None or self._grown == index:
            return
        arguments = self._places.everywhere(copied(growth, self.plan.shape.layers, self._unborn))
        self.parameters, self.state = self.growths.get(arguments).run(self.parameters, self.state, arguments)
        self._grown = index

    def _unborn(self) -> tuple[Tree, Tree]:
        """Blocks and factors as a block begins that grows from nothing: its output projections are zero (rule 35)."""
        shape, learned = self.plan.shape, self.plan.learns_scales
        values = initial_values(shape, self.settings.init_seed)
        for entry in parameters(shape):
            values[entry.name] = (values[entry.name] * (not entry.is_output)).astype(self._dtype)
        return nest(shape, values)["blocks"], np.ones(shape.layers, self._dtype) if learned else None

    def _count(self, step: Step, sequences: tuple[int, ...], ran: list[int]) -> None:
        """Adds the units that ran: of the model's axes, and of others that the plan thins."""
        units = dict(zip(("depth", *PER_BLOCK, "positions"), ran, strict=True))
        micro_batches = micro_batches_of(sequences[0], self.plan.shape, self.settings)
        units = {axis: count // micro_batches for axis, count in units.items()}
        if "positions" not in step.axes:
            units["positions"] = units["depth"] * self.plan.shape.seq
        units |= {"batch": sequences[0], "seq": sequences[1]}
        self._units.update({axis: n for axis, n in units.items() if axis in self._counted})

    def _prepare(self, index: int, batch: Batch) -> None:
        """Has the programs of the coming steps compiled, those of the first step of the next stage too."""
        lr, last = self._places.everywhere(self._dtype.type(0)), self.plan.steps
        starts = [stage.start for stage in self.plan.stages if index < stage.start]
        stop = min(index + LOOK_AHEAD, last)
        for number in (*range(max(index, self._prepared), stop), *starts[:1]):
            step, growth = self.plan.step(number), self.plan.grows_at(number)
            self.programs.prepare(self._tokens_like(shortened(batch, step.axes)), self._masks(step), lr)
            if growth is not None and number not in self._growing:
                self._growing.add(number)
                self.growths.prepare(self._places.everywhere(copied(growth, self.plan.shape.layers, self._unborn)))
        self._prepared = stop

    def _tokens_like(self, batch: Batch) -> Tokens:
        """Tokens as a program takes them, of the shapes of a batch: placed once for each."""
        shapes = batch.inputs.shape, batch.targets.shape
        if shapes not in self._placed:
            self._placed[shapes] = self._places.batch(tokens_of(batch))
        return self._placed[shapes]

    @contextmanager
    def _context(self) -> Iterator[None]:
        """For what is traced."""
        with self._precision(), self._places.entered():
            yield

    def _precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(self.settings.dtype == "float64")


def adamw(plan: Plan, settings: TrainSettings) -> Optimizer:
    """AdamW as `TrainSettings` words it: decay on the matrices only."""
    decayed = {path for path, entry in by_path(plan.shape) if entry.decay}

    def decays(tree: Tree) -> Tree:
        return jax.tree_util.tree_map_with_path(lambda path, _: tuple(part.key for part in path) in decayed, tree)

    transform = optax.adamw(
        1.0, settings.beta1, settings.beta2, settings.eps, weight_decay=settings.weight_decay, mask=decays
    )

    def lr(step: int) -> float:
        return settings.learning_rate(step, plan.steps) * float(plan.rate_factor(step))

    return Optimizer(settings.clip, transform, lr, apart=True)
