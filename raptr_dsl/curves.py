"""Curves over a stage's own time, or over the units of a profile. A new curve is one more subclass of `Curve`.

Every curve goes from a to b as a + (b − a)·g(u) with g rising from g(0) = 0; a class says what g is. Values are
compared exactly, rational or not; nothing is decided by a float (rules 15, 16).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from math import acos, ceil, floor, log1p, log2, pi
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

from pydantic import Field, field_validator

from raptr_dsl import enclosures
from raptr_dsl.ir.base import Frozen, Rational

VALUE_BITS = 256
"""Where a curve's value itself is kept, and not only compared, it is the nearest multiple of 2^−256."""

FIRST_BITS = 64
_MOST_DEGREE = 64


class Curve(Frozen, ABC):
    """The shape g of a curve, for 0 ≤ u ≤ 1.

    Class attributes:
        parameter: the name of the number it takes after a and b; "" for none.
        half_open: whether u = t/T_s instead of t/(T_s − 1) (rule 15).
    """

    parameter: ClassVar[str] = ""
    half_open: ClassVar[bool] = False

    curve: str

    @abstractmethod
    def exact(self, u: Fraction) -> Fraction | None:
        """g(u) where it is rational, None where it is surely not: only there can it equal what it is compared with."""

    def bounds(self, u: Fraction, bits: int) -> tuple[int, int]:
        """Integers lo ≤ g(u)·2^bits ≤ hi, at most a few apart, where `exact` has no value."""
        raise NotImplementedError(f"{self.curve} is rational everywhere")

    @abstractmethod
    def inverse(self, y: float) -> float:
        """About the u with g(u) = y, for 0 < y < 1: where to look first; nothing is decided by it."""

    def value(self, u: Fraction) -> Fraction:
        """g(u) where it is rational, else the nearest multiple of 2^−256."""
        exact = self.exact(u)
        if exact is not None:
            return exact
        bits = VALUE_BITS + FIRST_BITS
        while True:
            spare = bits - VALUE_BITS
            low, high = ((bound + (1 << (spare - 1))) >> spare for bound in self.bounds(u, bits))
            if low == high:
                return Fraction(low, 1 << VALUE_BITS)
            bits *= 2


class Linear(Curve):
    """g(u) = u."""

    curve: Literal["linear"] = "linear"

    def exact(self, u: Fraction) -> Fraction:
        return u

    def inverse(self, y: float) -> float:
        return y


class Cosine(Curve):
    """g(u) = (1 − cos πu)/2."""

    curve: Literal["cosine"] = "cosine"

    def exact(self, u: Fraction) -> Fraction | None:
        # Niven: the cosine of a rational multiple of π is rational at these places only.
        return _RATIONAL_COSINES.get(u)

    def bounds(self, u: Fraction, bits: int) -> tuple[int, int]:
        return enclosures.sine_squared(u, bits)

    def inverse(self, y: float) -> float:
        return acos(1 - 2 * y) / pi


_RATIONAL_COSINES = {
    Fraction(0): Fraction(0),
    Fraction(1, 3): Fraction(1, 4),
    Fraction(1, 2): Fraction(1, 2),
    Fraction(2, 3): Fraction(3, 4),
    Fraction(1): Fraction(1),
}


class Exp(Curve):
    """g(u) = 1 − e^(−rate·u): it comes near 1, and is not there at the end."""

    parameter: ClassVar[str] = "rate"
    half_open: ClassVar[bool] = True

    curve: Literal["exp"] = "exp"
    rate: Rational

    @field_validator("rate")
    @classmethod
    def _is_decay(cls, rate: Fraction) -> Fraction:
        if not 0 < rate <= 10**6:
            raise ValueError(f"rate={rate} is not between 0 and 1,000,000")
        return rate

    def exact(self, u: Fraction) -> Fraction | None:
        return None if u else Fraction(0)  # Lindemann: e^x is irrational for every rational x but 0

    def bounds(self, u: Fraction, bits: int) -> tuple[int, int]:
        low, high = enclosures.exp_negative(self.rate * u, bits)
        return (1 << bits) - high, (1 << bits) - low

    def inverse(self, y: float) -> float:
        return -log1p(-y) / float(self.rate)


