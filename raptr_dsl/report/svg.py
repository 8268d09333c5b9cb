"""The timeline and the mask raster as one SVG file: no drawing library, the same bytes every time."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from html import escape
from itertools import groupby, pairwise

from raptr_dsl.axes import AXES
from raptr_dsl.ir.plan import Plan
from raptr_dsl.occupancy import Occupancy, segments
from raptr_dsl.report.layout import Column, chart_title, columns, raster_title, shown_block, stage_label
from raptr_dsl.report.raster import Cells, mask_columns
from raptr_dsl.report.summary import percent
from raptr_dsl.wording import plural

WIDTH, MARGIN, TOP = 960, 84, 78
PLOT = WIDTH - MARGIN - 24
CHART, RULER, GAP = 120, 44, 30
MOST_COLUMNS = 240
# A ramp that stays legible in grey and to the colour-blind (viridis without its palest end).
PALETTE = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (180, 210, 40))
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #333 }
.title { font-size: 18px; font-weight: 600; fill: #111 }
.quiet { fill: #777; font-size: 11px }
.axis { font-weight: 600 }
.line { stroke: #999; fill: none; shape-rendering: crispEdges }
.faint { stroke: #e4e4e4; fill: none; shape-rendering: crispEdges }
.end { text-anchor: end }"""


def svg(plan: Plan, axes: Sequence[str], site: int | None = None) -> str:
    """An SVG document: for each axis its size along the run, and below it the masks of sampled steps."""
    parts, y = list(_head(plan)), TOP
    for axis in axes:
        drawn, y = _axis(plan, axis, y, shown_block(plan, axis, site))
        parts += drawn
    size = f'viewBox="0 0 {WIDTH} {y}" width="{WIDTH}" height="{y}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<title>{escape(plan.name)}</title>",
            f"<style>\n{STYLE}\n</style>",
            f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _head(plan: Plan) -> Iterator[str]:
    ratio = percent(plan.flops().ratio_blocks)
    facts = (
        plural(plan.steps, "step"),
        f"{plan.shape.layers} blocks × {plan.shape.hidden}",
        f"block FLOPs {ratio} of full training",
        f"seed {plan.seed}",
    )
    yield _text(MARGIN, 30, plan.name, "title")
    yield _text(MARGIN, 50, _shortened(plan.doc or "", 120), "")
    yield _text(MARGIN, 68 if plan.doc else 50, " · ".join(facts), "quiet")


def _axis(plan: Plan, axis: str, y: int, site: int) -> tuple[list[str], int]:
    space = AXES[axis].space(plan.shape)
    y += GAP
    chart = [_text(MARGIN, y - 8, chart_title(plan, axis), "axis"), *_chart(plan, axis, y)]
    y += CHART
    chart += _ruler(plan, y)
    y += RULER
    row = _row_height(space.units)
    chosen = columns(plan, min(MOST_COLUMNS, max(plan.steps, len(plan.stages))))
    chart += [
        _text(MARGIN, y + 8, raster_title(plan, axis, chosen, site), "quiet"),
        *_raster(plan, axis, chosen, y + 16, row, site),
    ]
    return chart, y + 16 + row * space.units + 20


def _chart(plan: Plan, axis: str, top: int) -> Iterator[str]:
    space = AXES[axis].space(plan.shape)
    for share in (Fraction(0), Fraction(1, 2), Fraction(1)):
        y = top + CHART * (1 - share)
        yield f'<path class="faint" d="M{MARGIN} {_n(y)}h{PLOT}"/>'
        size = share * space.units * space.group
        if size.denominator == 1:
            yield _text(MARGIN - 8, y + 4, f"{int(size):,}", "quiet end")
    for index, stage in enumerate(plan.stages):
        path = []
        for segment in segments(stage, plan.shape):
            taken = segment.axes.get(axis)
            height = CHART * _share(taken, space.units)
            left, right = _x(plan, segment.start), _x(plan, segment.stop)
            path.append(f"M{_n(left)} {top + CHART}V{_n(top + CHART - height)}H{_n(right)}V{top + CHART}z")
        hint = escape(f"{stage_label(plan, index)}: steps {stage.start:,} to {stage.stop - 1:,}")
        colour = _colour(index, len(plan.stages))
        yield f'<path fill="{colour}" d="{"".join(path)}"><title>{hint}</title></path>'
    yield f'<path class="line" d="M{MARGIN} {top}V{top + CHART}h{PLOT}"/>'


