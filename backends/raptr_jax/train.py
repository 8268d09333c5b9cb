"""The trainer behind `raptr train --backend jax`: the small transformer, AdamW, and one program a size of step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from raptr_dsl.backend import Backend, Batch, Executed, StepResult, TrainSettings
from raptr_dsl.backend.batches import mean_loss, require_batch
from raptr_dsl.backend.checks import require_dtype, require_finite, require_micro_batches, require_turn
from raptr_dsl.backend.claims import Claims
from raptr_dsl.backend.network import parameters
from raptr_dsl.backend.processes import processes_of
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_jax import checkpoint
from raptr_jax.apply import PER_BLOCK, Masks, masks_of
from raptr_jax.model import Transformer, build
from raptr_jax.optim import Idle, Optimizer, Parts
from raptr_jax.places import Places
from raptr_jax.processes import agree_on, announce, layout, naming_the_lost, withdraw
from raptr_jax.programs import Programs
from raptr_jax.scan import Tree, take

LOOK_AHEAD = 16
"""Steps ahead for which programs are compiled beside training, besides the first of the next stage."""

Tokens = tuple[Any, Any, Any]
"""Inputs, targets, and positions or None."""


class JaxTrainer:
    """Implements `raptr_dsl.backend.Trainer`.

    bfloat16 is mixed precision: weights, optimizer state and the residual stream stay in float32. float64 holds within
    the trainer's own programs, whatever `jax_enable_x64` says elsewhere.

    Args:
        mesh: the devices that share each batch; all devices of all processes unless given.
        splits_parameters: whether parameters and optimizer state are split over them as well.

    Raises:
        RaptrError: the plan, the dtype or the micro-batches cannot be run, or the mesh does not divide the batch.
    """

    def __init__(
        self,
        backend: Backend,
        plan: Plan,
        settings: TrainSettings,
        mesh: Mesh | None = None,
        splits_parameters: bool = False,
    ) -> None:
        problems = unsupported(plan, backend)
        if problems:
            raise RaptrError(problems)
        require_dtype(settings, backend.name, backend.capabilities)
        self._processes = processes_of(backend)
        self._places = Places(mesh, splits_parameters)
        self._places.require_divides(plan.shape.batch)
        require_micro_batches(plan.shape, settings, self._places.devices)
        self.plan, self.settings = plan, settings
        self.optimizer = adamw(plan, settings)
        self._dtype = np.dtype("float64" if settings.dtype == "float64" else "float32")
        with self._precision():
            graph, state = nnx.split(build(plan.shape, settings.init_seed, jnp.dtype(settings.dtype)))
            initial = parts(nnx.to_pure_dict(state))
            self.parameters = self._places.trained(initial)
            self.state = self._places.trained(self.optimizer.init(jax.device_put(initial)))
        step = _step(graph, plan.shape, self.optimizer, settings.micro_batches, self._places)
        carried = (self.parameters, self.state)
        self.programs = Programs(step, carried, self._context, donated=2, results=self._places.results(carried))
        self.evaluations = Programs(_evaluation(graph), (self.parameters,), self._context)
        self._claims = Claims(plan, layout(carried), settings.micro_batches)
        self._next_step, self._flops, self._prepared = 0, 0, 0
        self._units: Counter[str] = Counter()

    def step(self, index: int, batch: Batch) -> StepResult:
        """Optimizer step `index`; loss and gradients are means over all targets of the step.

        Raises:
            RaptrError: the step is not the next one, the batch does not fit, or a loss or gradient is not finite.
        """
        require_batch(batch, self.plan.shape)
        require_turn(index, self._next_step, self.plan)
        agree_on(self._processes, self._claims, index)
        with self._precision(), naming_the_lost():
            tokens, masks = self._places.batch(_tokens(batch)), self._masks(index)
            lr = self._places.everywhere(self._dtype.type(self.optimizer.lr(index)))
            program = self.programs.get(tokens, masks, lr)
            self.parameters, self.state, seen = program.run(self.parameters, self.state, tokens, masks, lr)
            announce(self._processes, self._claims, index + 1)
            self._prepare(index + 1, tokens)  # while the step runs
            loss, norm = float(seen["loss"]), float(seen["norm"])
        require_finite(index, loss, norm)
        for axis, count in zip(("depth", *PER_BLOCK), np.asarray(seen["ran"]).tolist(), strict=True):
            self._units[axis] += count // self.settings.micro_batches
        self._flops += program.flops
        self._next_step += 1
        return StepResult(loss, norm)

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """The mean loss over all targets, of the full network, unscaled (rule 36)."""
        return mean_loss(batches, self.plan.shape, self._loss)

    def executed(self) -> Executed:
        return Executed(units=dict(self._units), flops=self._flops)

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state, counts and random states into an existing, empty folder."""
        counts = {"next_step": self._next_step, "flops": self._flops, "units": dict(self._units)}
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
        withdraw(self._processes)

    def _loss(self, batch: Batch) -> float:
        with self._precision(), naming_the_lost():
            tokens = self._places.batch(_tokens(batch))
            return float(self.evaluations.get(tokens).run(self.parameters, tokens))

    def _masks(self, index: int) -> Masks:
        step = self.plan.step(index)
        masks = masks_of(step, self.plan.stages[step.stage], self.plan.shape.layers, self._dtype)
        return self._places.everywhere(masks)

    def _prepare(self, index: int, tokens: Tokens) -> None:
        """Has the programs of the coming steps compiled, those of the first step of the next stage too."""
        lr, last = self._places.everywhere(self._dtype.type(0)), self.plan.steps
        starts = [stage.start for stage in self.plan.stages if index < stage.start]
        stop = min(index + LOOK_AHEAD, last)
        for step in (*range(max(index, self._prepared), stop), *starts[:1]):
            self.programs.prepare(tokens, self._masks(step), lr)
        self._prepared = stop

    @contextmanager
    def _context(self) -> Iterator[None]:
        """For what is traced."""
        with self._precision(), self._places.entered():
            yield

    def _precision(self) -> AbstractContextManager[Any]:
        return jax.enable_x64(self.settings.dtype == "float64")


