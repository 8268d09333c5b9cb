"""Curves over a stage's own time, or over the units of a profile. A new curve is one more subclass of `Curve`.

Every curve goes from a to b as a + (b − a)·g(u) with g rising from g(0) = 0; a class says what g is. Values are
compared exactly, rational or not; nothing is decided by a float (rules 15, 16).
"""

from abc import ABC, abstractmethod
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Union

from pydantic import Field

from raptr_dsl.ir.base import Frozen


class Curve(Frozen, ABC):
    """The shape of a curve.

    Class attributes:
        parameter: the name of the number it takes after a and b; "" for none.
        half_open: whether u = t/T_s instead of t/(T_s − 1) (rule 15).
    """

    parameter: ClassVar[str] = ""
    half_open: ClassVar[bool] = False

    curve: str

    @abstractmethod
    def bounds(self, u: Fraction, bits: int) -> tuple[Fraction, Fraction]:
        """Rationals lo ≤ g(u) ≤ hi with hi − lo ≤ 2^−bits; equal where g(u) is rational."""


class Linear(Curve):
    """g(u) = u."""

    curve: Literal["linear"] = "linear"

    def bounds(self, u: Fraction, bits: int) -> tuple[Fraction, Fraction]:
        return u, u


CURVES: dict[str, type[Curve]] = {cls.model_fields["curve"].default: cls for cls in Curve.__subclasses__()}

if TYPE_CHECKING:
    AnyCurve = Curve
else:
    AnyCurve = Annotated[Union[tuple(CURVES.values())], Field(discriminator="curve")]
