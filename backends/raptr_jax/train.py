"""The trainer behind `raptr train --backend jax`: the small transformer, AdamW, and one program a size of step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array
from jax.sharding import Mesh

from raptr_dsl.axes import AXES
from raptr_dsl.backend import Backend, Batch, Executed, StepResult, TrainSettings
from raptr_dsl.backend.batches import mean_loss, require_batch, shortened
from raptr_dsl.backend.checks import (
    require_dtype,
    require_finite,
    require_head_everywhere,
    require_micro_batches,
    require_turn,
)
from raptr_dsl.backend.claims import Claims
from raptr_dsl.backend.network import initial_values, parameters
from raptr_dsl.backend.processes import processes_of
from raptr_dsl.backend.support import unsupported
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan, Step
from raptr_jax import checkpoint
from raptr_jax.apply import PER_BLOCK, Masks, masks_of, padded_flops
from raptr_jax.growth import copied, growing
from raptr_jax.model import Transformer, build, nest
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
        require_head_everywhere(plan, backend.name)
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
            if plan.learns_scales:
                initial = initial._replace(factor=np.ones(plan.shape.layers, self._dtype))
            self.parameters = self._places.trained(initial)
            self.state = self._places.trained(self.optimizer.init(jax.device_put(initial)))
        step = _step(graph, plan.shape, self.optimizer, settings, self._places)
        carried = (self.parameters, self.state)
        results = self._places.results(carried)
        self.programs = Programs(step, carried, self._context, donated=2, results=results)
        self.growths = Programs(
            growing(self.optimizer), carried, self._context, donated=2, results=results and results[:2]
        )
        self.evaluations = Programs(_evaluation(graph), (self.parameters,), self._context)
        self._claims = Claims(plan, layout(carried), settings.micro_batches)
        self._thinned = frozenset(name for stage in plan.stages for name in stage.axes)
        self._next_step, self._flops, self._prepared, self._grown = 0, 0, 0, -1
        self._padded = 0
        self._whole: tuple[Parts, Parts] | None = None
        self._units: Counter[str] = Counter()
        self._growing: set[int] = set()
        self._placed: dict[tuple[tuple[int, ...], ...], Tokens] = {}

    def step(self, index: int, batch: Batch) -> StepResult:
        """Optimizer step `index`; loss and gradients are means over all targets of the step.

        Raises:
            RaptrError: the step is not the next one, the batch does not fit, or a loss or gradient is not finite.
        """
        require_batch(batch, self.plan.shape)
        require_turn(index, self._next_step, self.plan)
        agree_on(self._processes, self._claims, index)
        planned = self.plan.step(index)
        sequences = _tokens(shortened(batch, planned.axes))
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
        padded = padded_flops(planned, self.plan.stages[planned.stage], self.plan.shape)
        self._flops += program.work.flops([int(times) for times in seen["taken"]]) - padded
        self._padded += padded
        self._next_step += 1
        return StepResult(loss, norm)

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """The mean loss over all targets, of all blocks that are born, unscaled (rule 36)."""
        born = self.plan.evaluated(max(self._next_step - 1, 0)).get("depth")
        masks = Masks() if born is None else Masks(born.active().astype(np.int32))
        return mean_loss(batches, self.plan.shape, lambda batch: self._loss(batch, masks))

    def executed(self) -> Executed:
        return Executed(units=dict(self._units), flops=self._flops, padded_flops=self._padded)

    def collect(self) -> None:
        """Brings parameters and state that lie in parts on several processes together, for `save`."""
        with self._precision():
            self._whole = self._places.whole((self.parameters, self.state))

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state, counts and random states into an existing, empty folder."""
        counts: dict[str, Any] = {"next_step": self._next_step, "flops": self._flops, "padded_flops": self._padded}
        counts |= {"units": dict(self._units), "grown": self._grown}
        checkpoint.save(folder, self._whole or (self.parameters, self.state), counts)
        self._whole = None

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

    def _loss(self, batch: Batch, masks: Masks) -> float:
        with self._precision(), naming_the_lost():
            arguments = self._places.batch(_tokens(batch)), self._places.everywhere(masks)
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
        micro_batches = _parts_of(sequences[0], self.plan.shape, self.settings)
        units = {axis: count // micro_batches for axis, count in units.items()}
        if "positions" not in step.axes:
            units["positions"] = units["depth"] * self.plan.shape.seq
        units |= {"batch": sequences[0], "seq": sequences[1]}
        self._units.update({axis: n for axis, n in units.items() if AXES[axis].has_weights or axis in self._thinned})

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
            self._placed[shapes] = self._places.batch(_tokens(batch))
        return self._placed[shapes]

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

    def lr(step: int) -> float:
        return settings.learning_rate(step, plan.steps) * float(plan.rate_factor(step))

    return Optimizer(settings.clip, transform, lr, apart=True)


def _table(shape: ModelShape) -> list[tuple[tuple[str, ...], Any]]:
    """The core's table of parameters by their paths in `Parts`, one block for all."""
    return [
        (tuple(entry.name.split(".")[0 if entry.block is None else 2 :]), entry)
        for entry in parameters(shape)
        if not entry.block
    ]


def _parts_of(rows: int, shape: ModelShape, settings: TrainSettings) -> int:
    """In how many micro-batches a step of so many sequences is run: equal ones, none larger than in a full step."""
    most = shape.batch // settings.micro_batches
    return next(parts for parts in range(1, rows + 1) if rows % parts == 0 and rows <= parts * most)


def _step(
    graph: nnx.GraphDef[Transformer], shape: ModelShape, optimizer: Optimizer, settings: TrainSettings, places: Places
) -> Callable[..., tuple[Parts, Parts, dict[str, Any]]]:
    axes = {path: entry.axis for path, entry in _table(shape) if entry.block is not None}
    homes = {path[0]: entry.part for path, entry in _table(shape) if entry.block is None}

    def frozen(masks: Masks) -> frozenset[str]:
        """The names, outside the blocks, of what is not trained."""
        return frozenset(name for name, part in homes.items() if part in masks.frozen)

    def loss_of(trained: Parts, taken: Array | None, tokens: Tokens, masks: Masks) -> tuple[Array, Array]:
        stopped = {name: jax.lax.stop_gradient(trained.rest[name]) for name in frozen(masks)}
        trained = trained._replace(rest={**trained.rest, **stopped})
        return _loss_of(graph, trained, tokens, replace(masks, taken=taken))

    def gradients_of(trained: Parts, tokens: Tokens, masks: Masks) -> Any:
        taken = None if masks.trains is None else jnp.zeros(masks.trains.shape, jnp.float32)
        result, (gradients, taken) = jax.value_and_grad(loss_of, (0, 1), has_aux=True)(trained, taken, tokens, masks)
        return result, places.constrained(gradients), () if taken is None else masks.taken_by_span(taken)

    def accumulated(trained: Parts, tokens: Tokens, masks: Masks) -> Any:
        """The step's mean loss and the units that ran, its gradients, and the blocks that had gradients, by span."""
        micro_batches = _parts_of(tokens[0].shape[0], shape, settings)
        if micro_batches == 1:
            return gradients_of(trained, tokens, masks)
        split = places.in_parts(tokens, micro_batches)
        start = jax.tree.map(lambda like: jnp.zeros(like.shape, like.dtype), jax.eval_shape(
            gradients_of, trained, jax.tree.map(lambda array: array[0], split), masks
        ))  # fmt: skip

        def add(total: Any, part: Tokens) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients_of(trained, part, masks)), None

        (loss, ran), gradients, taken = jax.lax.scan(add, start, split)[0]
        mean = jax.tree.map(lambda total: total / micro_batches, (loss, gradients))
        return (mean[0], ran), mean[1], taken

    def step(
        parameters: Parts, state: Parts, tokens: Tokens, masks: Masks, lr: Array
    ) -> tuple[Parts, Parts, dict[str, Any]]:
        blocks, factor = take((parameters.blocks, parameters.factor if masks.learned else None), masks.index)
        running = Parts(blocks, parameters.rest, factor)
        (loss, ran), gradients, taken = accumulated(running, tokens, masks.without_index())
        touched = jax.tree_util.tree_map_with_path(
            lambda path, _: masks.touched.get(axes[tuple(part.key for part in path)]), blocks
        )
        idle = Idle(
            masks.index,
            masks.skips_blocks,
            touched if masks.touched else None,
            masks.trained,
            frozen(masks),
            masks.learned,
        )
        parameters, state, norm = optimizer.update(gradients, state, parameters, lr, idle, jnp.isfinite(loss))
        return parameters, state, {"loss": loss, "norm": norm, "ran": ran, "taken": taken}

    return step


