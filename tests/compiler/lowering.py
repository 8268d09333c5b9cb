"""What the tests of lowering share: texts to schedules, with other files in memory."""

from collections.abc import Mapping
from fractions import Fraction

from raptr_dsl.compiler.lower import lower
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.diagnostics import Diagnostic, Diagnostics
from raptr_dsl.ir.schedule import AxisRule, Duration, Schedule
from raptr_dsl.source import Source
from raptr_dsl.syntax.parser import parse

NAME = "main.raptr"


def lowered(
    text: str, files: Mapping[str, str] | None = None, params: Mapping[str, str] | None = None
) -> tuple[Schedule | None, Origins, list[Diagnostic]]:
    """What a text lowers to; `files` are the texts of others, by their path from it."""

    def load(path: str, diagnostics: Diagnostics) -> Source | None:
        if path in (files or {}):
            return Source(path, (files or {})[path])
        diagnostics.add("file-missing", "there is no such file", subject=path)
        return None

    diagnostics = Diagnostics()
    file = parse(Source(NAME, text), diagnostics)
    schedule, origins = lower(file, diagnostics, params=params or {}, loader=load)
    return schedule, origins, diagnostics.sorted()


def schedule_of(text: str, files: Mapping[str, str] | None = None, **params: str) -> Schedule:
    """The schedule of a text without mistakes."""
    schedule, _, problems = lowered(text, files, params)
    assert schedule is not None, [(item.code, item.message) for item in problems]
    return schedule


def codes_of(text: str, files: Mapping[str, str] | None = None, **params: str) -> list[str]:
    """The codes of what is wrong with a text, in source order."""
    return [item.code for item in lowered(text, files, params)[2]]


def rule(text: str, axis: str = "depth", before: str = "") -> AxisRule:
    """The rule of one axis of the stage that a text says, with any duration."""
    return schedule_of(f"{before}\nstage {text} steps=50%\nstage steps=rest").stages[0].axes[axis]


def size(text: str, sample: str = "fixed") -> object:
    return rule(f"depth={text} sample={sample}").size


def durations(text: str, files: dict[str, str] | None = None, **params: str) -> list[Duration]:
    return [stage.duration for stage in schedule_of(text, files, **params).stages]


def shares(text: str, files: dict[str, str] | None = None, **params: str) -> list[Fraction]:
    found = durations(text, files, **params)
    assert not any(duration.steps or duration.tokens for duration in found)
    return [duration.share for duration in found]
