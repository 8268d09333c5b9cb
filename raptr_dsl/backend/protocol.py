"""What a backend is: it applies plans and decides nothing.

Every choice (which unit, which factor, what the optimizer does with the rest) stands in the plan. A backend that
cannot do something says so in `capabilities`, and refuses at attach what it does not declare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from raptr_dsl.backend.settings import TrainSettings
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from raptr_dsl.backend.state import TrainerState


FEATURES = frozenset({"train", "freeze", "grow", "rewarm"})
"""Training some of the blocks that run, freezing other parts, copying blocks, a factor of the learning rate."""

SHARD_PARAMETERS = "shard-parameters"
"""The option of a trainer that splits parameters over devices; a field of `TrainSettings`."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can execute, by the language's own words.

    Attributes:
        attributes: of `FEATURES`, what a plan can ask for beyond masks, scales and what becomes of idle units.
        options: of a trainer, those that not every backend has: `SHARD_PARAMETERS`.
    """

    axes: frozenset[str]
    scales: frozenset[str]
    idle: frozenset[str]
    dtypes: frozenset[str]
    attributes: frozenset[str] = frozenset()
    options: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Batch:
    """The sequences of one optimizer step.

    Attributes:
        inputs: int64[batch, seq] tokens.
        positions: int64[batch, p] ascending positions that the head predicts, or None for all of them.
        targets: int64[batch, p] (or [batch, seq]) the tokens to predict there.
    """

    inputs: NDArray[np.int64]
    targets: NDArray[np.int64]
    positions: NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step reports: mean loss of the subnetwork that ran, gradient norm before clipping."""

    loss: float
    grad_norm: float


@dataclass(frozen=True, slots=True)
class Executed:
    """What was counted where it ran, over all steps so far: forward executions of units, and their FLOPs.

    `units[axis]` counts unit forwards per optimizer step summed over steps and sites: blocks, groups of heads of
    blocks that ran, groups of hidden units of blocks that ran. `flops` is exact at the plan's nominal shapes.
    `padded_flops` are no part of them: of what filled up a program's shapes (idle blocks in a bucket, rows in a tile of
    an expert), and was discarded.
    """

    units: Mapping[str, int]
    flops: int
    padded_flops: int = 0


class Trainer(Protocol):
    """One model with its optimizer and a plan; the training loop in `raptr_dsl.training` drives it."""

    def step(self, index: int, batch: Batch) -> StepResult:
        """Runs optimizer step `index` of the plan: forward, backward, clip, update."""
        ...

    def evaluate(self, batches: Sequence[Batch]) -> float:
        """The mean held-out loss of the full network, unscaled (rule 36)."""
        ...

    def executed(self) -> Executed:
        """The account of what ran since the run began, resumes included."""
        ...

    def save(self, folder: Path) -> None:
        """Writes weights, optimizer state, counts and random states into an existing, empty folder."""
        ...

    def load(self, folder: Path) -> None:
        """Restores what `save` wrote, to the bit."""
        ...

    def export_state(self) -> TrainerState:
        """Copies of weights, moments and counts by the names of `backend.network`, for any other backend."""
        ...

    def import_state(self, state: TrainerState) -> None:
        """Takes up what a trainer of the same shape exported; `backend.state.fitted` refuses what does not fit."""
        ...


@runtime_checkable
class Scattered(Protocol):
    """A trainer whose state may lie in parts on several processes."""

    def save_part(self, folder: Path) -> None:
        """Called in every process before process 0 calls `save` with that folder: writes what only this one has."""
        ...


class Runner(Protocol):
    """A plan attached to a model that somebody else trains."""

    @property
    def next_step(self) -> int:
        """The step that has to come next; a resumed run sets it."""
        ...

    @next_step.setter
    def next_step(self, step: int) -> None: ...

    def step(self, index: int) -> AbstractContextManager[Any]:
        """All micro-batches of optimizer step `index` run inside; the mask is fixed until it exits."""
        ...

    def full(self) -> AbstractContextManager[Any]:
        """Trains everything on purpose."""
        ...

    def detach(self) -> Any:
        """Gives the model back as it was."""
        ...


@runtime_checkable
class Backend(Protocol):
    """The entry point of a backend package: `BACKEND`, registered in the group `raptr_dsl.backends`."""

    name: str
    capabilities: Capabilities

    def shape(
        self,
        model: Any,
        *,
        seq: int | None = None,
        source_seq: int | None = None,
        batch: int | None = None,
        head_share: Fraction | None = None,
    ) -> ModelShape:
        """The shape of one of this framework's models; the words that say how it is trained, where it does not."""
        ...

    def attach(self, model: Any, plan: Plan, optimizer: Any = None) -> Runner:
        """Makes a model obey a plan, or raises `RaptrError` and leaves it as it was."""
        ...

    def trainer(self, plan: Plan, settings: TrainSettings) -> Trainer:
        """The small transformer of `backend.network` at the plan's shape, with its optimizer."""
        ...