def _share(taken: Occupancy | None, units: int) -> Fraction:
    return Fraction(1) if taken is None else taken.mean / units


def _ruler(plan: Plan, y: int) -> Iterator[str]:
    """Names and first steps of the stages, where there is room for them."""
    reach = Fraction(0)
    for index, stage in enumerate(plan.stages):
        left, right = _x(plan, stage.start), _x(plan, stage.stop)
        yield f'<path class="line" d="M{_n(left)} {y}v5"/>'
        name, start = stage_label(plan, index), f"{stage.start:,}"
        if 7 * len(name) < right - left:
            yield _text(left + 3, y + 18, name, "")
        if left >= reach and left + 7 * (len(start) + 1) < MARGIN + PLOT - 7 * len(f"{plan.steps:,}"):
            yield _text(left + 3, y + 33, start, "quiet")
            reach = left + 7 * (len(start) + 1)
    yield _text(MARGIN + PLOT, y + 33, f"{plan.steps:,}", "quiet end")


def _row_height(units: int) -> int:
    return max(1, min(12, 288 // units))


def _raster(plan: Plan, axis: str, chosen: list[Column], top: int, row: int, site: int) -> Iterator[str]:
    masks = mask_columns(plan, axis, chosen, site)
    units, width = AXES[axis].space(plan.shape).units, Fraction(PLOT, len(chosen))
    step = max(1, -(-12 // row))
    for unit in range(0, units, step):
        yield _text(MARGIN - 8, top + row * unit + row // 2 + 4, str(unit), "quiet end")
    yield f'<rect x="{MARGIN}" y="{top}" width="{PLOT}" height="{row * units}" fill="#f4f4f4"/>'
    positions = enumerate(zip(chosen, masks, strict=True))
    for index, group in groupby(positions, key=lambda item: item[1][0].stage):
        cells = [(position, mask) for position, (_, mask) in group]
        path = "".join(_boxes(cells, units, width, top, row))
        yield f'<path fill="{_colour(index, len(plan.stages))}" d="{path}"/>'


def _boxes(cells: Iterable[tuple[int, Cells]], units: int, width: Fraction, top: int, row: int) -> Iterator[str]:
    """One box for each run of neighbouring columns in which a unit is on."""
    gap = 1 if row > 3 else 0
    listed = list(cells)
    for unit in range(units):
        for on, run in groupby(listed, key=lambda cell: bool(cell[1] and cell[1][unit])):
            if not on:
                continue
            places = [position for position, _ in run]
            left, length = MARGIN + places[0] * width, len(places) * width
            yield f"M{_n(left)} {top + row * unit}h{_n(length)}v{row - gap}h{_n(-length)}z"


def _x(plan: Plan, step: int) -> Fraction:
    return MARGIN + Fraction(PLOT * step, plan.steps)


def _colour(index: int, stages: int) -> str:
    """The palette, interpolated so that the first stage is darkest and the last lightest."""
    place = Fraction(index * (len(PALETTE) - 1), max(1, stages - 1))
    low, high = list(pairwise((*PALETTE, PALETTE[-1])))[int(place)]
    mixed = (round(a + (b - a) * (place - int(place))) for a, b in zip(low, high, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _n(value: Fraction | int) -> str:
    """A coordinate to a hundredth of a pixel, in as few characters as it takes."""
    return f"{float(value):.2f}".rstrip("0").rstrip(".")


def _text(x: Fraction | int, y: Fraction | int, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{_n(x)}" y="{_n(y)}">{escape(text)}</text>'


def _shortened(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"
