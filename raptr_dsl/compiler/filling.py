"""Whether the parts of a level fill it: no overrun, no gap, something left for `rest` (rules 9, 12).

What does not depend on the horizon is decided while lowering, the rest by `check_levels` once it is known.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.compiler.levels import Level, Summand, Total, add_up
from raptr_dsl.diagnostics import Diagnostics, Edit, Label
from raptr_dsl.ir.schedule import Duration
from raptr_dsl.wording import number_text, plural, share_text

MAX_LABELS = 3


class Horizon(NamedTuple):
    """The steps of the run, and the tokens of a step where they are known."""

    steps: Fraction
    step_tokens: int | None = None

    def steps_of(self, length: Duration | Total) -> Fraction:
        tokens = length.tokens / self.step_tokens if self.step_tokens else Fraction(0)
        return length.share * self.steps + length.steps + tokens


def check_levels(levels: Sequence[Level], diagnostics: Diagnostics, steps: int, step_tokens: int | None = None) -> bool:
    """Whether all levels are filled in a run of `steps` steps; if not, why is recorded."""
    horizon = Horizon(Fraction(steps), step_tokens)
    good = True
    for level in levels:
        total = add_up(level.summands(), diagnostics)
        good &= total is not None and check_filled(level, total, diagnostics, horizon)
    return good


def check_filled(level: Level, total: Total, diagnostics: Diagnostics, horizon: Horizon | None = None) -> bool:
    """Whether the parts fill the level; True also where that depends on a horizon which is not given."""
    if len(total.rests) > 1 or any(rest.times > 1 for rest in total.rests):
        _report_rests(total.rests, diagnostics)
        return False
    sign = _sign(total.left_of(level.length), horizon)
    if sign is None or (not sign and not total.rests):
        return True
    report = _Report(level, total, diagnostics, horizon)
    if total.rests:
        if sign > 0 or (not sign and level.may_be_empty):
            return True
        report.nothing_left()
    elif sign < 0:
        report.overrun()
    else:
        report.gap()
    return False


def _sign(length: Duration, horizon: Horizon | None) -> int | None:
    """The sign of a length, None where it depends on the horizon."""
    parts = (horizon.steps_of(length),) if horizon else (length.share, length.steps, length.tokens)
    signs = {(part > 0) - (part < 0) for part in parts} - {0}
    return None if len(signs) > 1 else signs.pop() if signs else 0


def _report_rests(rests: Sequence[Summand], diagnostics: Diagnostics) -> None:
    spec = rests[-1].spec
    if len(rests) == 1:
        diagnostics.add(
            "two-rests",
            f"this steps=rest comes {rests[0].times} times, and only one part can take what is left",
            spec.attribute.span,
            help="give the repeat its own time, as in repeat 3 steps=60%, or write a share here",
        )
        return
    diagnostics.add(
        "two-rests",
        "two stages take what is left" if len(rests) == 2 else f"{len(rests)} stages take what is left",
        spec.attribute.span,
        label="again here",
        related=[Label(rest.spec.attribute.span, "here") for rest in rests[:-1][:MAX_LABELS]],
        help="write a share on all but one of them",
    )


class _Report:
    """The words for a level that its parts do not fill."""

    def __init__(self, level: Level, total: Total, diagnostics: Diagnostics, horizon: Horizon | None) -> None:
        self.level, self.total, self.diagnostics, self.horizon = level, total, diagnostics, horizon
        self.summands = level.summands()
        self.in_shares = not (total.steps or total.tokens)
        # A file whose own shares do not add up is wrong wherever it is run: one mistake, however often it is.
        is_own = self.in_shares and not any(summand.spec.parametric for summand in self.summands)
        self.run = (Label(level.run, "run from here"),) if level.run and not is_own else ()

    def overrun(self) -> None:
        culprit = self._first_too_many()
        spec = self.summands[culprit].spec
        excess, is_last = self._excess(), culprit == len(self.summands) - 1
        help, fix = self._mend(culprit) if is_last else ("shorten this stage, or those around it", None)
        self.diagnostics.add(
            "stages-overrun",
            f"the stages add up to {self._text(self.total)} of {self._whole()}",
            spec.attribute.span,
            label=f"{excess} too much" if is_last else f"here they pass the end of {self.level.title}",
            related=(*self._labels(self.summands[:culprit]), *self.run),
            help=help,
            fix=fix,
        )

    def gap(self) -> None:
        last = len(self.summands) - 1
        help, fix = self._mend(last)
        self.diagnostics.add(
            "stages-gap",
            f"the stages add up to {self._text(self.total)} of {self._whole()}",
            self.summands[last].spec.attribute.span,
            label=f"{self._excess()} missing after this",
            related=(*self._labels(self.summands[:last]), *self.run),
            help=help,
            fix=fix,
        )

    def nothing_left(self) -> None:
        rest = self.total.rests[0].spec
        others = [summand for summand in self.summands if summand.spec is not rest]
        self.diagnostics.add(
            "stages-overrun",
            f"nothing is left for steps=rest: the other stages add up to {self._text(self.total)} of {self._whole()}",
            rest.attribute.span,
            label="nothing left",
            related=(*self._labels(others), *self.run),
            help="shorten the others, or leave this stage out",
        )

    def _first_too_many(self) -> int:
        """The part with which the sum passes the level's length."""
        total = Total()
        for number, summand in enumerate(self.summands):
            unit = summand.spec.unit
            total = total._replace(**{unit: getattr(total, unit) + summand.value})
            if (_sign(total.left_of(self.level.length), self.horizon) or 0) < 0:
                return number
        raise AssertionError("a level that is overrun has a part with which it is")

    def _mend(self, number: int) -> tuple[str, Edit | None]:
        """The duration with which one part would fill the level, where that is a short edit."""
        spec, times = self.summands[number]
        room = self._room(number)
        if room is not None and room <= 0:
            return "shorten the stages before this one", None
        if room is None or times > 1:
            return "write steps=rest here", None
        value = share_text(room) if spec.unit == "share" else str(room)
        fix = Edit(spec.attribute.value.span, value)
        return f"write steps={value} here, or steps=rest", fix

    def _room(self, number: int) -> Fraction | None:
        """What all other parts leave, in the unit of one part, if that unit can measure the level."""
        spec = self.summands[number].spec
        others = [summand for i, summand in enumerate(self.summands) if i != number]
        used = sum((summand.value for summand in others), Fraction(0))
        if any(summand.spec.unit != spec.unit for summand in others):
            return None
        if spec.unit == "share":
            return 1 - used
        whole = self._steps()
        if whole is None or spec.unit != "steps" or (whole - used).denominator != 1:
            return None
        return whole - used

    def _steps(self) -> Fraction | None:
        """The steps of the level, where they are known."""
        length = self.level.length
        if self.horizon is not None:
            return self.horizon.steps_of(length)
        return length.steps if not (length.share or length.tokens) else None

    def _whole(self) -> str:
        steps = self._steps()
        if self.in_shares or steps is None:
            return self.level.title
        return f"{self.level.title}, which has {plural(steps, 'step')}"

    def _excess(self) -> str:
        """By how much the parts miss the level's length, whichever way."""
        if self.in_shares:
            return share_text(abs(self.total.share - 1))
        steps = self._steps()
        if steps is None or (self.total.tokens and not self.horizon):
            return "something" if self.total.share < 1 else self._text(self.total._replace(share=self.total.share - 1))
        return plural(abs(self._in_steps(self.total, steps) - steps), "step")

    def _in_steps(self, total: Total, steps: Fraction) -> Fraction:
        tokens = self.horizon.step_tokens if self.horizon else None
        return total.share * steps + total.steps + (total.tokens / tokens if tokens else 0)

    def _text(self, total: Total) -> str:
        """A sum in the level's terms: `110%`, `60% and 1,000 steps`."""
        steps = self._steps()
        if not self.in_shares and steps is not None and not (self.total.tokens and not self.horizon):
            return plural(self._in_steps(total, steps), "step")
        words = [share_text(total.share)] if total.share else []
        words += [plural(total.steps, "step")] if total.steps else []
        words += [f"{number_text(total.tokens)} tokens"] if total.tokens else []
        return " and ".join(words) or "0%"

    def _labels(self, summands: Sequence[Summand]) -> list[Label]:
        """What each of some parts takes; of many parts, where they begin and what they take together."""
        timed = [summand for summand in summands if summand.spec.unit != "rest"]
        if len(timed) <= MAX_LABELS:
            return [Label(summand.spec.attribute.span, f"{self._taken([summand])} here") for summand in timed]
        return [Label(timed[0].spec.attribute.span, f"{len(timed)} stages from here on take {self._taken(timed)}")]

    def _taken(self, summands: Sequence[Summand]) -> str:
        total = add_up(summands, self.diagnostics)
        return "too much" if total is None else self._text(total)
