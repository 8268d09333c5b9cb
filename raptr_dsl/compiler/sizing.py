"""Sizes → units of one model: what a stage's rule means along one axis (rules 4–7, 15, 16)."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor
from typing import Literal

from raptr_dsl.axes import Axis, Space
from raptr_dsl.compiler.origins import Origin
from raptr_dsl.diagnostics import Diagnostics, Severity
from raptr_dsl.ir.bound import Border
from raptr_dsl.ir.schedule import Amount, Drawn, Exactly, Probability, Rounding, Size, Varying
from raptr_dsl.staircases import staircase
from raptr_dsl.wording import number_text, plural, share_text

FINENESS = 1024
"""Under random laws a curve moves in steps of 1/1024 of the axis (rule 16)."""


@dataclass(frozen=True, slots=True)
class Sized:
    """A bound size: a staircase, in units or as probabilities, or the sizes that a draw chooses from."""

    borders: tuple[Border, ...] = ()
    measure: Literal["units", "probability"] = "units"
    choices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sizer:
    """Binds sizes of one axis for one stage of `steps` steps whose draws last `every` steps."""

    axis: Axis
    space: Space
    exact: bool
    kept: int
    steps: int
    every: int
    origin: Origin
    diagnostics: Diagnostics

    def bind(self, size: Size) -> Sized | None:
        """The size in units, or None with what is wrong with it recorded."""
        match size:
            case Exactly(amount=amount, rounding=rounding):
                units = self._units(amount, rounding)
                return None if units is None else Sized((Border(offset=0, value=units),))
            case Varying():
                return self._varying(size)
            case Probability():
                return self._probability(size)
            case Drawn():
                return self._drawn(size)

    def _units(self, amount: Amount, rounding: Rounding) -> Fraction | None:
        """A single size; whole under exact laws, and in the range that the kept units leave."""
        units = self._scaled(amount)
        if units is None:
            return None
        if rounding != "exact":
            units = Fraction(round_units(units, rounding))
        if self.exact and units.denominator != 1:
            self._not_whole(amount, units)
            return None
        if not self._in_range(units):
            return None
        self._warn_of_denominator()
        return units

    def _scaled(self, amount: Amount) -> Fraction | None:
        """An amount in units, not yet whole: a share of the axis, or a count that is a multiple of the group."""
        if not amount.is_count:
            return amount.value * self.space.units
        units = amount.value / self.space.group
        if units.denominator == 1:
            return units
        below, above = floor(units) * self.space.group, ceil(units) * self.space.group
        sizes = f"{self.axis.name}={above}" + (f" or {self.axis.name}={below}" if below else "")
        self._say(
            "not-a-multiple",
            f"{plural(amount.value, self.axis.element)} {'is' if amount.value == 1 else 'are'} no multiple of "
            f"{self.space.group}, the size of one {self.axis.unit}",
            help=f"write {'100%, if 1 is to be the whole, or ' if amount.value == 1 else ''}{sizes}",
        )
        return None

    def _not_whole(self, amount: Amount, units: Fraction) -> None:
        n = self.space.units
        nearest = [k for k in (floor(units), ceil(units)) if 1 <= k <= n]
        written = self.origin.text or str(amount.value)
        is_spread = ".." in written or written.endswith(")")  # one size of a ramp, which a single value would end
        self._say(
            "not-whole",
            f"{self.origin.text or share_text(amount.value)} of {plural(n, self.axis.unit)} is {units}, "
            "not a whole number",
            label=f"{n} times {amount.value} = {units}",
            help=f"write {self.axis.name}="
            + (
                f"round({written}), other ends, or another number of stages"
                if is_spread
                else f"{' or '.join(f'{k}/{n}' for k in nearest)}, or {self.axis.name}=round({written})"
            ),
        )

    def _in_range(self, units: Fraction) -> bool:
        n, name = self.space.units, self.axis.name
        if units > n:
            written, there = plural(units * self.space.group, self.axis.element), n * self.space.group
            self._say("size-too-large", f"{written} are more than the model's {there:,}", f"write {name}=all")
        elif units < 1:
            self._say(
                "size-too-small",
                f"no {self.axis.unit} would be on" if units <= 0 else f"{units} {self.axis.unit} is less than one",
                f"write at least {name}={self.space.group}",
            )
        elif units < self.kept:
            self._say(
                "size-below-keep",
                f"keep holds {plural(self.kept, self.axis.unit)} always on, more than the {units} of this stage",
                f"write at least {name}={self.kept * self.space.group}, or keep fewer",
            )
        else:
            return True
        return False

    def _say(self, code: str, message: str, help: str = "", label: str = "", severity: Severity = "error") -> None:
        """Records a fact about the size as written, with the runs and repeats that brought it here."""
        self.diagnostics.add(
            code, message, self.origin.span, label=label, related=self.origin.chain, help=help, severity=severity
        )

    def _varying(self, size: Varying) -> Sized | None:
        self._warn_of_denominator()
        if size.start.is_count != size.stop.is_count:
            self._say(
                "count-and-share",
                f"{self.origin.text} runs between a count and a share: the whole number is "
                f"{plural((size.start if size.start.is_count else size.stop).value, self.axis.element)}",
                help="write both as shares (100% for the whole) or both as counts",
                severity="warning",
            )
        start, stop = self._scaled(size.start), self._scaled(size.stop)
        if start is None or stop is None:
            return None
        fineness = 1 if self.exact or size.rounding != "nearest" else Fraction(FINENESS, self.space.units)
        levels = staircase(size.curve, start * fineness, stop * fineness, self.steps, self.every, size.rounding)
        borders = tuple(Border(offset=offset, value=level / Fraction(fineness)) for offset, level in levels)
        ends = (min(border.value for border in borders), max(border.value for border in borders))
        return Sized(borders) if all(self._in_range(end) for end in dict.fromkeys(ends)) else None

    def _probability(self, size: Probability) -> Sized:
        if size.curve is None or size.stop is None:
            return Sized((Border(offset=0, value=size.start),), "probability")
        levels = staircase(size.curve, size.start * FINENESS, size.stop * FINENESS, self.steps, self.every, "nearest")
        return Sized(
            tuple(Border(offset=offset, value=Fraction(level, FINENESS)) for offset, level in levels),
            "probability",
        )

    def _drawn(self, size: Drawn) -> Sized | None:
        units = [self._units(amount, "exact") for amount in size.amounts]
        if any(number is None for number in units):
            return None
        if any(number.denominator != 1 for number in units if number is not None):
            self._say("not-whole", f"{self.origin.text} does not draw whole numbers of units", "write whole sizes")
            return None
        whole = [int(number) for number in units if number is not None]
        if size.is_range:
            low, high = whole[0], whole[-1]
            whole = list(range(min(low, high), max(low, high) + 1))
        return Sized(choices=tuple(whole))

    def _warn_of_denominator(self) -> None:
        """A share written in twelfths still binds to 16 blocks, but says more than its author knew (rule 2)."""
        for denominator in self.origin.denominators:
            if self.space.units % denominator and (self.space.units * self.space.group) % denominator:
                self._say(
                    "denominator-does-not-divide",
                    f"{self.origin.text} is written in parts of {denominator}, which does not divide "
                    f"{number_text(Fraction(self.space.units))} {self.axis.unit}s",
                    severity="warning",
                )


def round_units(units: Fraction, rounding: Rounding) -> int:
    """To a whole number of units: the nearest, ties up, or as the file asks."""
    match rounding:
        case "floor":
            return floor(units)
        case "ceil":
            return ceil(units)
        case _:
            return floor(units + Fraction(1, 2))
