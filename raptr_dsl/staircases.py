"""Curves as whole units over the steps of a stage: where each level begins, exactly (rules 15–17)."""

from fractions import Fraction
from math import ceil, floor

from raptr_dsl.curves import FIRST_BITS, Curve


def staircase(
    curve: Curve, start: Fraction, stop: Fraction, steps: int, every: int = 1, rounding: str = "nearest"
) -> list[tuple[int, int]]:
    """The whole levels that a curve takes over a stage, each with the offset at which it begins (rules 16, 17).

    Args:
        start, stop: a and b, in levels.
        steps, every: of the stage and of a draw; a level holds from a draw's first step.
        rounding: `nearest` (ties up), `floor` or `ceil`.

    Its time grows with the number of levels, not of steps.
    """
    if rounding == "ceil":
        return [(offset, -level) for offset, level in staircase(curve, -start, -stop, steps, every, "floor")]
    shift = Fraction(1, 2) if rounding == "nearest" else Fraction(0)
    climb = _Climb(curve, start + shift, stop - start, steps, every)
    draw, borders = 0, [(0, climb.level(0))]
    while (draw := climb.next_change(draw)) < climb.draws:
        borders.append((draw * every, climb.level(draw)))
    return borders


class _Climb:
    """⌊base + rise·g⌋ at the draws of a stage: never falling if rise ≥ 0, else never rising."""

    def __init__(self, curve: Curve, base: Fraction, rise: Fraction, steps: int, every: int) -> None:
        self._curve, self._base, self._rise, self._every = curve, base, rise, every
        self._last = steps if curve.half_open else steps - 1
        self.draws = -(-steps // every)
        self._known: dict[int, int] = {}

    def level(self, draw: int) -> int:
        """The level in a draw, exactly."""
        level = self._known.get(draw)
        if level is None:
            level = self._known[draw] = self._level(Fraction(draw * self._every, self._last) if self._last else _END)
        return level

    def _level(self, u: Fraction) -> int:
        exact = self._curve.exact(u)
        if exact is not None:
            return floor(self._base + self._rise * exact)
        # base + rise·g, both bounds over the denominator common·2^bits.
        base, rise = self._base, self._rise
        common = base.denominator * rise.denominator
        offset, factor = base.numerator * rise.denominator, rise.numerator * base.denominator
        bits = FIRST_BITS
        while True:
            low, high = (
                ((offset << bits) + factor * bound) // (common << bits) for bound in self._curve.bounds(u, bits)
            )
            if low == high:
                return low
            bits *= 2

    def next_change(self, draw: int) -> int:
        """The first draw after this one with another level; `draws` if there is none."""
        level = self.level(draw)
        if draw + 1 >= self.draws or self.level(self.draws - 1) == level:
            return self.draws
        same, other = draw, self.draws - 1  # what is sought lies in (same, other]
        # The guess is nearly always right or one off; growing strides and then halving find it wherever it is.
        place, stride = self._guess(level), 1
        while other - same > 1:
            if not same < place < other:
                place = (same + other) // 2
            if self.level(place) == level:
                same, place = place, place + stride
            else:
                other, place = place, place - stride
            stride *= 2
        return other

    def _guess(self, level: int) -> int:
        """About the draw at which the curve leaves a level, by floats."""
        border = level + 1 if self._rise > 0 else level
        y = float((border - self._base) / self._rise)
        u = self._curve.inverse(min(max(y, 0.0), 1 - 2**-53))
        return ceil(u * self._last / self._every)


_END = Fraction(1)
