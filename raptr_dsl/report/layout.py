"""What every picture of a plan shares: which steps its columns show, its characters, its colours."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from operator import itemgetter

from rich.console import Console
from rich.text import Text

from raptr_dsl.axes import AXES
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.plan import Plan
from raptr_dsl.occupancy import occupancy
from raptr_dsl.wording import plural


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a picture: a step of a stage, both by index."""

    stage: int
    step: int


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a picture. `levels` and `shades` rise from empty to full."""

    levels: str
    shades: str
    upper: str
    lower: str
    off: str
    vertical: str
    tick: str
    corner: str
    horizontal: str
    border: str
    ellipsis: str

    @property
    def full(self) -> str:
        return self.levels[-1]

    @property
    def has_halves(self) -> bool:
        return bool(self.upper)


BLOCKS = Glyphs(" ▁▂▃▄▅▆▇█", " ░▒▓█", "▀", "▄", "·", "│", "┤", "└", "─", "┴", "…")
ASCII = Glyphs(" #", " .:+#", "", "", ".", "|", "+", "+", "-", "+", "")

STAGE_STYLES = ("cyan", "green", "yellow", "magenta", "blue", "red")
"""Terminal colours of stages, in turn: the named ones, which follow the terminal's theme."""


def glyphs_for(encoding: str | None) -> Glyphs:
    """The finest characters that an encoding has."""
    try:
        "".join(str(getattr(BLOCKS, name)) for name in BLOCKS.__slots__).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def columns(plan: Plan, width: int) -> list[Column]:
    """`width` steps that stand for it: every stage has its share, and at least one while there is room.

    A column shows one step of its part of the stage. Which one varies from column to column: at equal
    distances, a mask that repeats after some steps would look as if it stood still.
    """
    if len(plan.stages) > width:
        steps = [_sample(0, plan.steps, column, width) for column in range(width)]
        return [Column(_stage_at(plan.stages, step), step) for step in steps]
    return [
        Column(index, _sample(stage.start, stage.steps, column, shown))
        for index, (stage, shown) in enumerate(zip(plan.stages, _shares(plan.stages, width), strict=True))
        for column in range(shown)
    ]


def _sample(start: int, steps: int, column: int, shown: int) -> int:
    """A step of the column's part of [start, start + steps), by the golden ratio (40503 / 2¹⁶)."""
    place = Fraction(40503 * (column + 1) % 2**16, 2**16)
    return start + int((column + place) * steps / shown)


def _shares(stages: Sequence[BoundStage], width: int) -> list[int]:
    """`width` dealt out in proportion to the stages' steps, at least 1 each."""
    total, spare = sum(stage.steps for stage in stages), width - len(stages)
    exact = [Fraction(stage.steps * width, total) - 1 for stage in stages]
    wanted = sum((share for share in exact if share > 0), Fraction(0))
    extra = [max(share, Fraction(0)) * spare / wanted if wanted else Fraction(0) for share in exact]
    dealt = [int(share) for share in extra]
    by_remainder = sorted(range(len(stages)), key=lambda index: dealt[index] - extra[index])
    for index in by_remainder[: spare - sum(dealt)]:
        dealt[index] += 1
    return [1 + share for share in dealt]


def _stage_at(stages: Sequence[BoundStage], step: int) -> int:
    return next(index for index, stage in enumerate(stages) if step < stage.stop)


def thinned_axes(plan: Plan) -> list[str]:
    """The axes that some stage thins out, in the order of the table of axes."""
    return [axis for axis in AXES if any(axis in stage.axes for stage in plan.stages)]


def mean_units(plan: Plan, axis: str, column: Column) -> Fraction:
    """The units of an axis that run at one site in a column's step, in the mean where that is random."""
    stage, space = plan.stages[column.stage], AXES[axis].space(plan.shape)
    rule = stage.axes.get(axis)
    return Fraction(space.units) if rule is None else occupancy(rule, space, column.step - stage.start).mean


def units_text(plan: Plan, axis: str) -> str:
    """What is on or off together, in the plural: `blocks`, `heads`, `groups of 64 hidden units`."""
    group = AXES[axis].space(plan.shape).group
    return f"{AXES[axis].element}s" if group == 1 else f"groups of {group} {AXES[axis].element}s"


def chart_title(plan: Plan, axis: str) -> str:
    space, full = AXES[axis].space(plan.shape), full_blocks(plan, axis)
    spared = f"; all in {'block' if len(full) == 1 else 'blocks'} {', '.join(map(str, full))}" if full else ""
    return f"{axis}: {AXES[axis].element}s that run, of {space.units * space.group:,}{spared}"


def full_blocks(plan: Plan, axis: str) -> list[int]:
    """The blocks of a stack that run an axis in full while others do not, in some stage (rule 4)."""
    return sorted({block for stage in plan.stages if axis in stage.axes for block in stage.axes[axis].full})


def shown_block(plan: Plan, axis: str, block: int | None) -> int:
    """The block whose masks are shown: that one, else the first of those in which an axis is always thinned."""
    full = set(full_blocks(plan, axis))
    return block if block is not None else next((one for one in range(plan.shape.layers) if one not in full), 0)


def raster_title(plan: Plan, axis: str, columns: Sequence[Column], site: int) -> str:
    where = f" of block {site}" if AXES[axis].per_block else ""
    sampled = len({column.step for column in columns})
    return f"which {units_text(plan, axis)}{where} run, in {plural(sampled, 'sampled step')}"


def painted(head: str, cells: Iterable[tuple[str, str]]) -> Text:
    """A line of characters with their styles; neighbours of one style in one piece."""
    line = Text(head)
    for style, run in groupby(cells, key=itemgetter(1)):
        line.append("".join(sign for sign, _ in run), style)
    return line


def stage_style(column: Column) -> str:
    return STAGE_STYLES[column.stage % len(STAGE_STYLES)]


def cut(text: Text, width: int, glyphs: Glyphs) -> Text:
    """The text in at most `width` columns."""
    if text.cell_len > width:
        text.truncate(width - len(glyphs.ellipsis))
        text.append(glyphs.ellipsis)
    return text


def wrapped(text: Text, width: int) -> list[Text]:
    """The text in lines of at most `width` columns, broken between words where it can be."""
    lines = text.wrap(Console(width=width), width)
    for line in lines:
        line.rstrip()
    return list(lines)


def stage_label(plan: Plan, index: int) -> str:
    """A stage's name, or its number."""
    return plan.stages[index].name or str(index + 1)
