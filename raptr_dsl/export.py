"""Masks as safetensors files, bit-packed: for trainers in other languages. The format is in docs/sampling.md."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from raptr_dsl.axes import AXES, trained
from raptr_dsl.files import replacing
from raptr_dsl.ir.storage import write_failure
from raptr_dsl.sampling import CHUNK_MASKS

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan

FORMATS = ("safetensors",)


def export_masks(plan: Plan, path: Path, axes: Iterable[str] | None, start: int, stop: int | None, format: str) -> None:
    """Writes one uint8 tensor an axis; see `Plan.export`. Its memory does not grow with the number of steps.

    An axis of which a stage trains a part has a second tensor, `depth.train`: the units that train where they run. A
    tensor has the shape of `Plan.masks`, the last dimension packed: unit u is bit u mod 8, counted from the least
    significant, of byte ⌊u/8⌋; unused bits are 0.
    """
    import numpy as np

    if format not in FORMATS:
        raise ValueError(f"masks are exported as {' or '.join(FORMATS)}, not as {format!r}")
    last = plan.steps if stop is None else stop
    if not 0 <= start <= last <= plan.steps:
        raise IndexError(f"steps {start} to {last} are not within the plan's 0 to {plan.steps}")
    thinned = {name for stage in plan.stages for name in stage.axes}
    names = [name for name in AXES if name in (thinned if axes is None else set(axes))]
    if axes is not None and (unknown := sorted(set(axes) - set(AXES))):
        raise ValueError(f"there is no axis {unknown[0]!r}: {', '.join(AXES)}")
    drawn = {name: partial(plan.masks, name) for name in names}
    drawn |= {trained(name): partial(plan.trained, name) for name in names if _is_trained_apart(plan, name)}
    shapes = {name: draw(0, 0).shape[1:] for name, draw in drawn.items()}
    try:
        with replacing(path) as file:
            file.write(_header(plan, shapes, start, last))
            for name, shape in shapes.items():
                at_once = max(1, CHUNK_MASKS // int(np.prod(shape)))
                for first in range(start, last, at_once):
                    masks = drawn[name](first, min(first + at_once, last))
                    file.write(np.packbits(masks, axis=-1, bitorder="little").tobytes())
    except OSError as error:
        raise write_failure("the masks", path, error) from error


def _is_trained_apart(plan: Plan, axis: str) -> bool:
    """Whether some stage trains a part of an axis alone."""
    rules = [stage.axes[axis] for stage in plan.stages if axis in stage.axes]
    return any(rule.train for rule in rules)


def _header(plan: Plan, shapes: dict[str, tuple[int, ...]], start: int, stop: int) -> bytes:
    """The head of a safetensors file: its length in 8 bytes, then JSON that says where each tensor lies.

    Written here because the library wants all data in memory at once. Source: the format's own README.
    """
    header: dict[str, object] = {
        "__metadata__": {
            "format": "raptr-masks-1",
            "digest": plan.digest,
            "rng": plan.rng,
            "seed": str(plan.seed),
            "start": str(start),
            "stop": str(stop),
            "bit_order": "little",
            **{f"units.{name}": str(shape[-1]) for name, shape in shapes.items()},
        }
    }
    offset = 0
    for name, shape in shapes.items():
        packed = [stop - start, *shape[:-1], -(-shape[-1] // 8)]
        size = 1
        for dimension in packed:
            size *= dimension
        header[name] = {"dtype": "U8", "shape": packed, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
