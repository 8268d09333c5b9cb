"""Counts what runs, where it runs: unit forwards, and the FLOPs of every matmul from the shapes of its tensors.

Each gradient costs a matmul as large as that of the forward pass. Which gradients there will be is read off the tensors
themselves: what autograd does not track has none.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Meter:
    """Exact integers: `units[axis]` counts forwards of units, `flops` 2·M·N·K of each matmul and of its gradients.

    Attributes:
        passes: training forwards, one a micro-batch. rows: sequences through all of them.
    """

    def __init__(self) -> None:
        self.passes = self.rows = 0
        self.units: Counter[str] = Counter()
        self.flops = 0

    def per_step(self) -> dict[str, int]:
        """Units that ran in an optimizer step: its micro-batches count once together."""
        return {axis: count // self.passes for axis, count in self.units.items()} | {"batch": self.rows}

    def matmul(self, rows: Tensor, weight: Tensor, product: Tensor) -> None:
        """Counts `product[…, N] = rows[…, K] @ weight[K, N]`, and the gradients of both."""
        self.flops += (1 + weight.requires_grad + rows.requires_grad) * 2 * rows.numel() * product.shape[-1]

    def attention(self, query: Tensor, key: Tensor) -> None:
        """Counts Q·Kᵀ and weights·V of `query[…, T, d]` over the S positions of `key[…, S, d]`, masked or not.

        Each has two operands with a gradient, or none.
        """
        self.flops += (1 + 2 * query.requires_grad) * 2 * 2 * query.numel() * key.shape[-2]
