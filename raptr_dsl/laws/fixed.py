"""`fixed`: exactly k of n, uniformly, without replacement (rule 22)."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from raptr_dsl.laws.base import Draws, Law, Pool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Fixed(Law):
    summary: ClassVar[str] = "exactly k of n, uniformly, without replacement"

    law: Literal["fixed"] = "fixed"

    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        raise NotImplementedError

    def select(self, pool: Pool, draws: Draws, sites: int) -> NDArray[np.bool_]:
        raise NotImplementedError
