"""Showing an optimizer some rows (or columns) of a parameter, for one update.

In the optimizer's parameter groups the parameter gives way to stand-ins: views of runs of active rows that share
memory with it, with its gradient and with its state. So any elementwise optimizer, fused ones too, updates exactly the
active rows, and nothing is copied. Fused AdamW writes wrong elements of strided views, so that columns, and rows in too
many runs, are copied and copied back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MOST_VIEWS = 32
"""Runs of neighbouring active rows that are shown as views; more of them are cheaper to copy and to copy back."""

Rows = slice | Tensor
"""Active rows: a run of neighbours, or an index of any."""


@dataclass(frozen=True, slots=True)
class StandIn:
    """Some rows of a parameter, and the state that the optimizer was given for them."""

    rows: Rows
    dim: int
    tensor: Tensor
    state: dict[str, Any]


class Narrowing:
    """The rows of parameters that one update may touch: `add` each, then `begin`, update, `end`."""

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer
        self._stand_ins: dict[nn.Parameter, list[StandIn]] = {}
        self._groups: list[list[Tensor]] = []
        self._rows: dict[tuple[bytes, bool], list[Rows]] = {}

    def add(self, parameter: nn.Parameter, on: np.ndarray, dim: int = 0) -> None:
        """Shows the rows (of dimension `dim`) of a parameter where `on`, bool[rows], holds; its gradient is there."""
        key = on.tobytes(), dim == 0
        if key not in self._rows:
            self._rows[key] = _runs(on, parameter.device, MOST_VIEWS if dim == 0 else 0)
        weights, gradient = parameter.detach(), parameter.grad
        assert gradient is not None
        state = self._optimizer.state.get(parameter, {})
        self._stand_ins[parameter] = stand_ins = []
        for rows in self._rows[key]:
            tensor = _take(weights, rows, dim)
            tensor.grad = _take(gradient, rows, dim)
            part = {word: _take_state(value, rows, dim, weights.shape) for word, value in state.items()}
            stand_ins.append(StandIn(rows, dim, tensor, part))

    def begin(self) -> None:
        """Puts the stand-ins in the parameters' places."""
        if not self._stand_ins:
            return
        for stand_ins in self._stand_ins.values():
            for stand_in in stand_ins:
                self._optimizer.state[stand_in.tensor] = dict(stand_in.state)
        shown = {parameter: [s.tensor for s in stand_ins] for parameter, stand_ins in self._stand_ins.items()}
        for group in self._optimizer.param_groups:
            self._groups.append(group["params"])
            group["params"] = [tensor for p in group["params"] for tensor in shown.get(p, (p,))]

    @torch.no_grad()
    def end(self) -> None:
        """Puts the parameters back, with what the update did to their rows and to their counts."""
        if not self._stand_ins:
            return
        for group, parameters in zip(self._optimizer.param_groups, self._groups, strict=True):
            group["params"] = parameters
        for parameter, stand_ins in self._stand_ins.items():
            for stand_in in stand_ins:
                self._write_back(parameter, stand_in)

    def _write_back(self, parameter: nn.Parameter, stand_in: StandIn) -> None:
        rows, state = stand_in.rows, self._optimizer.state[parameter]
        if isinstance(rows, Tensor):
            parameter.index_copy_(stand_in.dim, rows, stand_in.tensor)
        for word, value in self._optimizer.state.pop(stand_in.tensor).items():
            kept = state.get(word)
            if not isinstance(value, Tensor) or not isinstance(kept, Tensor):
                state[word] = value
            elif kept.shape != parameter.shape:
                kept.copy_(value)  # the count: the same in every stand-in
            elif isinstance(rows, Tensor):
                kept.index_copy_(stand_in.dim, rows, value)
            elif value is not stand_in.state.get(word):
                kept[rows] = value  # the optimizer replaced its state instead of writing to it


def _runs(on: np.ndarray, device: torch.device, most: int) -> list[Rows]:
    """The active rows as runs of neighbours, or as one index where those are too many; never an empty list."""
    padded = np.concatenate(([False], on, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    if not edges.size and most:
        return [slice(0, 0)]  # a view of no row: its count advances
    if edges.size > 2 * most or not most:
        return [torch.from_numpy(on.nonzero()[0]).to(device)]
    return [slice(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]


def _take(tensor: Tensor, rows: Rows, dim: int) -> Tensor:
    """A view of a run of rows, or a copy of rows (or columns) anywhere."""
    return tensor.index_select(dim, rows) if isinstance(rows, Tensor) else tensor[rows]


def _take_state(value: Any, rows: Rows, dim: int, shape: torch.Size) -> Any:
    """The state of some rows: what is shaped like the parameter as they are taken, counts copied."""
    if not isinstance(value, Tensor):
        return value
    return _take(value, rows, dim) if value.shape == shape else value.clone()
