"""What a plan says of one step, as arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class AxisMask:
    """Which units of one axis run in one step, and by what their outputs are multiplied.

    Attributes:
        on: bool[sites, units].
        scale: float64[sites, units], the factor of each active unit, 0 where it is off (rules 29, 30).
        full: every unit is on, and every factor is 1: nothing is to be selected or multiplied.
        trains: bool[sites, units], the units that the optimizer may touch (rule 33); None for all. A unit that is on
            and not among them runs forward and is left as it is; one that is off and not among them is left, too.
        learned: each factor is multiplied by a trained one (rule 31). Never where `full` is.
    """

    on: NDArray[np.bool_]
    scale: NDArray[np.float64]
    full: bool
    trains: NDArray[np.bool_] | None = None
    learned: bool = False

    def active(self, site: int = 0) -> NDArray[np.int64]:
        """int64[k]: the active units of a site, ascending."""
        return self.on[site].nonzero()[0]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """What runs in one optimizer step. An axis that is missing from `axes` runs in full, unscaled.

    Attributes:
        index: the absolute step, from 0. stage: the number of its stage in the plan, from 0.
        frozen: the parts outside the axes that are not trained: `embed`, `head`.
    """

    index: int
    stage: int
    axes: Mapping[str, AxisMask]
    frozen: frozenset[str] = frozenset()
