"""Rational bounds of irrational numbers, to any precision: integers scaled by 2^bits, lo ≤ x·2^bits ≤ hi.

The only floats are guesses that nothing depends on.
"""

from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from math import isqrt

GUARD_BITS = 24
"""More than the errors of a few hundred truncated operations."""


def exp_negative(x: Fraction, bits: int) -> tuple[int, int]:
    """e^(−x) for x ≥ 0."""
    # `Decimal.exp` is correctly rounded, and |e^(−x) − e^(−y)| ≤ |x − y| for x, y ≥ 0.
    context, one, _ = _decimals(bits + GUARD_BITS, len(str(x.numerator // x.denominator)))
    exponent = context.divide(Decimal(-x.numerator), Decimal(x.denominator))
    return _around(int(context.multiply(context.exp(exponent), one)), bits)


def power_of_two(x: Fraction, bits: int) -> tuple[int, int]:
    """2^x for 0 ≤ x ≤ 1, as e^(x·ln 2)."""
    context, one, ln2 = _decimals(bits + GUARD_BITS, 1)
    exponent = context.multiply(context.divide(Decimal(x.numerator), Decimal(x.denominator)), ln2)
    return _around(int(context.multiply(context.exp(exponent), one)), bits)


@cache
def _decimals(bits: int, whole_digits: int) -> tuple[Context, Decimal, Decimal]:
    """A context for numbers with that many digits before the point and `bits` behind it; 2^bits; ln 2."""
    fraction_digits = bits * 30103 // 100_000 + 2  # log₁₀ 2 = 0.30103
    context = Context(prec=whole_digits + fraction_digits, Emin=-(10**9), Emax=10**9)
    return context, Decimal(1 << bits), context.ln(Decimal(2))


def root(x: Fraction, degree: int, bits: int) -> tuple[int, int]:
    """x^(1/degree) for x ≥ 0."""
    value = integer_root((x.numerator << degree * bits) // x.denominator, degree)
    return value, value + 1


def sine_squared(x: Fraction, bits: int) -> tuple[int, int]:
    """sin²(π·x/2) for 0 ≤ x ≤ 1, as (1 − cos πx)/2."""
    if x > Fraction(1, 2):
        low, high = sine_squared(1 - x, bits)
        return (1 << bits) - high, (1 << bits) - low
    one = bits + GUARD_BITS
    angle = pi(one) * x.numerator // x.denominator
    square = angle * angle >> one
    term, total, index = square >> 1, 0, 2  # 1 − cos a = a²/2! − a⁴/4! + …
    while term:
        total += term
        term = term * square // ((index + 1) * (index + 2)) >> one
        index += 2
        total -= term
        term = term * square // ((index + 1) * (index + 2)) >> one
        index += 2
    return _around(total >> 1, bits)


@cache
def pi(bits: int) -> int:
    """⌊π·2^bits⌋, possibly a few units less. Source: Machin, π = 16 arctan 1/5 − 4 arctan 1/239."""
    work = bits + GUARD_BITS
    return 4 * (4 * _inverse_arctangent(5, work) - _inverse_arctangent(239, work)) >> GUARD_BITS


def _inverse_arctangent(x: int, bits: int) -> int:
    term = total = (1 << bits) // x
    divisor, sign = 1, 1
    while term:
        term //= x * x
        divisor, sign = divisor + 2, -sign
        total += sign * (term // divisor)
    return total


def integer_root(x: int, degree: int) -> int:
    """⌊x^(1/degree)⌋ for x ≥ 0."""
    if degree == 1 or x < 2:
        return x
    if degree == 2:
        return isqrt(x)
    guess = 1 << -(-x.bit_length() // degree)  # not below the root, from where Newton's method only falls
    while True:
        following = ((degree - 1) * guess + x // guess ** (degree - 1)) // degree
        if following >= guess:
            return guess
        guess = following


def exact_root(x: Fraction, degree: int) -> Fraction | None:
    """x^(1/degree) for x ≥ 0 where it is rational, else None."""
    top, bottom = integer_root(x.numerator, degree), integer_root(x.denominator, degree)
    if top**degree != x.numerator or bottom**degree != x.denominator:
        return None
    return Fraction(top, bottom)


def _around(value: int, bits: int) -> tuple[int, int]:
    """The bounds of a value that was computed with `GUARD_BITS` more, wrong by less than a quarter of 2^GUARD_BITS."""
    quarter = 1 << (GUARD_BITS - 2)
    return value - quarter >> GUARD_BITS, (value + quarter >> GUARD_BITS) + 1
