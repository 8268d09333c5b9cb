"""What a block of somebody else's model is called with: its hidden states, and an encoder's output beside them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor, nn

from raptr_torch.flops import Gradients, Seen
from raptr_torch.stacks import unwrapped

ENCODER_OUTPUT = "encoder_hidden_states"
"""What blocks of transformers call it."""


def hidden_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """The hidden states that a block is given, by whatever name."""
    if args and isinstance(args[0], Tensor):
        return args[0]
    if isinstance(kwargs.get("hidden_states"), Tensor):
        return kwargs["hidden_states"]
    return next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))


class Inputs:
    """How one block is called, and which of its tensors are matrices."""

    def __init__(self, wrapped: nn.Module) -> None:
        block = unwrapped(wrapped)
        words = list(inspect.signature(block.forward).parameters)
        self._place = words.index(ENCODER_OUTPUT) if ENCODER_OUTPUT in words else None
        # Sharding and constants exchange parameters or change them: they are looked up at each call.
        self._matrices: list[tuple[Any, str]] = [
            (module._parameters, name)
            for module in block.modules()
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.dim() > 1 and parameter.is_floating_point()
        ]

    def differentiable(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Tensor]:
        """Hidden states, and the encoder's output where there is one."""
        source = self._source(args, kwargs)
        hidden = hidden_of(args, kwargs)
        return [hidden] if source is None else [hidden, source]

    def seen(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Seen:
        """The shapes of one call."""
        *batch, seq, _ = hidden_of(args, kwargs).shape
        source = self._source(args, kwargs)
        return Seen(prod(batch), seq, 0 if source is None else source.shape[-2])

    def gradients(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Gradients:
        """What autograd tracks in one call."""
        weights = {owner[name].requires_grad for owner, name in self._matrices}
        inputs = {given.requires_grad for given in self.differentiable(args, kwargs)}
        is_even = len(weights) == len(inputs) == 1
        return Gradients(weights=weights.pop() if is_even else None, input=inputs.pop())

    def _source(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        if self._place is None:
            return None
        return args[self._place] if self._place < len(args) else kwargs.get(ENCODER_OUTPUT)
