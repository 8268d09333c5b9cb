"""What a masked step counts as: units that are on, and the FLOPs of the matmuls that remain without the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from raptr_dsl.backend import Batch
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import AxisMask

TRAINING = 3


def count(shape: ModelShape, batch: Batch, masks: Mapping[str, AxisMask]) -> tuple[Counter[str], int]:
    """Units by axis, and training FLOPs of one step; matmul by matmul, apart from `raptr_dsl.flops`."""
    units: Counter[str] = Counter()
    flops = 0
    tokens, seq = batch.inputs.size, batch.inputs.shape[1]
    for index in range(shape.layers):
        if "depth" in masks and not masks["depth"].on[0, index]:
            continue
        heads = int(masks["heads"].on[index].sum()) if "heads" in masks else shape.kv_heads
        groups = int(masks["width"].on[index].sum()) if "width" in masks else shape.ffn // shape.width_group
        units.update(depth=1, heads=heads, width=groups)
        keys = heads * shape.head_dim
        queries = keys * (shape.heads // shape.kv_heads)
        hidden_units = groups * shape.width_group
        flops += 2 * tokens * shape.hidden * (queries + keys + keys)  # query, key, value
        flops += 2 * tokens * queries * (seq + seq)  # Q·Kᵀ, weights·V
        flops += 2 * tokens * queries * shape.hidden
        flops += 2 * tokens * hidden_units * shape.hidden * (3 if shape.gated else 2)
    flops += 2 * batch.targets.size * shape.hidden * shape.vocab
    return units, TRAINING * flops
