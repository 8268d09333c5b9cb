"""What a sampling law is. A new law is one file in this folder that defines one subclass of `Law`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar

from raptr_dsl.ir.base import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Pool:
    """The units of a site among which a law chooses (rule 6).

    Attributes:
        n: all units of the site.
        keep: the units that are always on (the set I), sorted.
        size: how many units are on in all, kept ones included: whole under exact laws, the exact mean under random ones.
        weights: per unit of the site, the profile's weight w (rule 26); used by random laws only.
        probability: the keep probability where the file says `prob(x)` instead of a size.
    """

    n: int
    keep: tuple[int, ...]
    size: Fraction
    weights: tuple[Fraction, ...] | None = None
    probability: Fraction | None = None

    @property
    def units(self) -> tuple[int, ...]:
        """The pool: the units that are not kept, in order."""
        kept = frozenset(self.keep)
        return tuple(unit for unit in range(self.n) if unit not in kept)


@dataclass(frozen=True, slots=True)
class Draws:
    """What a law may look at when it chooses for D draws of one size within one segment (rules 17–25).

    Attributes:
        steps: int64[D], the absolute step at which each draw begins.
        index: int64[D], the number j of the draw within its segment.
        step_of: the step at which draw j of this segment begins, for an array of j.
        words: steps int64[D] → uint64[D, sites, n] unit words.
        last_words: steps int64[D] → uint64[D], the reserved word of each step.
        rounds: int64[D] or None: for `rotate` on a per-block axis while depth rotates, depth's round of each draw.
    """

    steps: NDArray[np.int64]
    index: NDArray[np.int64]
    step_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
    words: Callable[[NDArray[np.int64]], NDArray[np.uint64]]
    last_words: Callable[[NDArray[np.int64]], NDArray[np.uint64]]
    rounds: NDArray[np.int64] | None = None


class Law(Frozen, ABC):
    """How k of n units are chosen. A law's parameters are its pydantic fields; its name in a file is `law`.

    Class attributes:
        exact: exactly k units are on in every draw (else k is the mean, and the count varies).
        anchored: its draws depend on where their segment begins, so equal neighbouring stages are not one stage.
        summary: one line for documentation and messages.
    """

    exact: ClassVar[bool] = True
    anchored: ClassVar[bool] = False
    summary: ClassVar[str] = ""

    law: str

    def problems(self, pool: Pool) -> Sequence[str]:
        """Why this law cannot draw from that pool, in the user's words; empty when it can.

        Called with valid sizes only (rule 6): whole k with |keep| ≤ k under exact laws.
        """
        return ()

    @abstractmethod
    def marginals(self, pool: Pool) -> tuple[Fraction, ...]:
        """The probability that each of the n units is on (rule 28)."""

    @abstractmethod
    def select(self, pool: Pool, draws: Draws, sites: int) -> NDArray[np.bool_]:
        """bool[D, sites, n]: which units are on, kept ones included."""

    def counts(self, pool: Pool) -> tuple[int, int]:
        """The least and the greatest number of units that can be on at one site."""
        return int(pool.size), int(pool.size)
