"""Residual blocks of other people's models that are not called where a mask leaves them out.

The block's class is swapped for a subclass that overrides `__call__`: what hangs on a call (hooks, FSDP2's gathering,
checkpointing, a compiled graph) is skipped with it. A block that is off hands its input on; one that is scaled adds
factor · (block(h) − h) to it, whatever is inside.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_torch.flops import BlockForward, LinearForward
from raptr_torch.meter import Meter
from raptr_torch.seeing import Inputs, hidden_of
from raptr_torch.slicing import Selection, outside
from raptr_torch.swap import Swapped, swap

_OPTIONS = ("use_cache", "output_hidden_states")


class BlockMeter(Meter):
    """Counts forwards by block. A pass is a forward of the block that ran most often (one a micro-batch).

    Attributes:
        blocks, outside: where FLOPs are counted, what blocks and linear layers outside them ran, and how often.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forwards: Counter[int] = Counter()
        self.blocks: Counter[BlockForward] = Counter()
        self.outside: Counter[LinearForward] = Counter()

    def ran(self, block: BlockState) -> None:
        """One forward of a block."""
        self.forwards[block.index] += 1
        self.passes = max(self.passes, self.forwards[block.index])
        self.units["depth"] += 1
        for axis, selection in block.selections.items():
            self.units[axis] += selection.active


@dataclass(frozen=True)
class Open:
    """What an open step runs: by block its factor (None for 1), or False where it is off."""

    factors: Sequence[float | bool | None]
    meter: BlockMeter
    is_thinned: bool


@dataclass
class ModelState:
    """What all blocks of a model look at.

    Attributes:
        open: the step at hand; None: a training forward is refused.
        born: which blocks an evaluation runs; None for all of them.
    """

    open: Open | None = None
    born: Sequence[bool] | None = None


@dataclass
class Outputs:
    """What the blocks of one stack return: None until one was seen; "" a tensor, else by element the input it hands
    on, None for what it computes itself."""

    elements: str | tuple[str | int | None, ...] | None = None


