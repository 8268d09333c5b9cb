"""Durations → whole steps: the stages tile the run, each border rounded once (rules 9, 12, 13)."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from raptr_dsl.compiler.filling import check_levels
from raptr_dsl.compiler.origins import Origins, Path
from raptr_dsl.diagnostics import Diagnostics, Label
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.schedule import Duration, Schedule
from raptr_dsl.source import Span
from raptr_dsl.wording import number_text, plural


@dataclass(frozen=True, slots=True)
class Tile:
    """Stage number `stage` of the schedule runs in steps [start, stop)."""

    stage: int
    start: int
    stop: int
    duration: Fraction


def horizon_of(
    schedule: Schedule, shape: ModelShape, steps: int | None, origins: Origins, diagnostics: Diagnostics
) -> int | None:
    """The optimizer steps of the whole run: the caller's, else the file's."""
    if not _tokens_have_batch(schedule, shape, origins, diagnostics):
        return None
    if steps is not None:
        return steps
    if schedule.horizon is None:
        diagnostics.add(
            "no-horizon",
            "nothing says how long the run is",
            help="write `steps 675k` in the file, or give --steps",
        )
        return None
    exact = _exact_steps(schedule.horizon, Fraction(0), shape)
    if exact.denominator == 1:
        return int(exact)
    _refuse_tokens(schedule.horizon.tokens, shape, origins.span(("horizon",)), diagnostics)
    return None


def tile(
    schedule: Schedule, shape: ModelShape, steps: int, origins: Origins, diagnostics: Diagnostics
) -> list[Tile] | None:
    """The steps of every stage that has any, or None if they do not tile the run."""
    if not check_levels(origins.levels, diagnostics, steps, shape.tokens):
        return None
    durations = [_exact_steps(stage.duration, Fraction(steps), shape) for stage in schedule.stages]
    if not _tokens_are_whole(schedule, shape, origins, diagnostics):
        return None
    tiles = list(_tiles(durations))
    good = True
    for tiled in tiles:
        if tiled.start == tiled.stop:
            good &= _may_be_empty(schedule, tiled, steps, origins, diagnostics)
    return [tiled for tiled in tiles if tiled.start < tiled.stop] if good else None


def _exact_steps(duration: Duration, horizon: Fraction, shape: ModelShape) -> Fraction:
    return duration.share * horizon + duration.steps + duration.tokens / shape.tokens


def _tokens_have_batch(schedule: Schedule, shape: ModelShape, origins: Origins, diagnostics: Diagnostics) -> bool:
    """Whether the tokens of a step are known, if anything is counted in them: a batch of 1 was never meant."""
    if "batch" in shape.model_fields_set:
        return True
    horizon = schedule.horizon is not None and bool(schedule.horizon.tokens)
    counted: list[Path] = [("horizon",)] if horizon else []
    counted += [("stages", i, "duration") for i, stage in enumerate(schedule.stages) if stage.duration.tokens]
    if not counted:
        return True
    diagnostics.add(
        "tokens-without-batch",
        "this is counted in tokens, and the model does not say how many sequences a step has",
        origins.span(counted[0]),
        related=[Label(model, "this model says no batch=") for model in (origins.span(("model",)),) if model],
        help="write batch=256 in the model, or count in steps",
    )
    return False


def _tiles(durations: list[Fraction]) -> Iterator[Tile]:
    """Border i is ⌊d₁ + … + dᵢ + ½⌋, so that no later stage moves an earlier border."""
    end, start = Fraction(0), 0
    for number, duration in enumerate(durations):
        end += duration
        stop = (2 * end.numerator + end.denominator) // (2 * end.denominator)
        yield Tile(number, start, stop, duration)
        start = stop


def _tokens_are_whole(schedule: Schedule, shape: ModelShape, origins: Origins, diagnostics: Diagnostics) -> bool:
    """Whether durations in tokens are whole steps; the first that is not is to blame for the `rest` of its level."""
    for number, stage in enumerate(schedule.stages):
        if stage.duration.tokens % shape.tokens:
            _refuse_tokens(stage.duration.tokens, shape, origins.span(("stages", number, "duration")), diagnostics)
            return False
    return True


def _refuse_tokens(tokens: Fraction, shape: ModelShape, span: Span | None, diagnostics: Diagnostics) -> None:
    below = int(tokens / shape.tokens)
    diagnostics.add(
        "tokens-not-whole",
        f"{number_text(tokens)} tokens are {tokens / shape.tokens} steps of {plural(shape.tokens, 'token')}",
        span,
        help=f"the nearest whole steps are {below * shape.tokens} and {(below + 1) * shape.tokens} tokens",
    )


def _may_be_empty(schedule: Schedule, tiled: Tile, steps: int, origins: Origins, diagnostics: Diagnostics) -> bool:
    """A stage whose steps are zero by a parameter is dropped with a note; any other is an error (rule 13)."""
    span = origins.span(("stages", tiled.stage, "duration"))
    if schedule.stages[tiled.stage].optional and tiled.duration == 0:
        diagnostics.add("stage-dropped", "a parameter leaves this stage no steps: dropped", span, severity="note")
        return True
    diagnostics.add(
        "stage-without-steps",
        f"this stage has no step: {tiled.duration} of {plural(steps, 'step')} round to none",
        span,
        help="make the stage or the run longer, or leave the stage out",
    )
    return False