def _evaluation(graph: nnx.GraphDef[Transformer]) -> Callable[[Parts, Tokens, Masks], Array]:
    return lambda parameters, tokens, masks: _loss_of(graph, parameters, tokens, masks)[0]


def _loss_of(graph: nnx.GraphDef[Transformer], trained: Parts, tokens: Tokens, masks: Masks) -> tuple[Array, Array]:
    """The mean cross-entropy over all targets, and the units that ran."""
    inputs, targets, positions = tokens
    if masks.learned:
        assert masks.factor is not None
        masks = replace(masks, factor=masks.factor * _where_trained(trained.factor, masks.trains))
    logits, ran = nnx.merge(graph, whole(trained)).run(inputs, positions, masks)
    if logits.dtype == jnp.bfloat16:
        logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean(), ran


def _where_trained(factor: Array, trains: Any) -> Array:
    """The same, with gradients where blocks train."""
    return factor if trains is None else jnp.where(trains, factor, jax.lax.stop_gradient(factor))


def _tokens(batch: Batch) -> Tokens:
    """int32, so that programs are the same whatever `jax_enable_x64` says."""
    positions = None if batch.positions is None else batch.positions.astype(np.int32)
    return batch.inputs.astype(np.int32), batch.targets.astype(np.int32), positions