@dataclass(eq=False)
class BlockState:
    """One block: its number through all stacks, what it is called, and what its layers compute.

    Attributes:
        inputs: what it is called with, where FLOPs are counted.
    """

    index: int
    path: str
    model: ModelState
    outputs: Outputs
    is_first: bool
    selections: dict[str, Selection] = field(default_factory=dict)
    inputs: Inputs | None = None

    def evaluate(self, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A forward of the block in evaluation: full and unscaled, if it is born."""
        if self.model.born is None or self.model.born[self.index]:
            return run(*args, **kwargs)
        return self._identity(run, args, kwargs)

    def call(self, block: nn.Module, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A forward of the block in training."""
        if torch.compiler.is_compiling():
            _refuse_compilation(self.path)
        now = self.model.open
        if now is None:
            raise outside()
        if now.is_thinned:
            _refuse_options(args, kwargs, self.path)
        factor = now.factors[self.index]
        if factor is False:
            return self._identity(run, args, kwargs)
        is_recomputing = is_recomputation()
        if is_recomputing and not now.meter.forwards[self.index]:
            raise outside()  # a graph of an earlier step, whose mask is gone
        output = run(*args, **kwargs)
        if not is_recomputing:
            now.meter.ran(self)
            if self.inputs is not None:
                now.meter.blocks[self._forward(self.inputs, args, kwargs)] += 1
            _require_graph(output, block, self.path)
        hidden = hidden_of(args, kwargs)
        self._see(output, hidden, args, kwargs)
        if factor is None:
            return output
        if isinstance(output, Tensor):
            return _scaled(hidden, output, factor)
        return (_scaled(hidden, output[0], factor), *output[1:])

    def _forward(self, inputs: Inputs, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BlockForward:
        active = tuple(selection.active for selection in self.selections.values())
        return BlockForward(self.index, inputs.seen(args, kwargs), active, inputs.gradients(args, kwargs))

    def _identity(self, run: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = hidden_of(args, kwargs)
        if self.outputs.elements is None:  # no block of this stack was seen yet: once, to see what it returns
            with torch.no_grad(), torch.random.fork_rng():
                self._see(run(*args, **kwargs), hidden, args, kwargs, surely=True)
        elements = self.outputs.elements
        if not elements:
            return hidden
        return (hidden, *(None if key is None else _argument(key, args, kwargs) for key in elements[1:]))

    def _see(
        self, output: Any, hidden: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any], surely: bool = False
    ) -> None:
        """Learns what blocks of this stack return. A first block may make what the others hand on: not from it."""
        first = output if isinstance(output, Tensor) else output[0] if isinstance(output, tuple) and output else None
        if not isinstance(first, Tensor) or first.shape != hidden.shape:
            raise _not_residual(self.path, hidden, output)
        if self.outputs.elements is not None:
            return
        if isinstance(output, Tensor):
            self.outputs.elements = ""
        elif not self.is_first or surely:
            inputs: dict[str | int, Any] = {**dict(enumerate(args)), **kwargs}
            rest = (
                next((key for key, given in inputs.items() if _is_same(value, given)), None) for value in output[1:]
            )
            self.outputs.elements = (None, *rest)


class SkippableBlock(Swapped):
    """A block whose call asks its state first."""

    _raptr_block: BlockState
    training: bool

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        run = cast(Any, super()).__call__
        if not self.training:
            return self._raptr_block.evaluate(run, args, kwargs)
        return self._raptr_block.call(cast(Any, self), run, args, kwargs)


def make_skippable(block: nn.Module, state: BlockState) -> None:
    """Makes a block obey its state."""
    swap(block, SkippableBlock, _raptr_block=state)


def _argument(key: str | int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    return args[key] if isinstance(key, int) else kwargs[key]


def _scaled(hidden: Tensor, output: Tensor, factor: float | bool) -> Tensor:
    return torch.add(hidden, output - hidden, alpha=factor)


def _is_same(output: Any, given: Any) -> bool:
    """Whether an output is an input handed on; reentrant checkpointing and compilation make views of it."""
    if not isinstance(output, Tensor) or not isinstance(given, Tensor):
        return False
    return output is given or (output.shape == given.shape and output.data_ptr() == given.data_ptr() != 0)


def _require_graph(output: Any, block: nn.Module, path: str) -> None:
    """Refuses a block that would train without gradients, silently: its input has none, as under frozen embeddings."""
    first = output[0] if isinstance(output, tuple) and output else output
    if not torch.is_grad_enabled() or not isinstance(first, Tensor) or first.requires_grad:
        return
    if any(parameter.requires_grad for parameter in block.parameters()):
        raise fail(
            "attach-option",
            f"{path} is to train, and its output has no gradient: reentrant checkpointing loses those of a block whose "
            "input has none",
            help="checkpoint with use_reentrant=False",
        )


def is_recomputation() -> bool:
    """Whether this is a checkpoint's second forward, within backward."""
    return torch._C._current_graph_task_id() != -1


def has_cache(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a block is given a cache of keys and values, by whatever name."""
    return any(hasattr(value, "get_seq_length") for value in (*args, *kwargs.values()))


def _refuse_options(args: tuple[Any, ...], kwargs: Mapping[str, Any], path: str) -> None:
    asked = next((word for word in _OPTIONS if kwargs.get(word)), None)
    if asked is None and has_cache(args, kwargs):
        asked = "use_cache"
    if asked is None and _is_collecting_hidden_states():
        asked = "output_hidden_states"
    if asked is not None:
        raise fail(
            "attach-option",
            f"{asked}=True reaches {path} in a step in which blocks are left out, and would miss them",
            help=f"write {asked}=False in training: model.config.{asked} = False",
        )


def _is_collecting_hidden_states() -> bool:
    """Whether transformers gathers the outputs of blocks, for models that do not tell their blocks."""
    module = sys.modules.get("transformers.utils.output_capturing")
    collector = getattr(module, "_active_collector", None)
    return collector is not None and "hidden_states" in (collector.get() or ())


@cast("Callable[[Callable[[str], None]], Callable[[str], None]]", torch.compiler.disable)
def _refuse_compilation(path: str) -> None:
    raise fail(
        "attach-compiled",
        f"{path} is called within a graph of torch.compile, which would freeze the mask of one step",
        help="give attach the model as it was before torch.compile, and call runner.compile()",
    )


def _not_residual(path: str, hidden: Tensor, output: Any) -> RaptrError:
    found = list(output.shape) if isinstance(output, Tensor) else type(output).__qualname__
    return fail(
        "attach-blocks",
        f"{path} is no residual block: it turns hidden states {list(hidden.shape)} into {found}",
        help="a block returns hidden states of the shape it is given, alone or as the first of a tuple",
    )
