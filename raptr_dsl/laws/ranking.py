"""What laws share: rank keys (rule 21), and masks written in rank order."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from raptr_dsl.laws.base import Draws, Pool, Select

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LOW_BITS = 0xFFFF


def rank_keys(pool: Pool) -> Callable[[NDArray[np.uint64]], NDArray[np.uint64]]:
    """Words uint64[…, n] → keys uint64[…, n]: the word with its low 16 bits replaced by the unit; 0 if kept.

    A kept unit is thus below the whole pool. A word of zeros can give unit 0 of the pool the key 0 as well; it is
    then the pool's least, and equal keys read as the same unit, so no choice is changed by that.
    """
    import numpy as np

    high_bits = np.uint64(2**64 - 1 - LOW_BITS)
    units = np.arange(pool.n, dtype=np.uint64)
    kept = np.array(pool.keep, dtype=np.intp)

    def keys(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        ranked = words & high_bits
        ranked |= units
        if kept.size:
            ranked[..., kept] = 0
        return ranked

    return keys


def least(keys: NDArray[np.uint64], count: int) -> NDArray[np.bool_]:
    """bool[…, n]: the `count` least of the keys along the last axis."""
    partitioned = keys.copy()
    partitioned.partition(count - 1)
    return keys <= partitioned[..., count - 1 : count]


def ranked_units(pool: Pool) -> Callable[[NDArray[np.uint64]], NDArray[np.intp]]:
    """Words uint64[…, n] → intp[…, n′]: the pool's units in the order of their keys."""
    import numpy as np

    keys, kept, low_bits = rank_keys(pool), len(pool.keep), np.uint64(LOW_BITS)

    def order(words: NDArray[np.uint64]) -> NDArray[np.intp]:
        ranked = keys(words)
        ranked.sort()
        return (ranked[..., kept:] & low_bits).astype(np.intp)

    return order


def switched_on(pool: Pool, units: NDArray[np.intp], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """bool[D, sites, n]: the kept units and `units`, an intp[D, sites, …] of the same number of units in each."""
    import numpy as np

    draws, sites, n = shape
    on = np.zeros((draws * sites, n), np.bool_)
    on[:, list(pool.keep)] = True
    on[np.arange(draws * sites)[:, None], units.reshape(draws * sites, -1)] = True
    return on.reshape(shape)


def always(pool: Pool, chosen: tuple[int, ...]) -> Select:
    """Selects the kept units and `chosen` in every draw."""
    import numpy as np

    mask = np.zeros(pool.n, np.bool_)
    mask[list(pool.keep + chosen)] = True

    def select(draws: Draws) -> NDArray[np.bool_]:
        on = np.empty(draws.shape, np.bool_)
        on[...] = mask
        return on

    return select
