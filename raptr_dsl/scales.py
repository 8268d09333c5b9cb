"""By what an active unit's output is multiplied (rules 29, 30). A new scale is one more entry of `SCALES`.

A factor is an exact rational, or the root of one: `Factors` holds it as it is written down, `evaluator` makes
float64 of it by one division and at most one IEEE root, the same on every machine. At full size each factor is 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Basis = Literal["one", "gap", "ratio", "chance"]
Evaluate = Callable[["NDArray[np.bool_]"], "NDArray[np.float64]"]
"""bool[sites, n] → float64[sites, n]: the factor of each active unit, 0 where it is off."""


@dataclass(frozen=True, slots=True)
class Scale:
    """One way to scale.

    Attributes:
        name: as a file says it.
        blocks, units: what the factor of a residual block, and of a unit of a per-block axis, is made of:
            `one`; `gap`, the distance to the next active block; `ratio`, n/k; `chance`, 1/p.
        rooted: whether the factor is the square root of that.
        learned: whether it is multiplied by a trained factor of each block, which begins at 1 (rule 31).
    """

    name: str
    blocks: Basis
    units: Basis
    rooted: bool = False
    learned: bool = False

    def basis(self, by_gap: bool) -> Basis:
        """By-gap axes (depth) look at the skipped units behind an active one, the others only at how many are on."""
        return self.blocks if by_gap else self.units


SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale("none", "one", "one"),
        Scale("sqrt", "gap", "ratio", rooted=True),
        Scale("sqrt_ratio", "ratio", "ratio", rooted=True),
        Scale("linear", "gap", "ratio"),
        Scale("inverse", "chance", "chance"),
        Scale("learned", "gap", "ratio", rooted=True, learned=True),
    )
}


@dataclass(frozen=True, slots=True)
class Factors:
    """Exact factors of one site: of each unit a, or a² where `squared`; 0 where it is off."""

    values: tuple[Fraction, ...]
    squared: bool


def factors(scale: str, by_gap: bool, on: Sequence[bool], marginals: Sequence[Fraction]) -> Factors:
    """The exact factors of a site whose units run as `on` says, each with the probability in `marginals`."""
    chosen, n = SCALES[scale], len(on)
    active = [unit for unit in range(n) if on[unit]]
    values = [Fraction(0)] * n
    for place, unit in enumerate(active):
        match chosen.basis(by_gap):
            case "one":
                values[unit] = Fraction(1)
            case "gap":
                following = active[place + 1] if place + 1 < len(active) else n
                values[unit] = Fraction(following - unit)
            case "ratio":
                values[unit] = Fraction(n, len(active))
            case "chance":
                values[unit] = 1 / marginals[unit]
    return Factors(tuple(values), chosen.rooted)


def evaluator(scale: str, by_gap: bool, marginals: Sequence[Fraction]) -> Evaluate:
    """The factors in float64, vectorised over sites; `marginals` are those of the units of a site."""
    import numpy as np

    chosen = SCALES[scale]
    match chosen.basis(by_gap):
        case "one":
            return _as_ones
        case "gap":
            return _by_gap(chosen.rooted)
        case "ratio":
            return _by_ratio(chosen.rooted)
        case "chance":
            # Correctly rounded quotients of integers of any size; below 2^−64 a unit is never on (rule 27).
            inverse = np.array([p.denominator / p.numerator if p * 2**64 >= 1 else 0.0 for p in marginals])
            factor = np.sqrt(inverse) if chosen.rooted else inverse
            return lambda on: np.where(on, factor, 0.0)


def _as_ones(on: NDArray[np.bool_]) -> NDArray[np.float64]:
    return on.astype("float64")


def _by_gap(rooted: bool) -> Evaluate:
    import numpy as np

    def evaluate(on: NDArray[np.bool_]) -> NDArray[np.float64]:
        n, size = on.shape[-1], on.size
        active = on.ravel().nonzero()[0]
        ends = np.empty(active.size + 1)
        ends[:-1], ends[-1] = active, size
        gaps = ends[1:] - ends[:-1]
        if size > n:  # the last active unit of a site looks at the site's end, not at the next site
            np.minimum(gaps, n - active % n, out=gaps)
        values = np.zeros(size)
        values[active] = np.sqrt(gaps) if rooted else gaps
        return values.reshape(on.shape)

    return evaluate


def _by_ratio(rooted: bool) -> Evaluate:
    import numpy as np

    def evaluate(on: NDArray[np.bool_]) -> NDArray[np.float64]:
        # Where nothing is on, any count does: there is nothing to scale.
        if on.size == on.shape[-1]:
            ratio = on.size / (int(np.count_nonzero(on)) or 1)
            return on * np.float64(math.sqrt(ratio) if rooted else ratio)
        ratios = on.shape[-1] / np.maximum(on.sum(-1, keepdims=True), 1)
        return on * (np.sqrt(ratios) if rooted else ratios)

    return evaluate
