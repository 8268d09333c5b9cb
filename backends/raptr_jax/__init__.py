"""raptr_jax: plans on JAX. What it can do is known without importing jax."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from raptr_dsl.backend import Capabilities, Trainer, TrainSettings
from raptr_dsl.backend.processes import Processes
from raptr_dsl.backend.protocol import FEATURES, SHARD_PARAMETERS
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from raptr_jax.mesh import by_batch, data_mesh, gathered, place, replicate, shardings
    from raptr_jax.model import Transformer
    from raptr_jax.optim import Optimizer, optimizer
    from raptr_jax.runner import Runner
    from raptr_jax.scan import BlockMask, block_mask, scan_blocks, stack, unstack


class JaxBackend:
    """Implements `raptr_dsl.backend.Backend`.

    Args:
        mesh: the devices of a trainer; see `raptr_jax.train.JaxTrainer`.
    """

    name = "jax"
    capabilities = Capabilities(
        axes=frozenset({"depth", "heads", "width", "experts", "positions", "seq", "batch"}),
        scales=frozenset({"none", "sqrt", "sqrt_ratio", "linear", "inverse", "learned"}),
        idle=frozenset({"zero", "skip"}),
        dtypes=frozenset({"float32", "bfloat16", "float64"}),
        attributes=FEATURES,
        options=frozenset({SHARD_PARAMETERS}),
    )
    """Of `raptr train`; a loop of somebody else's has less, see `raptr_jax.runner`."""

    def __init__(self, mesh: Mesh | None = None) -> None:
        self.mesh = mesh

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

    def attach(self, model: Any, plan: Plan, optimizer: Any = None) -> Runner:
        """Masks and an audit for a loop of somebody's own; see `raptr_jax.runner.Runner`.

        Args:
            model: the stacked parameters of its blocks, or their shapes; a model itself is a pure function, which
                calls `raptr_jax.scan_blocks`.
            optimizer: made by `raptr_jax.optimizer`, to be asked whether it can do what the plan says of idle parts.

        Raises:
            RaptrError: `attach-model`: it is no stack of parameters, or no such optimizer. `attach-shape`,
                `attach-uneven`, `block-stack`, `optimizer-idle-zero`, `optimizer-idle-rows`.
        """
        from raptr_jax.runner import attach

        return attach(self, model, plan, optimizer)

    def trainer(self, plan: Plan, settings: TrainSettings) -> Trainer:
        """The small transformer at the plan's shape, with AdamW, on all devices of all processes unless told."""
        from raptr_jax.train import JaxTrainer

        return JaxTrainer(self, plan, settings, self.mesh)

    def processes(self) -> Processes:
        """The processes under `jax.distributed`, which is begun where several were launched."""
        from raptr_jax.processes import launched

        return launched()


BACKEND = JaxBackend()
attach = BACKEND.attach
shape = BACKEND.shape

_HOMES = {
    **dict.fromkeys(("BlockMask", "block_mask", "scan_blocks", "stack", "unstack"), "raptr_jax.scan"),
    **dict.fromkeys(("by_batch", "data_mesh", "gathered", "place", "replicate", "shardings"), "raptr_jax.mesh"),
    **dict.fromkeys(("Optimizer", "optimizer"), "raptr_jax.optim"),
    "Runner": "raptr_jax.runner",
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
    "Runner",
    "attach",
    "block_mask",
    "by_batch",
    "data_mesh",
    "gathered",
    "optimizer",
    "place",
    "replicate",
    "scan_blocks",
    "shape",
    "shardings",
    "stack",
    "unstack",
]
