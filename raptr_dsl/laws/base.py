"""What a sampling law is. A new law is one file in this folder that defines one subclass of `Law`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from raptr_dsl.ir.base import Frozen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from raptr_dsl.words import Words


@dataclass(frozen=True)
class Weights:
    """The weight w of every unit of a site (rule 26), of which `keep` are always on.

    One object serves every size along a curve: what is asked of it again and again is computed once.
    """

    values: tuple[Fraction, ...]
    keep: tuple[int, ...]

    @cached_property
    def total(self) -> Fraction:
        """The sum over the pool."""
        kept = frozenset(self.keep)
        return sum((weight for unit, weight in enumerate(self.values) if unit not in kept), Fraction(0))

    @cached_property
    def heaviest(self) -> int | None:
        """The unit of the pool with the greatest weight, the first of several; None in an empty pool."""
        kept = frozenset(self.keep)
        pool = (unit for unit in range(len(self.values)) if unit not in kept)
        return max(pool, key=self.values.__getitem__, default=None)

    @cached_property
    def negative(self) -> int | None:
        """The first unit whose weight is negative."""
        return next((unit for unit, weight in enumerate(self.values) if weight < 0), None)


@dataclass(frozen=True)
class Pool:
    """The units of a site among which a law chooses (rule 6).

    Attributes:
        n: all units of the site.
        keep: the units that are always on (the set I), ascending.
        size: k, how many units are on in all, kept ones included: whole under exact laws, else the exact mean.
        weights: of the profile, read by random laws; None where all are 1.
    """

    n: int
    keep: tuple[int, ...]
    size: Fraction
    weights: Weights | None = None

    @cached_property
    def units(self) -> tuple[int, ...]:
        """The pool: the units that are not kept, ascending; n′ of them."""
        kept = frozenset(self.keep)
        return tuple(unit for unit in range(self.n) if unit not in kept)

    @property
    def quota(self) -> Fraction:
        """k′: how many units of the pool are on."""
        return self.size - len(self.keep)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to choose: all units are on, or the kept ones alone."""
        return self.size == self.n or not self.quota

    def marginals(self, share: Fraction | None = None) -> tuple[Fraction, ...]:
        """1 for kept units, `share` (k′/n′ unless given) for the others."""
        if share is None:
            share = Fraction(self.quota, len(self.units) or 1)
        kept = frozenset(self.keep)
        one = Fraction(1)
        return tuple(one if unit in kept else share for unit in range(self.n))


@dataclass(slots=True)
class Draws:
    """Consecutive draws of one size within one segment (rules 17–25): D of them.

    Attributes:
        source: the words of the axis.
        steps: the absolute step at which each draw begins; its `step` is `every`.
        index: the number within the segment of the first of them.
        rounds: int64[D] where the turn of `rotate` is counted in depth's rounds (rule 24), else None.
        rows: uint64[D, …], the words of these draws, if they were made already.
    """

    source: Words
    steps: range
    index: int
    rounds: NDArray[np.int64] | None = None
    rows: NDArray[np.uint64] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, sites, n)."""
        count = len(self.steps) if self.rows is None else len(self.rows)
        return count, self.source.sites, self.source.units

    def words(self) -> NDArray[np.uint64]:
        """uint64[D, sites, n]: the word of every unit in every draw."""
        return self.source.of_units(self._rows())

    def reserved(self) -> NDArray[np.uint64]:
        """uint64[D]: the reserved word of every draw."""
        return self.source.reserved(self._rows())

    def words_of(self, index: range) -> NDArray[np.uint64]:
        """uint64[len(index), sites, n]: the words of the draws with these numbers within the segment."""
        every = self.steps.step
        origin = self.steps.start - self.index * every
        steps = range(origin + index.start * every, origin + index.stop * every, index.step * every)
        return self.source.of_units(self.source.rows(steps))

    def _rows(self) -> NDArray[np.uint64]:
        if self.rows is None:
            self.rows = self.source.rows(self.steps)
        return self.rows


Select = Callable[[Draws], "NDArray[np.bool_]"]
"""Draws → bool[D, sites, n]: which units are on, kept ones included. The array is the caller's to keep."""


class Law(Frozen, ABC):
    """How k of n units are chosen. A law's parameters are its pydantic fields; its name in a file is `law`.

    Class attributes:
        exact: exactly k units are on in every draw (else k is the mean, and the count varies).
        anchored: its draws depend on where their segment begins, so equal neighbouring stages are not one stage,
            and sizes cannot be drawn.
        varies: draws of one size differ, so that it matters how long one lasts.
        summary: one line for documentation and messages.
    """

    exact: ClassVar[bool] = True
    anchored: ClassVar[bool] = False
    varies: ClassVar[bool] = True
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
    def sampler(self, pool: Pool) -> Select:
        """The function that chooses from a pool that is not settled (see `Pool.is_settled`)."""

    def counts(self, pool: Pool) -> tuple[int, int]:
        """The least and the greatest number of units that can be on at one site."""
        return int(pool.size), int(pool.size)

    def spread(self, pool: Pool) -> tuple[Fraction, Fraction]:
        """The variance of the number of units that are on at one site, and its covariance with another site's."""
        if self.exact:
            return Fraction(0), Fraction(0)
        raise NotImplementedError(f"{self.law} does not say how its counts vary")

    def chances(self, pool: Pool) -> dict[int, Fraction]:
        """The probability of each number of units that can be on at one site."""
        if self.exact:
            return {int(pool.size): Fraction(1)}
        raise NotImplementedError(f"{self.law} does not say how likely its counts are")

    def round_length(self, pool: Pool) -> int | None:
        """After how many draws every unit of the pool has run equally often, by theorem; None where never surely."""
        return None
