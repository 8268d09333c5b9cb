"""The words for holes: their solution, or why there is none."""

from collections.abc import Sequence
from fractions import Fraction

from raptr_dsl.compiler.solving.durations import Undecided
from raptr_dsl.compiler.solving.holes import Hole
from raptr_dsl.compiler.solving.trial import Bench, Trial
from raptr_dsl.compiler.verify import metric_text, value_text
from raptr_dsl.diagnostics import Diagnostics, Edit, Label
from raptr_dsl.ir.schedule import Requirement
from raptr_dsl.wording import share_text

SHORT = 1000
"""A share with a larger denominator is written as a count of steps where that is whole."""


def written(bench: Bench, number: int, trial: Trial) -> str:
    """The value of a hole as a file writes it: `6/12`, `37.5%`, `168750`."""
    value = trial.values[number]
    if bench.holes[number].axis:
        units = bench.units(number)
        return f"{value * units}/{units}"
    room = bench.rooms[number]
    share, steps = share_text(value), value * room.steps
    is_long = value.denominator > SHORT and not share.endswith("%")
    return str(steps) if steps.denominator == 1 and (room.in_counts or is_long) else share


class Told:
    """Records what became of the holes of one file."""

    def __init__(self, holes: Sequence[Hole], diagnostics: Diagnostics, bench: Bench | None = None) -> None:
        self.holes, self.diagnostics = holes, diagnostics
        self._bench = bench

    @property
    def bench(self) -> Bench:
        assert self._bench is not None, "there is one as soon as values are tried"
        return self._bench

    # --- values -------------------------------------------------------------------------------------------

    def text(self, number: int, trial: Trial) -> str:
        return written(self.bench, number, trial)

    def values(self, trial: Trial) -> str:
        """`depth=6/12, steps=50%`."""
        return ", ".join(f"{hole.name}={self.text(number, trial)}" for number, hole in enumerate(self.holes))

    # --- outcomes -----------------------------------------------------------------------------------------

    def solved(self, edits: Sequence[Edit]) -> None:
        for hole, edit in zip(self.holes, edits, strict=True):
            self.diagnostics.add(
                "hole-solved",
                f"{hole.name}=? is {edit.text}",
                hole.attribute.span,
                help="raptr solve --write writes it into the file",
                fix=edit,
                severity="note",
            )

    def needs_model(self) -> None:
        hole = self.holes[0]
        self._add(
            "hole-needs-model",
            f"{hole.name}=? is solved for a model and a number of steps, and nothing says which",
            help="write `model bert-base` and `steps 675k` in the file, or give --model and --steps",
        )

    def no_room(self, number: int) -> None:
        share = 1 - self.bench.rooms[number].share
        self._add(
            "hole-infeasible",
            f"nothing is left for {self.holes[number].name}=?: the others take {share_text(share)}",
            number,
            help="shorten the other stages",
        )

    def too_many(self) -> None:
        self._add(
            "hole-limit",
            f"these {len(self.holes)} holes can be filled in too many ways to try them all",
            help="write out one of them",
        )

    def several(self, trial: Trial, rival: Trial) -> None:
        self._ambiguous(
            [f"{self.values(one)}: {self._requirements(one)}" for one in (trial, rival)],
            "write out one of the holes, or require something that tells the solutions apart: mean(depth) == 75%",
        )

    def unsolved(self, undecided: Undecided | None) -> None:
        if undecided is None:
            self._infeasible()
        elif undecided.unbounded is None or self.bench.dependent:
            self._ambiguous(
                [],
                "write out one of the holes, or add a requirement with ==",
            )
        elif not undecided.touched:
            self.untouched(undecided.unbounded)
        else:
            self._unbounded(undecided)

    def _ambiguous(self, notes: Sequence[str], help: str) -> None:
        bench = self.bench
        count = sum(
            requirement.op == "==" and low != high  # else it says nothing of the holes
            for requirement, (low, high) in zip(bench.requirements, bench.ranges, strict=True)
        )
        levels = len(bench.dependent)
        equations = [f"{count} with =="] if count else []
        equations += [f"{levels} by what the stages add up to"] if levels else []
        self._add(
            "hole-ambiguous",
            f"{_number(len(self.holes), 'hole')} and {_number(count + levels, 'equation')}"
            + (f" ({', '.join(equations)})" if equations else "")
            + ": many values meet the requirements, and none is the best",
            help=help,
            notes=notes,
        )

    def untouched(self, number: int) -> None:
        requirements = self.bench.requirements
        self._add(
            "hole-undecided",
            f"no requirement says anything of {self.holes[number].name}=?"
            if requirements
            else f"nothing says what {self.holes[number].name}=? is: the file requires nothing",
            number,
            help="add one, such as require flops <= 75%, or write the value",
        )

    def _unbounded(self, undecided: Undecided) -> None:
        number = undecided.unbounded or 0
        extreme = "takes all the time there is" if undecided.takes_all else "takes no time at all"
        self._add(
            "hole-undecided",
            f"the schedule of most FLOPs is the one in which {self.holes[number].name}=? {extreme}",
            number,
            help="require something that this breaks, such as a lower budget of flops, or write the value",
        )

    def _infeasible(self) -> None:
        nearest = self.bench.nearest
        holes = " and ".join(dict.fromkeys(f"{hole.name}=?" for hole in self.holes))
        if nearest is None:
            self._add(
                "hole-infeasible",
                f"no value of {holes} fits the model and the run",
                notes=[f"the last one tried: {item.message}" for item in self.bench.mistakes[:1]],
                help="change what stands around it",
            )
            return
        self._add(
            "hole-infeasible",
            f"no value of {holes} meets the requirements",
            help=f"nearest is {self.values(nearest)}: there {self._misses(nearest)}",
            notes=self._ranges(),
        )

    # --- facts --------------------------------------------------------------------------------------------

    def _requirements(self, trial: Trial) -> str:
        found = [
            f"{metric_text(requirement)} is {_value(requirement, answer)}"
            for requirement, answer in zip(self.bench.requirements, trial.answers, strict=True)
        ]
        return ", ".join(found)

    def _misses(self, trial: Trial) -> str:
        missed = [
            f"{metric_text(requirement)} is {_value(requirement, answer)}, not "
            f"{requirement.op} {_value(requirement, requirement.value.value)}"
            for requirement, answer, holds in zip(self.bench.requirements, trial.answers, trial.holds, strict=True)
            if not holds
        ]
        return " and ".join(missed)

    def _ranges(self) -> list[str]:
        """What each requirement's metric was, over all values tried."""
        return [
            f"{metric_text(requirement)} is between {_value(requirement, low)} and {_value(requirement, high)} "
            "in what was tried"
            for requirement, (low, high) in zip(self.bench.requirements, self.bench.ranges, strict=True)
            if low != high
        ]

    def _add(self, code: str, message: str, number: int = 0, *, help: str = "", notes: Sequence[str] = ()) -> None:
        others = [hole for i, hole in enumerate(self.holes) if i != number]
        self.diagnostics.add(
            code,
            message,
            self.holes[number].attribute.span,
            related=[Label(hole.attribute.span, "and this one") for hole in others[:3]],
            help=help,
            notes=notes,
        )


def _value(requirement: Requirement, value: Fraction) -> str:
    return value_text(value, not requirement.value.is_count)


def _number(count: int, noun: str) -> str:
    words = ("no", "one", "two", "three", "four")
    return f"{words[count] if count < len(words) else count} {noun}{'' if count == 1 else 's'}"
