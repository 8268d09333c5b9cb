"""The contract between plans and frameworks."""

from raptr_dsl.backend.protocol import Backend, Batch, Capabilities, Executed, Runner, Scattered, StepResult, Trainer
from raptr_dsl.backend.settings import TrainSettings

__all__ = [
    "Backend",
    "Batch",
    "Capabilities",
    "Executed",
    "Runner",
    "Scattered",
    "StepResult",
    "TrainSettings",
    "Trainer",
]
