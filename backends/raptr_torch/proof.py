"""The proof that selecting units of a block is what it should be: tried on a copy of the block, not believed.

A tiny batch is run through the model to see what its blocks are called with. On a copy of a block, half of the units
are selected; then the whole block is run with the input of the output projection multiplied by the mask. Loss and all
gradients have to agree.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_torch.adapters import without_adapters
from raptr_torch.layouts import UnitLinears
from raptr_torch.slicing import Selection
from raptr_torch.units import AxisLinears, install

TOLERANCE = 1e-4
"""Of a loss or gradient, relative to its largest element."""
FACTOR = 1.5
TOKENS = 8


@dataclass(frozen=True)
class Call:
    """What a block was called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def example_of(model: nn.Module) -> dict[str, Tensor] | None:
    """A tiny batch for a language model of transformers, None for other models."""
    base = without_adapters(model)
    config = getattr(base, "config", None)
    text = getattr(config, "get_text_config", lambda: config)()
    vocab = getattr(text, "vocab_size", None)
    if not isinstance(vocab, int) or "input_ids" not in inspect.signature(base.forward).parameters:
        return None
    device = next(model.parameters()).device
    tokens = (torch.arange(2 * TOKENS, device=device) * 7 + 1).remainder(vocab).view(2, TOKENS)
    if getattr(config, "is_encoder_decoder", False):
        return {"input_ids": tokens, "decoder_input_ids": tokens}
    return {"input_ids": tokens}


def capture(model: nn.Module, blocks: Mapping[str, nn.Module], example: Any) -> dict[str, Call]:
    """What blocks are called with when the model evaluates an example: keyword arguments, or a tuple of others.

    Raises:
        RaptrError: `attach-example`: the model cannot take it, or does not call its blocks.
    """
    calls: dict[str, Call] = {}

    def listen(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.setdefault(path, Call(args, dict(kwargs)))

        return hook

    handles = [block.register_forward_pre_hook(listen(path), with_kwargs=True) for path, block in blocks.items()]
    try:
        with evaluating(model), torch.no_grad(), torch.random.fork_rng():
            model(**example) if isinstance(example, Mapping) else model(*example)
    except Exception as error:  # whatever a foreign forward may raise
        raise _no_example(model, f"{type(error).__name__}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()
    missing = next((path for path in blocks if path not in calls), None)
    if missing is not None:
        raise _no_example(model, f"it does not run {missing}")
    return calls


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation; afterwards every module is in the mode it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def prove(path: str, block: nn.Module, call: Call, axis: str, linears: UnitLinears, units: int) -> None:
    """Compares a block with selected units to the same block masked.

    Raises:
        RaptrError: `attach-proof`, with the block's path and both numbers.
    """
    on = list(range(units))[1::2] or [0]
    try:
        masked = _Run(block, call, _masked(on), axis, linears, units)
        sliced = _Run(block, call, _sliced(on), axis, linears, units)
    except RaptrError:
        raise
    except Exception as error:  # reshapes by a size that does not follow fail in many ways
        raise _refuted(path, axis, f"with half of its units it fails: {type(error).__name__}: {error}") from error
    rounding = 1e-6 * max(float(right.abs().max()) for right in masked.found.values())
    for name, right in masked.found.items():
        got = sliced.found.get(name)
        if got is None or got.shape != right.shape or not _is_close(got, right, rounding):
            size = "nothing" if got is None else f"{float(got.norm()):.7g}"
            raise _refuted(
                path, axis, f"its {name} is {size} with half of its units, and {float(right.norm()):.7g} masked"
            )


class _Run:
    """One forward and backward of a copy of the block; `found`: loss and gradients by name."""

    def __init__(self, block: nn.Module, call: Call, prepare: Any, axis: str, linears: UnitLinears, units: int) -> None:
        copy = deepcopy(block).eval()
        dtype = _dtype(copy)
        copy = copy.to(dtype)
        for parameter in copy.parameters():
            parameter.requires_grad_(True)
            parameter.grad = None
        args, kwargs = _cast(call.args, dtype), _cast(call.kwargs, dtype)
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        hidden = next(value for value in inputs if value.is_floating_point())
        hidden.requires_grad_(True)
        prepare(AxisLinears.of(copy, "", axis, linears, units))
        with torch.random.fork_rng(), torch.enable_grad():
            output = copy(*args, **kwargs)
            output = output[0] if isinstance(output, tuple) else output
            generator = torch.Generator().manual_seed(0)
            weights = torch.randn(output.shape, generator=generator).to(output)
            loss = (output * weights).mean()
            loss.backward()
        gradients = {f"gradient of {name}": p.grad for name, p in copy.named_parameters()}
        self.found: dict[str, Tensor] = {"loss": loss.detach()}
        for name, gradient in {**gradients, "gradient of its input": hidden.grad}.items():
            if gradient is not None:
                self.found[name] = gradient


def _sliced(on: Sequence[int]) -> Any:
    def prepare(site: AxisLinears) -> None:
        selection = Selection(site.units, always=True)
        install(site, selection)
        site.select(selection, on, FACTOR)

    return prepare


def _masked(on: Sequence[int]) -> Any:
    def prepare(site: AxisLinears) -> None:
        output = site.output
        mask = torch.zeros(site.units, site.output_cut.size)
        mask[list(on)] = FACTOR
        mask = mask.flatten()

        def hook(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (args[0] * mask.to(args[0]), *args[1:])

        output.register_forward_pre_hook(hook)

    return prepare


def _is_close(got: Tensor, right: Tensor, rounding: float) -> bool:
    """A gradient that is nothing but rounding (that of key biases is zero) agrees with any other such."""
    bound = TOLERANCE if right.dtype in (torch.float32, torch.float64) else 3e-2
    return bool((got - right).abs().max() <= bound * right.abs().max() + rounding)


def _dtype(block: nn.Module) -> torch.dtype:
    """float32, where the block can run in it: flash attention cannot."""
    own = next(block.parameters()).dtype
    implementation = getattr(getattr(block, "config", None), "_attn_implementation", None)
    for module in block.modules():
        implementation = implementation or getattr(getattr(module, "config", None), "_attn_implementation", None)
    return own if "flash" in str(implementation) else torch.promote_types(own, torch.float32)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    def change(tensor: Tensor) -> Tensor:
        copied = tensor.detach().clone()
        return copied.to(dtype) if copied.is_floating_point() else copied

    return mapped(value, change)


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What a module is called with, each tensor in it changed."""
    if isinstance(value, Tensor):
        return change(value)
    if type(value) in (tuple, list):
        return type(value)(mapped(item, change) for item in value)
    if type(value) is dict:
        return {word: mapped(item, change) for word, item in value.items()}
    return value


def _refuted(path: str, axis: str, what: str) -> RaptrError:
    return fail(
        "attach-proof",
        f"{axis} of {path} cannot be selected: {what}",
        help=f"leave {axis} at full size in the schedule, or give attach a layout that fits this block",
    )


def _no_example(model: nn.Module, why: str) -> RaptrError:
    return fail(
        "attach-example",
        f"{type(model).__qualname__} cannot be tried on a tiny batch: {why}",
        help="give one: attach(…, example={name: tensor, …}), or a tuple of positional arguments",
    )