def parts(tree: dict[str, Any]) -> Parts:
    """The model's tree as blocks and the rest; `whole` is its inverse."""
    return Parts(tree["blocks"], {name: value for name, value in tree.items() if name != "blocks"})


def whole(split: Parts) -> dict[str, Any]:
    """Blocks and the rest as the model's tree; `parts` is its inverse."""
    return {**split.rest, "blocks": split.blocks}


def adamw(plan: Plan, settings: TrainSettings) -> Optimizer:
    """AdamW as `TrainSettings` words it: decay on the matrices only."""
    decayed = {path for path, entry in _table(plan.shape) if entry.decay}

    def decays(tree: Tree) -> Tree:
        return jax.tree_util.tree_map_with_path(lambda path, _: tuple(part.key for part in path) in decayed, tree)

    transform = optax.adamw(
        1.0, settings.beta1, settings.beta2, settings.eps, weight_decay=settings.weight_decay, mask=decays
    )
    return Optimizer(settings.clip, transform, lambda step: settings.learning_rate(step, plan.steps))


def _table(shape: ModelShape) -> list[tuple[tuple[str, ...], Any]]:
    """The core's table of parameters by their paths in `Parts`, one block for all."""
    return [
        (tuple(entry.name.split(".")[0 if entry.block is None else 2 :]), entry)
        for entry in parameters(shape)
        if not entry.block
    ]


def _step(
    graph: nnx.GraphDef[Transformer], shape: ModelShape, optimizer: Optimizer, micro_batches: int, places: Places
) -> Callable[..., tuple[Parts, Parts, dict[str, Array]]]:
    axes = {path: entry.axis for path, entry in _table(shape) if entry.block is not None}

    def loss_of(trained: Parts, tokens: Tokens, masks: Masks) -> tuple[Array, Array]:
        loss, ran = _loss_of(graph, trained, tokens, masks)
        return loss / micro_batches, ran

    def gradients_of(trained: Parts, tokens: Tokens, masks: Masks) -> tuple[tuple[Array, Array], Parts]:
        result, gradients = jax.value_and_grad(loss_of, has_aux=True)(trained, tokens, masks)
        return result, places.constrained(gradients)

    def accumulated(trained: Parts, tokens: Tokens, masks: Masks) -> tuple[tuple[Array, Array], Parts]:
        """The gradients of the step's mean loss, that loss, and the units that ran in all micro-batches."""
        if micro_batches == 1:
            return gradients_of(trained, tokens, masks)
        split = places.in_parts(tokens, micro_batches)
        start = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(
            gradients_of, trained, jax.tree.map(lambda array: array[0], split), masks
        ))  # fmt: skip

        def add(total: Any, part: Tokens) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients_of(trained, part, masks)), None

        return jax.lax.scan(add, start, split)[0]

    def step(
        parameters: Parts, state: Parts, tokens: Tokens, masks: Masks, lr: Array
    ) -> tuple[Parts, Parts, dict[str, Array]]:
        blocks = parameters.blocks if masks.index is None else take(parameters.blocks, masks.index)
        (loss, ran), gradients = accumulated(Parts(blocks, parameters.rest), tokens, masks.without_index())
        touched = jax.tree_util.tree_map_with_path(
            lambda path, _: masks.touched.get(axes[tuple(part.key for part in path)]), blocks
        )
        idle = Idle(masks.index, masks.skips_blocks, touched if masks.touched else None)
        parameters, state, norm = optimizer.update(gradients, state, parameters, lr, idle, jnp.isfinite(loss))
        return parameters, state, {"loss": loss, "norm": norm, "ran": ran}

    return step


def _evaluation(graph: nnx.GraphDef[Transformer]) -> Callable[[Parts, Tokens], Array]:
    return lambda parameters, tokens: _loss_of(graph, parameters, tokens, Masks())[0]


def _loss_of(graph: nnx.GraphDef[Transformer], trained: Parts, tokens: Tokens, masks: Masks) -> tuple[Array, Array]:
    """The mean cross-entropy over all targets, and the units that ran."""
    inputs, targets, positions = tokens
    logits, ran = nnx.merge(graph, whole(trained)).run(inputs, positions, masks)
    if logits.dtype == jnp.bfloat16:
        logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), ran


def _tokens(batch: Batch) -> Tokens:
    """int32, so that programs are the same whatever `jax_enable_x64` says."""
    positions = None if batch.positions is None else batch.positions.astype(np.int32)
    return batch.inputs.astype(np.int32), batch.targets.astype(np.int32), positions
