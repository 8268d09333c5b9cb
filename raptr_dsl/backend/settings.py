"""What a training run is told besides its plan: every backend reads the same table, with the same meaning."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from raptr_dsl.ir.base import Frozen


class TrainSettings(Frozen):
    """Optimizer and precision of a run.

    AdamW with decoupled decay on matrices only: `w −= lr·(m̂/(√v̂ + eps) + weight_decay·w)`. The gradient is clipped
    once over the whole tree by `min(1, clip / (norm + 1e-6))` (torch's form). Weights start from `init_seed`.
    `bfloat16` is mixed precision: matmuls in bfloat16; weights, moments and the residual stream in float32.
    `shard_parameters` splits parameters and moments over the devices that share a batch, instead of keeping them whole
    on each.
    """

    lr: float = Field(default=1e-3, gt=0)
    warmup: int = Field(default=0, ge=0)
    lr_schedule: Literal["cosine", "constant"] = "cosine"
    lr_floor: float = Field(default=0.1, ge=0, le=1)
    weight_decay: float = Field(default=0.1, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    clip: float = Field(default=1.0, gt=0)
    micro_batches: int = Field(default=1, ge=1)
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    init_seed: int = Field(default=0, ge=0, lt=2**64)
    shard_parameters: bool = False

    def learning_rate(self, step: int, horizon: int) -> float:
        """The learning rate of a 0-based optimizer step.

        It is a function of the step over the whole horizon and does not restart where a stage begins: linear from
        lr/warmup, then a cosine from lr at the end of the warm-up to lr·lr_floor at the last step, or constant.
        """
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.lr_schedule == "constant":
            return self.lr
        progress = (step - self.warmup) / max(1, horizon - 1 - self.warmup)
        return self.lr * (self.lr_floor + (1 - self.lr_floor) * (1 + math.cos(math.pi * progress)) / 2)
