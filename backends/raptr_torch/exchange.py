"""A trainer's state by the names of the core's table, and back: what other backends can take up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from raptr_dsl.backend import Executed
from raptr_dsl.backend.network import Parameter
from raptr_dsl.backend.state import Moments, TrainerState, fitted, no_moments

STATE = ("exp_avg", "exp_avg_sq")


def exported(
    model: nn.Module, optimizer: AdamW, table: Sequence[Parameter], counts: Mapping[str, Any], executed: Executed
) -> TrainerState:
    """Copies of weights and moments; the counts are those of the runner."""
    tensors = dict(model.named_parameters())
    values = {entry.name: _array(tensors[entry.name]) for entry in table}
    moments = no_moments(values)  # of what has not been updated yet
    for name in values:
        state = optimizer.state.get(tensors[name])
        if state:
            mean, square = (_array(state[word]) for word in STATE)
            moments[name] = Moments(mean, square, int(state["step"]))
    return TrainerState(values, moments, counts["next_step"], executed, counts["grown"])


@torch.no_grad()
def imported(
    state: TrainerState, model: nn.Module, optimizer: AdamW, table: Sequence[Parameter], dtype: np.dtype
) -> dict[str, Any]:
    """Gives model and optimizer that state; the counts for the runner, of all ranks together.

    Raises:
        RaptrError: what `fitted` refuses; nothing was changed.
    """
    state = fitted(state, table, dtype)
    tensors = dict(model.named_parameters())
    for name, value in state.parameters.items():
        tensors[name].copy_(torch.from_numpy(value))
    for name, moments in (state.moments or no_moments(state.parameters)).items():
        of = tensors[name]
        count = torch.tensor(float(moments.count), dtype=torch.float32, device=of.device)
        values = (torch.from_numpy(value).to(of.device) for value in (moments.mean, moments.square))
        optimizer.state[of] = {"step": count, **dict(zip(STATE, values, strict=True))}
    units = dict(state.executed.units)
    return {
        "next_step": state.next_step,
        "grown": state.grown,
        "units": units,
        "planned": units,
        "flops": state.executed.flops,
    }


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()
