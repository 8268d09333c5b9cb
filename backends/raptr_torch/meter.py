"""Counts what runs, where it runs: unit forwards, and the FLOPs of every matmul from the shapes of its tensors."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TRAINING = 3
"""A training step costs its forward pass, and twice that again for the gradients of weights and inputs."""


class Meter:
    """Exact integers: `units[axis]` counts forwards of units, `flops` 2·M·N·K of each matmul, times `TRAINING`."""

    def __init__(self) -> None:
        self.passes = 0
        self.units: Counter[str] = Counter()
        self.flops = 0

    def per_step(self) -> dict[str, int]:
        """Units that ran in an optimizer step: its micro-batches count once together."""
        return {axis: count // self.passes for axis, count in self.units.items()}

    def matmul(self, rows: Tensor, product: Tensor) -> None:
        """Counts `product[…, N] = rows[…, K] @ W[K, N]`."""
        self.flops += TRAINING * 2 * rows.numel() * product.shape[-1]

    def attention(self, query: Tensor, key: Tensor) -> None:
        """Counts Q·Kᵀ and weights·V of `query[…, T, d]` over the S positions of `key[…, S, d]`, masked or not."""
        self.flops += TRAINING * 2 * 2 * query.numel() * key.shape[-2]
