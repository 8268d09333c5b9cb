"""raptr_torch: runs plans on PyTorch. What it can do is known without importing torch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from raptr_dsl.backend import Backend, Capabilities, Trainer, TrainSettings
from raptr_dsl.backend.processes import Processes
from raptr_dsl.backend.protocol import FEATURES
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from raptr_torch.layouts import Layout
    from raptr_torch.runner import Runner


class TorchBackend:
    """Implements `raptr_dsl.backend.Backend`."""

    name = "torch"
    capabilities = Capabilities(
        axes=frozenset({"depth", "heads", "width", "experts", "positions", "seq", "batch"}),
        scales=frozenset({"none", "sqrt", "sqrt_ratio", "linear", "inverse", "learned"}),
        idle=frozenset({"zero", "skip"}),
        dtypes=frozenset({"float32", "bfloat16", "float64"}),
        attributes=FEATURES,
    )
    """Of `raptr train`; models that a plan is attached to have less, see `raptr_torch.apply`."""

    def shape(
        self,
        model: nn.Module,
        *,
        seq: int | None = None,
        source_seq: int | None = None,
        batch: int | None = None,
        head_share: Fraction | None = None,
    ) -> ModelShape:
        """The shape of a model, this package's or Hugging Face's; see `raptr_torch.shapes.shape`."""
        from raptr_torch.shapes import shape

        return shape(model, seq=seq, source_seq=source_seq, batch=batch, head_share=head_share)

    def attach(
        self,
        model: nn.Module,
        plan: Plan,
        optimizer: Optimizer | None = None,
        *,
        stacks: Sequence[str] | None = None,
        layout: Layout | None = None,
        example: Any = None,
    ) -> Runner:
        """Makes a model obey a plan; see `raptr_torch.apply.attach`."""
        from raptr_torch.apply import attach

        return attach(self, model, plan, optimizer, stacks=stacks, layout=layout, example=example)

    def processes(self) -> Processes:
        """Those that torchrun launched; see `raptr_torch.processes`."""
        from raptr_torch.processes import launched

        return launched()

    def trainer(self, plan: Plan, settings: TrainSettings) -> Trainer:
        """The small transformer at the plan's shape, with AdamW."""
        from raptr_torch.train import TorchTrainer

        return TorchTrainer(self, plan, settings)


_TORCH = TorchBackend()
BACKEND: Backend = _TORCH
attach = _TORCH.attach
shape = BACKEND.shape

__all__ = ["BACKEND", "TorchBackend", "attach", "shape"]
