"""The pictures say what the plan says: read back, they give its sizes and masks."""

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_dsl
from raptr_dsl.report.layout import ASCII, BLOCKS, columns
from raptr_dsl.report.picture import picture
from raptr_dsl.report.raster import raster
from raptr_dsl.report.svg import CHART, MARGIN, PLOT, TOP, svg
from raptr_dsl.report.timeline import timeline
from tests.report.conftest import LAYERS, plans

WIDTH = 50


def is_on(plan, axis: str, step: int, unit: int) -> bool:
    mask = plan.step(step).axes.get(axis)
    return mask is None or bool(mask.on[0, unit])


@given(plans(), st.sampled_from([BLOCKS, ASCII]))
@settings(max_examples=20)
def test_bars_are_as_high_as_the_sizes(plan, glyphs) -> None:
    shown = columns(plan, WIDTH)
    rows = [line.plain for line in timeline(plan, "depth", shown, 5, glyphs)][:LAYERS]
    for index, column in enumerate(shown):
        height = sum(row[6 + index] == glyphs.full for row in rows)
        rule = plan.stages[column.stage].axes.get("depth")
        assert height == (LAYERS if rule is None else rule.sizes[0].value)


@given(plans(), st.sampled_from([BLOCKS, ASCII]))
@settings(max_examples=20)
def test_the_raster_is_the_mask_of_each_step(plan, glyphs) -> None:
    shown = columns(plan, WIDTH)
    rows = [line.plain for line in raster(plan, "depth", shown, 5, glyphs, rows=LAYERS)]
    assert len(rows) == LAYERS
    for unit, row in enumerate(rows):
        assert row.startswith(f"{unit:>5}")
        for index, column in enumerate(shown):
            assert row[6 + index] == (glyphs.full if is_on(plan, "depth", column.step, unit) else glyphs.off)


@given(plans())
@settings(max_examples=20)
def test_two_units_a_row_are_told_apart(plan) -> None:
    shown = columns(plan, WIDTH)
    rows = [line.plain for line in raster(plan, "depth", shown, 5, BLOCKS, rows=LAYERS // 2)]
    signs = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): "·"}
    for pair, row in enumerate(rows):
        for index, column in enumerate(shown):
            both = (is_on(plan, "depth", column.step, 2 * pair), is_on(plan, "depth", column.step, 2 * pair + 1))
            assert row[6 + index] == signs[both]


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII])
def test_more_units_a_row_are_shaded_by_how_many_run(glyphs) -> None:
    plan = raptr_dsl.compile_text(
        "model bert-base\nsteps 12\nallow partial\nramp stages=12 depth=1/12..12/12 sample=prefix steps=rest"
    )
    (row,) = raster(plan, "depth", columns(plan, 12), 5, glyphs, rows=1)
    shades = [glyphs.shades.index(sign) for sign in row.plain[6:]]
    assert shades == sorted(shades)
    assert shades[0] == 1
    assert len(set(shades)) == len(glyphs.shades) - 1
    assert row.plain.endswith(glyphs.full)
    assert row.plain.count(glyphs.full) == 1


def test_heads_of_a_block_that_is_off_are_blank() -> None:
    plan = raptr_dsl.compile_text("model bert-base\nsteps 200\nallow partial\nstage depth=1/2 heads=1/2 steps=rest")
    shown = columns(plan, WIDTH)
    rows = [line.plain for line in raster(plan, "heads", shown, 5, BLOCKS, rows=12, site=3)]
    for index, column in enumerate(shown):
        step, column_signs = plan.step(column.step), [row[6 + index] for row in rows]
        if step.axes["depth"].on[0, 3]:
            assert [sign == "█" for sign in column_signs] == step.axes["heads"].on[3].tolist()
        else:
            assert set(column_signs) == {" "}


@given(plans(most_stages=12), st.integers(40, 120))
@settings(max_examples=20)
def test_no_line_is_too_wide_and_ascii_is_ascii(plan, width: int) -> None:
    for encoding in ("utf-8", "ascii"):
        lines = [line.plain for line in picture(plan, ["depth", "heads"], width, 24, 0, encoding)]
        assert max(map(len, lines)) <= width
        "".join(lines).encode(encoding)


@given(plans())
@settings(max_examples=20)
def test_an_svg_chart_has_the_area_of_the_plan(plan) -> None:
    root = ET.fromstring(svg(plan, ["depth"]))
    paths = [element.get("d", "") for element in root if element.tag.endswith("path") and element.get("fill")]
    bars = paths[: len(plan.stages)]
    for stage, bar in zip(plan.stages, bars, strict=True):
        found = re.fullmatch(r"M([\d.]+) \d+V([\d.]+)H([\d.]+)V\d+z", bar)
        assert found
        left, top, right = map(float, found.groups())
        rule = stage.axes.get("depth")
        size = LAYERS if rule is None else int(rule.sizes[0].value)
        foot = TOP + 30 + CHART
        assert foot - top == pytest.approx(CHART * size / LAYERS, abs=0.01)
        assert left == pytest.approx(MARGIN + PLOT * stage.start / plan.steps, abs=0.01)
        assert right == pytest.approx(MARGIN + PLOT * stage.stop / plan.steps, abs=0.01)


@given(plans())
@settings(max_examples=20)
def test_an_svg_raster_has_the_area_of_the_masks(plan) -> None:
    root = ET.fromstring(svg(plan, ["depth"]))
    paths = [element.get("d", "") for element in root if element.tag.endswith("path") and element.get("fill")]
    drawn = sum(float(length) for path in paths[len(plan.stages) :] for length in re.findall(r"h([\d.]+)v", path))
    shown = columns(plan, min(240, max(plan.steps, len(plan.stages))))
    on = sum(is_on(plan, "depth", column.step, unit) for column in shown for unit in range(LAYERS))
    assert drawn == pytest.approx(on * PLOT / len(shown), rel=1e-3)


def test_a_long_heading_is_wrapped_whole() -> None:
    doc = "How a long title of a schedule with many words in it is shown where the terminal has few columns"
    plan = raptr_dsl.compile_text(f'doc "{doc}"\nmodel bert-base\nsteps 12\nstage steps=rest', name="wide.raptr")
    lines = [line.plain for line in picture(plan, ["depth"], 40, 4, 0, "utf-8")]
    heading = lines[: lines.index("")]
    assert all(len(line) <= 40 for line in heading)
    assert " ".join(heading).startswith(f"wide  {doc} 12 steps, seed 0, block FLOPs 100% of full training, at most")
