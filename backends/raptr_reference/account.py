"""What a masked step counts as: units that are on, and the FLOPs of the matmuls that remain without the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from raptr_dsl.backend import Batch
from raptr_dsl.backend.batches import shortened
from raptr_dsl.backend.network import ffn_units
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Step


def count(shape: ModelShape, batch: Batch, step: Step, data: Collection[str] = ()) -> tuple[Counter[str], int]:
    """Units by axis, and training FLOPs of one step; matmul by matmul, apart from `raptr_dsl.flops`.

    Forward once; for a gradient that is used, once more by each operand that has one (rule 34).

    Args:
        data: of the axes whose units are data, those that are counted: that the plan thins somewhere.
    """
    units: Counter[str] = Counter()
    masks, flops = step.axes, 0
    batch = shortened(batch, masks)
    everything = {"seq": shape.seq, "batch": shape.batch}
    for axis in everything.keys() & set(data):
        units[axis] = int(masks[axis].on.sum()) if axis in masks else everything[axis]
    ffn, ffn_count, ffn_size = ffn_units(shape)
    gradient = "embed" not in step.frozen  # whether one flows into the residual stream at all
    for index in range(shape.layers):
        depth = masks.get("depth")
        if depth is not None and not depth.on[0, index]:
            continue
        trains = depth is None or depth.trains is None or bool(depth.trains[0, index])
        gradient |= trains
        heads = int(masks["heads"].on[index].sum()) if "heads" in masks else shape.kv_heads
        groups = int(masks[ffn].on[index].sum()) if ffn in masks else ffn_count
        seq = int(masks["positions"].on[index].sum()) if "positions" in masks else batch.inputs.shape[1]
        tokens = batch.inputs.shape[0] * seq
        units.update({"depth": 1, "heads": heads, ffn: groups})
        units.update({"positions": seq if "positions" in masks else shape.seq} if "positions" in data else {})
        keys = heads * shape.head_dim
        queries = keys * (shape.heads // shape.kv_heads)
        hidden_units = (shape.top_k if shape.has_experts else groups) * ffn_size  # of a token
        weights = 2 * tokens * shape.hidden * (queries + keys + keys)  # query, key, value
        weights += 2 * tokens * queries * shape.hidden
        weights += 2 * tokens * hidden_units * shape.hidden * (3 if shape.gated else 2)
        weights += 2 * tokens * shape.hidden * groups if shape.has_experts else 0  # the router
        scores = 2 * tokens * queries * (seq + seq)  # Q·Kᵀ, weights·V: each of two operands without weights
        flops += weights * (1 + trains + gradient) + scores * (1 + 2 * gradient)
    head = 2 * batch.targets.size * shape.hidden * shape.vocab
    return units, flops + head * (1 + ("head" not in step.frozen) + (gradient or "head" not in step.frozen))
