"""raptr_reference: plans in plain NumPy and float64, obvious to read. What other backends are compared with."""

from __future__ import annotations

from typing import Any, NoReturn

from raptr_dsl.backend import Backend, Capabilities, Trainer, TrainSettings
from raptr_dsl.backend.protocol import FEATURES
from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.plan import Plan


class ReferenceBackend:
    """Implements `raptr_dsl.backend.Backend` but for models of others: NumPy has none."""

    name = "reference"
    capabilities = Capabilities(
        axes=frozenset({"depth", "heads", "width", "experts", "positions", "seq", "batch"}),
        scales=frozenset({"none", "sqrt", "sqrt_ratio", "linear", "inverse", "learned"}),
        idle=frozenset({"zero", "skip"}),
        dtypes=frozenset({"float64"}),
        attributes=FEATURES,
    )

    def shape(self, model: Any, **run: Any) -> NoReturn:
        """Refuses.

        Raises:
            RaptrError: `attach-model`.
        """
        raise _no_model(model)

    def attach(self, model: Any, plan: Plan, optimizer: Any = None) -> NoReturn:
        """Refuses.

        Raises:
            RaptrError: `attach-model`.
        """
        raise _no_model(model)

    def trainer(self, plan: Plan, settings: TrainSettings) -> Trainer:
        """The small transformer at the plan's shape, with AdamW."""
        from raptr_reference.train import ReferenceTrainer

        return ReferenceTrainer(self, plan, settings)


def _no_model(model: object) -> RaptrError:
    return fail(
        "attach-model",
        f"the reference backend trains its own small transformer only, and cannot take a {type(model).__qualname__}",
        help="use the backend of the framework that the model was made with",
    )


BACKEND: Backend = ReferenceBackend()

__all__ = ["BACKEND", "ReferenceBackend"]
