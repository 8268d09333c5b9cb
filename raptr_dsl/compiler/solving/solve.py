"""The solution of a file's holes (rule 40), as edits of its text, or why there is none."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from raptr_dsl.compiler.passes import Passes
from raptr_dsl.compiler.solving.explain import Told
from raptr_dsl.compiler.solving.holes import Hole, filled, places_of
from raptr_dsl.compiler.solving.sizes import search
from raptr_dsl.compiler.solving.trial import TINY, Bench, TooManyTrials, Trial, Unanswerable
from raptr_dsl.diagnostics import Diagnostic, Diagnostics, Edit
from raptr_dsl.source import Source
from raptr_dsl.syntax import ast
from raptr_dsl.syntax.parser import parse

EFFORT = 20_000
"""Passes of all trials together, each as much as its file has stages."""

SMALL = 4
"""A pass takes as long as so many stages more than the file has."""

_OF_LEVELS = {"stages-gap", "stages-overrun", "stage-without-steps"}
"""What is wrong with durations that holes are a part of."""


def solve(file: ast.File, holes: Sequence[Hole], passes: Passes, diagnostics: Diagnostics) -> tuple[Edit, ...]:
    """What each hole of a file is; nothing, with the reason recorded, where that cannot be said.

    Args:
        passes: they bind to the model and the horizon of the run, and record what is wrong with these.
    """
    frame, mistakes = Diagnostics(), Diagnostics()
    bound = passes(_frame(file), frame).bound
    full = filled(file, {hole.span.start: Fraction(1) if hole.axis else TINY for hole in holes})
    if diagnostics.has_errors:  # of syntax: what the lost statements would have taken or required is not known
        passes(full, diagnostics)
        return ()
    passes(full, mistakes)
    mistakes.extend(frame)
    errors = [item for item in mistakes.sorted() if item.severity == "error" and item.code not in _OF_LEVELS]
    diagnostics.extend(errors)
    if errors:
        return ()
    if bound is None:
        Told(holes, diagnostics).needs_model()
        return ()
    limit = max(200, EFFORT // (len(list(places_of(file.statements))) + SMALL))
    return _solved(Bench(file, holes, passes, bound.shape, bound.steps, limit), diagnostics)


def _solved(bench: Bench, diagnostics: Diagnostics) -> tuple[Edit, ...]:
    told = Told(bench.holes, diagnostics, bench)
    try:
        bench.begin()
        full = [number for number, room in bench.rooms.items() if room.share <= 0]
        if full:
            told.no_room(full[0])
            return ()
        start = bench.attempt(bench.interior([Fraction(1)] * len(bench.holes)))
        elsewhere = [] if start else [item for item in bench.mistakes if not _is_of_holes(item, bench)]
        diagnostics.extend(elsewhere)
        if elsewhere:
            return ()
        untouched = [number for number in bench.sizes if start and _is_untouched(bench, start, number)]
        if untouched:
            told.untouched(untouched[0])
            return ()
        best = search(bench)
    except TooManyTrials:
        told.too_many()
    except Unanswerable as unanswerable:
        diagnostics.add("bad-requirement", str(unanswerable), unanswerable.span)
    else:
        if best.trial is None:
            told.unsolved(best.undecided)
        elif best.rival is not None:
            told.several(best.trial, best.rival)
        else:
            bench.attempt(best.trial.values)  # how long levels are is known of the last values tried
            edits = tuple(Edit(hole.span, told.text(number, best.trial)) for number, hole in enumerate(bench.holes))
            told.solved(edits)
            return edits
    return ()


def _is_untouched(bench: Bench, full: Trial, number: int) -> bool:
    """Whether no requirement says anything of a size: smaller ones, as far as they compile, change no metric."""
    units, changed = bench.units(number), list(full.values)
    for size in dict.fromkeys((1, (units + 1) // 2, units - 1)):
        changed[number] = Fraction(size, units)
        smaller = bench.attempt(changed) if size else None
        if smaller is not None:
            return smaller.answers == full.answers
    return False


def _frame(file: ast.File) -> ast.File:
    """The file with one stage and no requirements: its model and its horizon can be found before its holes are."""
    timed = (ast.Stage, ast.Ramp, ast.Repeat, ast.Run, ast.Require)
    (whole,) = parse(Source(file.span.source.name, "stage steps=rest"), Diagnostics()).statements
    kept = tuple(statement for statement in file.statements if not isinstance(statement, timed))
    return replace(file, statements=(*kept, whole))


def _is_of_holes(item: Diagnostic, bench: Bench) -> bool:
    """Whether other values in the holes may mend a mistake."""
    if item.code in _OF_LEVELS or item.code == "not-full-at-end":
        return True
    return item.span is not None and any(
        item.span.source is hole.span.source and item.span.start <= hole.span.start < item.span.end
        for hole in bench.holes
    )
