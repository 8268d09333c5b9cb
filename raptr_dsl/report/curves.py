"""Held-out loss against compute, for several runs in one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which the colour-blind can tell apart, each with a marker of its own.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
GREY = "#6b6b6b"
_SALT = "raptr"


@dataclass(frozen=True, slots=True)
class Switch:
    """Where a stage begins: FLOPs executed until then, and what it trains."""

    flops: int
    label: str


@dataclass(frozen=True, slots=True)
class Curve:
    """One run: the held-out loss of the full network after so many training FLOPs."""

    label: str
    flops: Sequence[int]
    losses: Sequence[float]
    switches: Sequence[Switch] = ()


def held_out_curves(curves: Sequence[Curve], *, title: str, unit: str) -> Figure:
    """The curves over FLOPs, with the stage switches of each; `unit` is the loss's ("nats per byte")."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    power = _power(max(curve.flops[-1] for curve in curves))
    for curve, (colour, marker) in zip(curves, STYLES, strict=False):
        _draw(axes, curve, colour, marker, power)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=14)
    axes.set_xlabel(f"training FLOPs executed (10{_superscript(power)}, vocabulary head included)")
    axes.set_ylabel(f"held-out loss of the full network ({unit})")
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper right", fontsize=10, framealpha=1, edgecolor="white")
    return figure


def save_picture(figure: Figure, path: Path) -> None:
    """Writes .png or .svg, by the suffix: the same bytes for the same figure.

    Raises:
        OSError: it cannot be written.
    """
    import matplotlib as mpl

    volatile = "Date" if path.suffix == ".svg" else "Software"
    with mpl.rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "none"}):
        figure.savefig(path, dpi=150, metadata={volatile: None})


def _draw(axes: Axes, curve: Curve, colour: str, marker: str, power: int) -> None:
    scaled = [flops / 10**power for flops in curve.flops]
    axes.plot(
        scaled,
        curve.losses,
        color=colour,
        marker=marker,
        markersize=4,
        linewidth=1.6,
        label=f"{curve.label}: {curve.losses[-1]:.3f} at the end",
    )
    for switch in curve.switches:
        place = switch.flops / 10**power
        axes.axvline(place, color=GREY, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
        axes.annotate(
            switch.label,
            (place, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=8,
            color=GREY,
            va="bottom",
        )


def _power(largest: int) -> int:
    """The power of 1000 below a number: so that ticks have one to three digits before the point."""
    return (len(str(largest)) - 1) // 3 * 3


def _superscript(number: int) -> str:
    return "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(number))
