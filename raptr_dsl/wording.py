"""Numbers in the words of messages, reports and options."""

import re
from fractions import Fraction

_SHARE = re.compile(r"[0-9]{1,40}([./][0-9]{1,40})?")
"""No exponents: `Fraction` would write out `1e999999999` in full."""


def share_text(share: Fraction) -> str:
    """`75%`, `12.5%`; a fraction where no short percentage is exact (`5/12`)."""
    percent = share * 100
    for places in (0, 1, 2):
        scaled = percent * 10**places
        if scaled.denominator == 1:
            return f"{float(percent):.{places}f}%"
    return f"{share.numerator}/{share.denominator}"


def number_text(number: Fraction) -> str:
    """A whole number with thousands apart (`675,000`), else to four digits, marked as rounded (`≈ 7.333`)."""
    if number.denominator == 1:
        return f"{number.numerator:,}"
    return f"≈ {float(number):.4g}"


def plural(count: int | Fraction, noun: str) -> str:
    """`1 step`, `2 steps`, `2 groups of heads`."""
    head, of, rest = noun.partition(" of ")
    return f"{number_text(Fraction(count))} {head if count == 1 else head + 's'}{of}{rest}"


def parse_share(text: str) -> Fraction | None:
    """`75%`, `3/4` or `0.75`, as options and TOML files write it; None if it is none of these."""
    number, is_percentage = text.strip().removesuffix("%"), text.strip().endswith("%")
    if not _SHARE.fullmatch(number):
        return None
    try:
        return Fraction(number) / (100 if is_percentage else 1)
    except ZeroDivisionError:
        return None
