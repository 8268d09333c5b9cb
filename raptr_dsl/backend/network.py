"""The small transformer that every backend builds for `raptr train`: one table of parameters and constants.

A pre-norm stack: `y += attention(norm(y))`, `y += ffn(norm(y))`, both inside one block, then a final norm and the
vocabulary head. Backends read the table, so that names, initial values and decay agree to the bit.

With experts, `ffn` is Σ wₑ·expertₑ + bias over the `top_k` experts with the largest router logits among those that
run; w is the softmax of these logits: Mixtral's rule (Jiang et al. 2024, arXiv 2401.04088, section 2.1). No token is
dropped, and no loss balances the experts.

Every thinned matrix is stored unit-major, `[units, elements, hidden]`, output projections too: taking the active
units is then taking contiguous rows, for the forward pass, the gradients and the optimizer alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

from raptr_dsl.axes import AXES
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NORM_EPS = 1e-5
"""Layer norm's epsilon (flax defaults to 1e-6, torch to 1e-5)."""
GELU = "tanh"
"""The form of GELU; a gated feed-forward part uses SiLU on the gate instead."""
INIT_STD = 0.02
"""Standard deviation of initial weights; output projections are divided by √(2·layers) (GPT-2)."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor.

    Attributes:
        name: dotted, `blocks.3.attention.query.weight`.
        shape: with leading axis the units of `axis` where it is thinned along one.
        axis: the per-block axis whose units are its leading axis, or None.
        block: the block it belongs to, or None.
        init: how it starts. decay: whether weight decay applies (matrices only).
    """

    name: str
    shape: tuple[int, ...]
    init: Literal["normal", "residual", "zeros", "ones"]
    axis: str | None = None
    block: int | None = None

    @property
    def decay(self) -> bool:
        return self.init in ("normal", "residual")

    @property
    def part(self) -> str | None:
        """The part outside the blocks that it belongs to, `embed` or `head`; None for a block's."""
        if self.block is not None:
            return None
        return "embed" if self.name.partition(".")[0] in ("embedding", "position") else "head"

    @property
    def is_output(self) -> bool:
        """Whether it is of an output projection, whose product is added to the residual stream."""
        return self.name.rpartition(".")[0].endswith(("attention.output", "ffn.down"))

    def in_block(self, block: int) -> str:
        """The name of the same tensor of another block."""
        return f"blocks.{block}.{self.name.split('.', 2)[2]}"


def parameters(shape: ModelShape, learned: bool = False) -> tuple[Parameter, ...]:
    """Every tensor of the transformer, in order.

    Args:
        learned: whether each block has a trained factor (rule 31): `blocks.3.factor`, a scalar that starts at 1.

    Raises:
        RaptrError: `network-shape`: a shape that this transformer cannot have.

    With g heads a group and e hidden units a group: query and output `[kv_heads, g·head_dim, hidden]`, key and value
    `[kv_heads, head_dim, hidden]`, up, gate and down `[ffn / e, e, hidden]`. With experts, these are
    `[experts, ffn, hidden]`, and the router is `[experts, hidden]`. All matrices but the head's and the embeddings' are
    applied as `x @ Wᵀ` for inputs and `x @ W` for the two output projections.
    """
    _require_buildable(shape)
    hidden = shape.hidden
    table = [
        Parameter("embedding.weight", (shape.vocab, hidden), "normal"),
        Parameter("position.weight", (shape.seq, hidden), "normal"),
    ]
    for block in range(shape.layers):
        table += _block(shape, block)
        table += [Parameter(f"blocks.{block}.factor", (), "ones", block=block)] if learned else []
    table += [Parameter("norm.weight", (hidden,), "ones"), Parameter("norm.bias", (hidden,), "zeros")]
    if not shape.tied:
        table.append(Parameter("head.weight", (shape.vocab, hidden), "normal"))
    return tuple(table)


def _require_buildable(shape: ModelShape) -> None:
    for word, has, what in (
        ("source_seq", shape.source_seq, "an encoder beside its decoder"),
        ("head_transform", shape.head_transform, "a dense layer before its head"),
    ):
        if has:
            raise fail(
                "network-shape",
                f"the small transformer has one stack of blocks and a plain head, and this shape has {what}",
                subject=f"{word}={str(has).lower()}",
                help=f"leave {word}= out of the model to train the small transformer, or attach the plan to a model "
                "that has it",
            )


def _block(shape: ModelShape, block: int) -> list[Parameter]:
    heads = AXES["heads"].space(shape)
    groups, query = heads.units, heads.group * shape.head_dim
    axis, units, size = ffn_units(shape)
    prefix = f"blocks.{block}"

    def norm(name: str) -> list[Parameter]:
        return [
            Parameter(f"{prefix}.{name}.weight", (shape.hidden,), "ones", block=block),
            Parameter(f"{prefix}.{name}.bias", (shape.hidden,), "zeros", block=block),
        ]

    def into(name: str, axis: str, units: int, size: int) -> list[Parameter]:
        return [
            Parameter(f"{prefix}.{name}.weight", (units, size, shape.hidden), "normal", axis, block),
            Parameter(f"{prefix}.{name}.bias", (units, size), "zeros", axis, block),
        ]

    def out_of(name: str, axis: str, units: int, size: int) -> list[Parameter]:
        return [
            Parameter(f"{prefix}.{name}.weight", (units, size, shape.hidden), "residual", axis, block),
            Parameter(f"{prefix}.{name}.bias", (shape.hidden,), "zeros", block=block),
        ]

    router = Parameter(f"{prefix}.ffn.router.weight", (shape.experts, shape.hidden), "normal", "experts", block)
    return [
        *norm("attention_norm"),
        *into("attention.query", "heads", groups, query),
        *into("attention.key", "heads", groups, shape.head_dim),
        *into("attention.value", "heads", groups, shape.head_dim),
        *out_of("attention.output", "heads", groups, query),
        *norm("ffn_norm"),
        *([router] if shape.has_experts else []),
        *(into("ffn.gate", axis, units, size) if shape.gated else []),
        *into("ffn.up", axis, units, size),
        *out_of("ffn.down", axis, units, size),
    ]


def ffn_units(shape: ModelShape) -> tuple[str, int, int]:
    """What the unit-major weights of the feed-forward part are divided into: the axis, how many units, and hidden units
    of each.
    """
    if shape.has_experts:
        return "experts", shape.experts, shape.ffn
    width = AXES["width"].space(shape)
    return "width", width.units, width.group


def initial_values(shape: ModelShape, seed: int, learned: bool = False) -> dict[str, NDArray[np.float32]]:
    """The initial weights, the same on every backend: each tensor from its own stream of (seed, name)."""
    import numpy as np

    values: dict[str, NDArray[np.float32]] = {}
    for parameter in parameters(shape, learned):
        if parameter.init in ("zeros", "ones"):
            values[parameter.name] = np.full(parameter.shape, parameter.init == "ones", dtype=np.float32)
            continue
        std = INIT_STD / (2 * shape.layers) ** 0.5 if parameter.init == "residual" else INIT_STD
        key = sha256(b"raptr-init-1\0" + seed.to_bytes(8, "little") + parameter.name.encode()).digest()
        normal = np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
        values[parameter.name] = (normal.standard_normal(parameter.shape, dtype=np.float32) * std).astype(np.float32)
    return values
