"""The smallest edit that meets refuted requirements: each number of the file is taken for a hole in turn."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from raptr_dsl.axes import AXES
from raptr_dsl.compiler.evaluate import evaluate
from raptr_dsl.compiler.passes import Passed, Passes
from raptr_dsl.compiler.scope import Quantity, Scope
from raptr_dsl.compiler.solving.durations import NUDGE, reaches
from raptr_dsl.compiler.solving.explain import written
from raptr_dsl.compiler.solving.holes import Hole, places_of
from raptr_dsl.compiler.solving.trial import Bench, TooManyTrials, Trial, Unanswerable, least_size
from raptr_dsl.compiler.verify import metric_text, value_text, verify
from raptr_dsl.diagnostics import Diagnostic, Diagnostics, Edit, Label, with_edits
from raptr_dsl.flops import run_report
from raptr_dsl.source import Source, Span
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse

EFFORT = 300
"""Passes of all trials together, each as much as its file has stages: less than a tenth of a second."""

SMALL = 4
"""A pass takes as long as so many stages more than the file has."""

MAX_DRAWS = 100_000
"""Steps × units up to which masks may be counted at every trial."""

ROUNDS = 4


class Repair(NamedTuple):
    """An edit that meets all requirements.

    Attributes:
        change: of what it replaces, in shares of the level or the axis: the less, the better.
    """

    change: Fraction
    hole: Hole
    text: str

    @property
    def edit(self) -> Edit:
        return Edit(self.hole.span, self.text)


def with_repair(file: ast.File, passed: Passed, passes: Passes, mistakes: Diagnostics) -> list[Diagnostic]:
    """The refuted requirements, the first of them with the smallest edit that meets all, if there is one.

    It is looked for among edits of one number, then of one number in each of two stages; the file with it was compiled
    and all its requirements hold. If there is none, what comes nearest is said.
    """
    told = list(mistakes)
    errors = [item for item in told if item.severity == "error"]
    if any(item.code != "requirement-refuted" for item in errors) or _is_long(passed):
        return told
    repair = min(_repairs(file, passed, passes), key=lambda repair: repair.change, default=None)
    if repair is not None:
        edits = [(repair.hole, repair.text)]
        mended = _advised(errors[0], edits) if _mends([repair.edit], passes) else errors[0]
    else:
        mended = _with_two(file, passed, passes, errors[0])
    return [mended if item is errors[0] else item for item in told]


def _with_two(file: ast.File, passed: Passed, passes: Passes, error: Diagnostic) -> Diagnostic:
    """The error with an edit of two numbers, or with the one that comes nearest."""
    from raptr_dsl.compiler.solving.pairs import search

    places = _by_cost(file, passed)
    if not places or passed.bound is None:
        return error
    try:
        present = Bench(file, [places[0][0]], passes, passed.bound.shape, passed.bound.steps, 0).see(passed)
    except Unanswerable:
        return error
    pair, moves = search(file, passed, passes, places, present)
    if pair is not None and _mends([Edit(hole.span, text) for hole, text in pair.edits], passes):
        return _advised(error, sorted(pair.edits, key=lambda edit: edit[0].span.start))
    if not moves:
        return error
    nearest = moves[0]
    values = zip(passed.bound.requirements, nearest.trial.answers, nearest.trial.holds, strict=True)
    missed = [
        f"{metric_text(one)} is {value_text(answer, not one.value.is_count)}"
        for one, answer, holds in values
        if not holds
    ]
    attribute, written_so = nearest.hole.attribute, f"{nearest.hole.name}={nearest.text}"
    fact = f"no one number does it: {written_so} instead of {attribute.span.text} comes nearest"
    return replace(
        error,
        related=(*error.related, Label(attribute.span, f"{written_so} comes nearest")),
        notes=(*error.notes, f"{fact}, where {' and '.join(missed)}"),
    )


def _advised(error: Diagnostic, edits: Sequence[tuple[Hole, str]]) -> Diagnostic:
    """The error with edits as its help and as one fix, from the first to the last of them."""
    words = [f"{hole.name}={text} instead of {hole.attribute.span.text}" for hole, text in edits]
    source = edits[0][0].span.source
    whole = Span(source, edits[0][0].span.start, edits[-1][0].span.end)
    inside = [
        Edit(Span(source, hole.span.start - whole.start, hole.span.end - whole.start), text) for hole, text in edits
    ]
    return replace(
        error,
        help=f"write {' and '.join(words)}, or {_otherwise(error.help)}",
        related=(
            *error.related,
            *(Label(hole.attribute.span, f"write {hole.name}={text} here") for hole, text in edits),
        ),
        fix=Edit(whole, with_edits(whole.text, inside)),
    )


def _otherwise(help: str) -> str:
    return help.removeprefix("change the stages, or ")


def _is_long(passed: Passed) -> bool:
    """Whether trials would take longer than anybody waits for advice."""
    assert passed.bound is not None
    bound = passed.bound
    counted = [
        AXES[requirement.target].space(bound.shape)
        for requirement in bound.requirements
        if requirement.target in AXES and requirement.metric in ("coverage", "gap", "balance")
    ]
    if any(requirement.options.get("case") == "seed" for requirement in bound.requirements):
        counted += [axis.space(bound.shape) for axis in AXES.values()]
    return bound.steps * sum(space.sites * space.units for space in counted) > MAX_DRAWS


def _mends(edits: Sequence[Edit], passes: Passes) -> bool:
    """Whether the file with the edits compiles and meets its requirements."""
    source, mistakes = edits[0].span.source, Diagnostics()
    passed = passes(parse(Source(source.name, with_edits(source.text, edits)), mistakes), mistakes)
    if passed.bound is None or passed.plan is None or mistakes.has_errors:
        return False
    verify(passed.bound, passed.plan, passed.origins, mistakes)
    return not mistakes.has_errors


def _repairs(file: ast.File, passed: Passed, passes: Passes) -> Iterator[Repair]:
    """An edit of each number that has one, those of the stages that cost most first."""
    assert passed.bound is not None
    left = EFFORT // (len(passed.bound.stages) + SMALL)
    present = None
    for hole, quantity in _by_cost(file, passed) if left else ():
        bench = Bench(file, [hole], passes, passed.bound.shape, passed.bound.steps, left)
        try:
            present = bench.see(passed, present)
            trial, change = _repaired(bench, quantity, present)
        except (TooManyTrials, Unanswerable):
            return
        left = bench.left
        if trial is not None:
            yield Repair(change, hole, written(bench, 0, trial))


def _by_cost(file: ast.File, passed: Passed) -> list[tuple[Hole, Quantity]]:
    """The numbers that the file writes out as sizes and durations, by what their stages cost."""
    assert passed.bound is not None
    costs: dict[int, int | Fraction] = {}
    stages = run_report(passed.bound.shape, passed.bound.stages).stages
    if len(stages) == len(passed.origins.stages):  # none was dropped
        for stage, (places, _) in zip(stages, passed.origins.stages, strict=True):
            start = places.statement.start if places.statement.source is file.span.source else -1
            costs[start] = costs.get(start, 0) + stage.blocks
    found: list[tuple[int | Fraction, Hole, Quantity]] = []
    for statement in _flat(file.statements):
        for hole in places_of([statement]):
            quantity = _literal(hole.attribute.value)
            if quantity is not None:
                found.append((costs.get(statement.span.start, 0), hole, quantity))
    return [(hole, quantity) for _, hole, quantity in sorted(found, key=lambda item: -item[0])]


def _flat(statements: tuple[ast.Statement, ...]) -> Iterator[ast.Statement]:
    for statement in statements:
        if isinstance(statement, ast.Repeat):
            yield replace(statement, body=())
            yield from _flat(statement.body)
        else:
            yield statement


def _literal(node: ast.Value) -> Quantity | None:
    """The value of an expression without names: what has one is not changed behind its back."""
    return evaluate(node, Scope(Diagnostics())) if isinstance(node, ast.Number | ast.Binary) else None


def _repaired(bench: Bench, quantity: Quantity, present: Trial) -> tuple[Trial | None, Fraction]:
    """The nearest value of the only place at which all requirements hold, and how far it is from the present one."""
    hole = bench.holes[0]
    if hole.axis:
        space = AXES[hole.axis].space(bench.shape)
        now = quantity.value / (space.units * space.group) if quantity.is_count else quantity.value
        most, least, step = Fraction(1), least_size(present.bound, hole.axis), Fraction(1, space.units)
    else:
        room = bench.rooms.get(0)
        if room is None or not room.takes_rest or not room.steps:
            return None, Fraction(0)
        now = quantity.value / room.steps if quantity.is_count else quantity.value
        step = 1 / room.steps
        most, least = room.share / room.times - step, step
    start = present._replace(values=(now,))
    found = None if hole.axis else _along_slope(bench, start)
    for end in (most, least):
        found = found if found and found.feasible else _towards(bench, start, end, step)
    if found is None or not found.feasible:
        return None, Fraction(0)
    return found, abs(found.values[0] - now)


def _along_slope(bench: Bench, trial: Trial) -> Trial | None:
    """Where linear requirements are just met, each in its turn."""
    for _ in range(ROUNDS):
        if trial.feasible:
            return trial
        broken = trial.holds.index(False)
        if not bench.is_weighed(broken):
            return None
        value = trial.values[0]
        nudged = bench.attempt([value + NUDGE])
        rise = nudged.missed[broken] - trial.missed[broken] if nudged else Fraction(0)
        if not rise:
            return None
        moved = value - trial.missed[broken] * NUDGE / rise
        if not 0 < moved < 1:
            return None
        tried = bench.attempt([moved])
        if tried is None:
            return None
        trial = tried
    return trial if trial.feasible else None


def _towards(bench: Bench, start: Trial, end: Fraction, step: Fraction) -> Trial | None:
    """The first value on the way to an end at which what is missed first is met, if it is met at the end."""
    broken, now = start.holds.index(False), start.values[0]
    best = bench.attempt([end])
    if best is None or not reaches(bench, best, start, broken):
        return None
    missed, met = 0, int(abs(end - now) / step)
    sign = step if end > now else -step
    while met - missed > 1:
        middle = (met + missed) // 2
        tried = bench.attempt([now + middle * sign])
        if tried is not None and reaches(bench, tried, start, broken):
            met, best = middle, tried
        else:
            missed = middle
    return best
