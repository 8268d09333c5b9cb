"""raptr_jax: plans on JAX. What it can do is known without importing jax."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NoReturn

from raptr_dsl.backend import Backend, Capabilities, Trainer, TrainSettings
from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

if TYPE_CHECKING:
    from raptr_jax.model import Transformer
    from raptr_jax.optim import Optimizer, optimizer
    from raptr_jax.scan import BlockMask, block_mask, scan_blocks, stack, unstack


class JaxBackend:
    """Implements `raptr_dsl.backend.Backend`."""

    name = "jax"
    capabilities = Capabilities(
        axes=frozenset({"depth", "heads", "width"}),
        scales=frozenset({"none", "sqrt", "sqrt_ratio", "linear", "inverse"}),
        idle=frozenset({"zero", "skip"}),
        dtypes=frozenset({"float32", "bfloat16", "float64"}),
    )

    def shape(
        self,
        model: Transformer,
        *,
        seq: int | None = None,
        source_seq: int | None = None,
        batch: int | None = None,
        head_share: Fraction | None = None,
    ) -> ModelShape:
        """The shape of one of this package's models; see `raptr_jax.shapes.shape`."""
        from raptr_jax.shapes import shape

        return shape(model, seq=seq, source_seq=source_seq, batch=batch, head_share=head_share)

    def attach(self, model: Any, plan: Plan, optimizer: Any = None) -> NoReturn:
        """Refuses: a JAX model is a pure function, and cannot be changed from outside.

        Raises:
            RaptrError: `attach-model`.
        """
        raise fail(
            "attach-model",
            f"a JAX model is a pure function, and nothing can be attached to a {type(model).__qualname__}",
            help="call raptr_jax.scan_blocks(block, stacked, x, mask) in its forward pass, or train the small "
            "transformer with BACKEND.trainer(plan, settings)",
        )

    def trainer(self, plan: Plan, settings: TrainSettings) -> Trainer:
        """The small transformer at the plan's shape, with AdamW."""
        from raptr_jax.train import JaxTrainer

        return JaxTrainer(self, plan, settings)


BACKEND: Backend = JaxBackend()
attach = BACKEND.attach
shape = BACKEND.shape

_HOMES = {
    **dict.fromkeys(("BlockMask", "block_mask", "scan_blocks", "stack", "unstack"), "raptr_jax.scan"),
    **dict.fromkeys(("Optimizer", "optimizer"), "raptr_jax.optim"),
}


def __getattr__(name: str) -> Any:
    """What needs jax is imported when it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "BACKEND",
    "BlockMask",
    "JaxBackend",
    "Optimizer",
    "attach",
    "block_mask",
    "optimizer",
    "scan_blocks",
    "shape",
    "stack",
    "unstack",
]
