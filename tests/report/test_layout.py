"""Which steps the columns of a picture show."""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import raptr_dsl
from raptr_dsl.report.layout import (
    ASCII,
    BLOCKS,
    chart_title,
    columns,
    glyphs_for,
    mean_units,
    shown_block,
    thinned_axes,
    units_text,
)
from tests.report.conftest import plans


@given(plans(), st.integers(1, 200))
@settings(max_examples=20)
def test_columns_go_forward_and_show_steps_of_their_stage(plan, width: int) -> None:
    shown = columns(plan, width)
    assert len(shown) == width
    assert [column.step for column in shown] == sorted(column.step for column in shown)
    for column in shown:
        assert plan.stage_index(column.step) == column.stage


@given(plans(), st.integers(6, 200))
@settings(max_examples=20)
def test_every_stage_is_seen_and_has_its_share(plan, width: int) -> None:
    shown = columns(plan, width)
    counts = {stage: len(list(group)) for stage, group in groupby(shown, key=lambda column: column.stage)}
    assert list(counts) == list(range(len(plan.stages)))
    for index, stage in enumerate(plan.stages):
        fair = stage.steps * width / plan.steps
        assert counts[index] <= max(1, fair + 1)
        assert counts[index] >= max(1, fair - len(plan.stages))


@pytest.mark.parametrize("period", range(2, 13))
@pytest.mark.parametrize("width", [60, 73, 240])
def test_masks_that_repeat_do_not_look_as_if_they_stood_still(period: int, width: int) -> None:
    plan = raptr_dsl.compile_text(
        f"model bert-base\nsteps {width * period}\nallow partial\nstage depth=6/12 sample=rotate steps=rest"
    )
    shown = [column.step % period for column in columns(plan, width)]
    counts = [shown.count(place) for place in range(period)]
    assert min(counts) >= width // period // 2


def test_the_mean_of_what_is_random() -> None:
    plan = raptr_dsl.compile_text(
        "model bert-base\nsteps 4\nallow partial\n"
        "stage depth=draw(2, 4) steps=2\nstage depth=7/12 sample=bernoulli steps=2"
    )
    assert [mean_units(plan, "depth", column) for column in columns(plan, 4)] == [3, 3, 7, 7]
    assert mean_units(plan, "heads", columns(plan, 4)[0]) == 12
    assert thinned_axes(plan) == ["depth"]


def test_blocks_that_are_full_are_named_and_another_is_shown() -> None:
    model = "model layers=4 heads=2 hidden=8 ffn=64 vocab=5 seq=4\nsteps 9\nallow partial\n"
    text = model + "stage heads=1/2 full=[first, 2] steps=100%"
    plan = raptr_dsl.compile_text(text)
    assert chart_title(plan, "heads") == "heads: heads that run, of 2; all in blocks 0, 2"
    assert (shown_block(plan, "heads", None), shown_block(plan, "heads", 2), shown_block(plan, "depth", None)) == (
        1,
        2,
        0,
    )


def test_units_in_words() -> None:
    plan = raptr_dsl.compile_text("model llama-1b\nsteps 4\nstage steps=rest")
    assert units_text(plan, "depth") == "blocks"
    assert units_text(plan, "heads") == "groups of 4 heads"
    assert units_text(plan, "width") == "groups of 64 hidden units"


@pytest.mark.parametrize(
    ("encoding", "glyphs"), [("utf-8", BLOCKS), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("no-such", ASCII)]
)
def test_glyphs_are_those_that_the_encoding_has(encoding: str | None, glyphs) -> None:
    assert glyphs_for(encoding) is glyphs