class Exp2(Curve):
    """g(u) = 2ᵘ − 1."""

    curve: Literal["exp2"] = "exp2"

    def exact(self, u: Fraction) -> Fraction | None:
        return u if u.denominator == 1 else None  # on [0, 1], where 2ᵘ − 1 = u at both ends

    def bounds(self, u: Fraction, bits: int) -> tuple[int, int]:
        low, high = enclosures.power_of_two(u, bits)
        return low - (1 << bits), high - (1 << bits)

    def inverse(self, y: float) -> float:
        return log2(1 + y)


class Power(Curve, ABC):
    """g(u) = u^(p/q), p/q in lowest terms."""

    parameter: ClassVar[str] = "n"

    n: Rational

    @field_validator("n")
    @classmethod
    def _is_degree(cls, n: Fraction) -> Fraction:
        if not (0 < n.numerator <= _MOST_DEGREE and n.denominator <= _MOST_DEGREE):
            raise ValueError(f"n={n} is not a positive number with terms up to {_MOST_DEGREE}")
        return n

    @property
    @abstractmethod
    def exponent(self) -> Fraction: ...

    def exact(self, u: Fraction) -> Fraction | None:
        root = enclosures.exact_root(u, self.exponent.denominator)
        return None if root is None else root**self.exponent.numerator

    def bounds(self, u: Fraction, bits: int) -> tuple[int, int]:
        return enclosures.root(u**self.exponent.numerator, self.exponent.denominator, bits)

    def inverse(self, y: float) -> float:
        return y ** float(1 / self.exponent)


class Poly(Power):
    """g(u) = uⁿ."""

    curve: Literal["poly"] = "poly"

    @property
    def exponent(self) -> Fraction:
        return self.n


class Root(Power):
    """g(u) = u^(1/n)."""

    curve: Literal["root"] = "root"

    @property
    def exponent(self) -> Fraction:
        return 1 / self.n


class Cbrt(Curve):
    """g(u) = (∛(c³ + (1 − c³)·u) − c)/(1 − c), c = begin: the cube root of time, of which c³ is over when it begins.

    What is linear from c to 1 and cubed, as the times at which FreezeOut's layers stop (Brock et al. 2017, arXiv
    1706.04983), happens along it.
    """

    parameter: ClassVar[str] = "begin"
    half_open: ClassVar[bool] = True

    curve: Literal["cbrt"] = "cbrt"
    begin: Rational

    @field_validator("begin")
    @classmethod
    def _is_before_the_end(cls, begin: Fraction) -> Fraction:
        if not 0 <= begin < 1:
            raise ValueError(f"begin={begin} is not at least 0 and less than 1")
        return begin

    def exact(self, u: Fraction) -> Fraction | None:
        root = enclosures.exact_root(self._time(u), 3)
        return None if root is None else (root - self.begin) / (1 - self.begin)

    def bounds(self, u: Fraction, bits: int) -> tuple[int, int]:
        stretched = 1 / (1 - self.begin)
        finer = bits + ceil(stretched).bit_length()  # what is uncertain is stretched too
        low, high = (Fraction(bound, 1 << finer) for bound in enclosures.root(self._time(u), 3, finer))
        first, last = ((bound - self.begin) * stretched * (1 << bits) for bound in (low, high))
        return floor(first), ceil(last)

    def inverse(self, y: float) -> float:
        begin = float(self.begin)
        return ((begin + (1 - begin) * y) ** 3 - begin**3) / (1 - begin**3)

    def _time(self, u: Fraction) -> Fraction:
        return self.begin**3 + (1 - self.begin**3) * u


def _final(base: type[Curve]) -> Iterator[type[Curve]]:
    """The classes below one that are curves themselves, not families of curves."""
    for cls in base.__subclasses__():
        if "curve" in cls.model_fields and not cls.model_fields["curve"].is_required():
            yield cls
        yield from _final(cls)


CURVES: dict[str, type[Curve]] = {cls.model_fields["curve"].default: cls for cls in _final(Curve)}

if TYPE_CHECKING:
    AnyCurve = Curve
else:
    AnyCurve = Annotated[Union[tuple(CURVES.values())], Field(discriminator="curve")]  # noqa: UP007 - a computed one
