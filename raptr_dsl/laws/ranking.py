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

    kept = list(pool.keep)
    high_bits, units = np.full(pool.n, 2**64 - 1 - LOW_BITS, np.uint64), np.arange(pool.n, dtype=np.uint64)
    high_bits[kept] = units[kept] = 0

    def keys(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
        ranked = words & high_bits
        ranked |= units
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
        ranked &= low_bits
        return ranked[..., kept:].view(np.int64)

    return order


def switch_on(pool: Pool) -> Callable[[NDArray[np.intp], tuple[int, int, int]], NDArray[np.bool_]]:
    """(units intp[D, sites, q], shape) → bool[D, sites, n]: the kept units are on, and the given ones."""
    import numpy as np

    base = _mask(pool.n, pool.keep)

    def switched(units: NDArray[np.intp], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
        draws, sites, n = shape
        if draws * sites == 1:
            single = base.copy()
            single[units.ravel()] = True
            return single.reshape(shape)
        on = np.empty((draws * sites, n), np.bool_)
        on[...] = base
        on.ravel()[flat_index(units, shape)] = True
        return on.reshape(shape)

    return switched


def flat_index(units: NDArray[np.intp], shape: tuple[int, int, int]) -> NDArray[np.intp]:
    """Where units intp[D, sites, q] stand in a mask of that shape laid out flat: a third of the time of two indices."""
    import numpy as np

    draws, sites, n = shape
    return units + (np.arange(draws * sites) * n).reshape(draws, sites, 1)


def always(pool: Pool, chosen: tuple[int, ...]) -> Select:
    """Selects the kept units and `chosen` in every draw."""
    import numpy as np

    mask = _mask(pool.n, pool.keep + chosen)

    def select(draws: Draws) -> NDArray[np.bool_]:
        on = np.empty(draws.shape, np.bool_)
        on[...] = mask
        return on

    return select


def _mask(n: int, units: tuple[int, ...]) -> NDArray[np.bool_]:
    import numpy as np

    mask = np.zeros(n, np.bool_)
    mask[list(units)] = True
    return mask
