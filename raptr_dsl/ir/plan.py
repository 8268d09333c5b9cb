"""The plan: everything a backend needs, a pure function of schedule, model, horizon and seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from raptr_dsl.ir.base import Frozen
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AxisMask:
    """Which units of one axis run in one step, and by what their outputs are multiplied.

    Attributes:
        on: bool[sites, units].
        scale: float64[sites, units], the factor of each active unit, 0 where it is off (rules 29, 30).
        full: every unit is on, and every factor is 1: nothing is to be selected or multiplied.
    """

    on: NDArray[np.bool_]
    scale: NDArray[np.float64]
    full: bool

    def active(self, site: int = 0) -> NDArray[np.int64]:
        """int64[k]: the active units of a site, ascending."""
        return self.on[site].nonzero()[0]


@dataclass(frozen=True, slots=True)
class Step:
    """What runs in one optimizer step. An axis that is missing from `axes` runs in full, unscaled."""

    index: int
    stage: int
    axes: Mapping[str, AxisMask]


class Proven(Frozen):
    """A requirement that holds, with the value it was found to have."""

    text: str
    value: str


class Plan(Frozen):
    """Frozen, hashable, a few kilobytes of JSON; saved with `save`, read with `load_plan`.

    Attributes:
        stages: tile [0, steps) exactly.
        seed: of the masks. shape: of the model; see `ModelShape`.
    """

    format: Literal["raptr-plan-1"] = "raptr-plan-1"
    rng: Literal["philox4x64-10/raptr-mask-1"] = "philox4x64-10/raptr-mask-1"
    name: str
    doc: str | None = None
    seed: int = Field(ge=0, lt=2**64)
    shape: ModelShape
    steps: int = Field(ge=1)
    partial: bool = False
    stages: tuple[BoundStage, ...]
    proven: tuple[Proven, ...] = ()

    # Methods to come (see the issue): step, masks, flops, digest, checksum, boundaries, progress, clip,
    # first_difference, save, export; module function load_plan.
