"""Bit-packed masks: read back by the recipe of docs/sampling.md, and by the safetensors library."""

import json
import os
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from raptr_dsl import compile_text, export
from raptr_dsl.axes import AXES
from raptr_dsl.diagnostics import RaptrError
from raptr_dsl.ir.plan import Plan
from tests.ir.test_plan import FOUR
from tests.laws import drawn

DOCS = Path(__file__).parents[1] / "docs" / "sampling.md"


def recipe() -> Any:
    """The function that docs/sampling.md gives for reading the file."""
    (code,) = re.findall(r"```python\n(import json.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["load_masks"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn.plans(), st.data())
def test_both_ways_to_read_give_the_masks(tmp_path: Path, plan: Plan, data: st.DataObject) -> None:
    path = tmp_path / "masks.safetensors"
    start = data.draw(st.integers(0, plan.steps))
    stop = data.draw(st.integers(start, plan.steps))
    plan.export(path, AXES, start, stop)
    masks, metadata = recipe()(path)
    assert set(masks) == set(AXES)
    assert all((masks[axis] == plan.masks(axis, start, stop)).all() for axis in AXES)
    assert metadata["digest"] == plan.digest and metadata["start"] == str(start) and metadata["stop"] == str(stop)
    with safe_open(path, "np") as file:
        assert file.metadata() == metadata
        for axis in AXES:
            units = int(metadata[f"units.{axis}"])
            unpacked = np.unpackbits(file.get_tensor(axis), axis=-1, count=units, bitorder="little").astype(bool)
            assert (unpacked == plan.masks(axis, start, stop)).all()
    assert os.listdir(tmp_path) == [path.name]


TRAINED = """
model layers=12 heads=2 hidden=32 ffn=128 vocab=64 seq=8 batch=2
steps 90
keep depth=[last]
stage depth=6 depth.train=fixed(2) steps=40%
stage heads=1 depth.train=suffix(12..1) steps=40%
stage steps=rest
"""


def test_what_trains_is_written_where_it_is_a_part(tmp_path: Path) -> None:
    plan, path = compile_text(TRAINED), tmp_path / "masks.safetensors"
    plan.export(path, start=5, stop=85)
    masks, metadata = recipe()(path)
    assert set(masks) == {"depth", "heads", "depth.train"}
    assert (masks["depth.train"] == plan.trained("depth", 5, 85)).all()
    assert (masks["depth"] & masks["depth.train"])[:30].sum(axis=1).max() <= 2 and masks["depth.train"][-10:].all()
    with safe_open(path, "np") as file:
        packed = file.get_tensor("depth.train")
    assert (np.unpackbits(packed, axis=-1, count=12, bitorder="little") == plan.trained("depth", 5, 85)).all()
    assert metadata["units.depth.train"] == "12"
    plan.export(path, axes=["heads"])
    assert set(recipe()(path)[0]) == {"heads"}


def test_only_what_is_thinned_unless_asked(tmp_path: Path) -> None:
    FOUR.export(tmp_path / "a")
    assert set(recipe()(tmp_path / "a")[0]) == {"depth", "width"}
    FOUR.export(str(tmp_path / "a"), axes=["heads"])
    assert set(recipe()(tmp_path / "a")[0]) == {"heads"}


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FOUR.export(tmp_path / "a")
    monkeypatch.setattr(export, "CHUNK_MASKS", 50)
    FOUR.export(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_memory_does_not_grow_with_steps(tmp_path: Path) -> None:
    long = FOUR.model_copy(update={"stages": (FOUR.stages[0].model_copy(update={"stop": 10**6}),), "steps": 10**6})
    FOUR.export(tmp_path / "warm")
    tracemalloc.start()
    long.export(tmp_path / "a", stop=700_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a").stat().st_size > 2 * 700_000 and peak < 20 * 2**20


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not as 'npz'"):
        FOUR.export(tmp_path / "a", format="npz")
    with pytest.raises(ValueError, match="no axis 'dept'"):
        FOUR.export(tmp_path / "a", axes=["dept"])
    with pytest.raises(IndexError):
        FOUR.export(tmp_path / "a", stop=101)
    with pytest.raises(RaptrError) as error:
        FOUR.export(tmp_path / "none" / "a")
    assert [item.code for item in error.value.diagnostics] == ["plan-write"]
    assert os.listdir(tmp_path) == []


def test_the_header_is_json_of_whole_words(tmp_path: Path) -> None:
    FOUR.export(tmp_path / "a")
    content = (tmp_path / "a").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0 and json.loads(content[8 : 8 + length])["depth"]["shape"] == [100, 2]
