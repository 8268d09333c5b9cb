"""The picture of held-out curves: what it shows, and that the same curves give the same bytes."""

from pathlib import Path

import pytest

from raptr_dsl.report.curves import Curve, Switch, held_out_curves, save_picture

SWITCHES = (Switch(0, "6 blocks"), Switch(2 * 10**12, "12 blocks"))
THINNED = Curve("RaPTr", [10**12, 2 * 10**12, 4 * 10**12], [3.0, 2.5, 2.25], SWITCHES)
DENSE = Curve("dense", [2 * 10**12, 4 * 10**12], [2.75, 2.375])


def figure():
    return held_out_curves([THINNED, DENSE], title="Held-out loss", unit="nats per byte")


def test_it_shows_the_curves_in_units_that_its_axes_name() -> None:
    (axes,) = figure().axes
    lines = {str(line.get_label()).partition(":")[0]: line for line in axes.get_lines()}
    thinned, dense = lines["RaPTr"], lines["dense"]
    assert list(thinned.get_xdata()) == [1, 2, 4]
    assert list(thinned.get_ydata()) == [3.0, 2.5, 2.25]
    assert list(dense.get_xdata()) == [2, 4]
    assert "10¹²" in axes.get_xlabel()
    assert axes.get_ylabel() == "held-out loss of the full network (nats per byte)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "RaPTr: 2.250 at the end",
        "dense: 2.375 at the end",
    ]


def test_it_marks_every_stage_switch() -> None:
    (axes,) = figure().axes
    marked = [text.get_text() for text in axes.texts]
    assert marked == ["6 blocks", "12 blocks"]
    upright = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert upright == [0, 2]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_curves_give_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    for name in ("one", "two"):
        save_picture(figure(), tmp_path / f"{name}.{suffix}")
    one, two = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert len(one) > 5000


@pytest.mark.parametrize(("largest", "power"), [(999, "10⁰"), (1000, "10³"), (7 * 10**13, "10¹²")])
def test_ticks_have_few_digits(largest: int, power: str) -> None:
    (axes,) = held_out_curves([Curve("a", [largest], [1.0])], title="", unit="nats").axes
    assert power in axes.get_xlabel()
