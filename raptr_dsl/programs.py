"""How many programs an ahead-of-time compiler has to build: the combinations of sizes that can occur (rule 38)."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import groupby, product
from typing import NamedTuple

from raptr_dsl.axes import AXES, BLOCKS
from raptr_dsl.flops.backward import marginals
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Occupancy, Segment, segments

Size = int | tuple[str, int]
"""How many units of a site run, or the bucket that holds them."""


class _Run(NamedTuple):
    """Neighbouring blocks in which the same axes run in full, of which so many run at least and at most."""

    full: frozenset[str]
    least: int
    most: int


def count_shapes(stages: Iterable[BoundStage], shape: ModelShape) -> int:
    """How many distinct combinations of active units an ahead-of-time compiler can meet."""
    whole = {name: axis.space(shape).units for name, axis in AXES.items()}
    full = {name: (units,) for name, units in whole.items()}
    boxes = {
        (
            tuple((full | {name: _sizes(name, stage, taken, full) for name, taken in segment.axes.items()}).values()),
            _blocks(stage, segment, shape.layers),
        )
        for stage in stages
        for segment in segments(stage, shape)
    }
    programs: dict[Hashable, int] = {}
    for box, blocks in boxes:
        for sizes in product(*box):
            by_axis = dict(zip(whole, sizes, strict=False))
            runs = _runs(blocks, frozenset(axis for axis, size in by_axis.items() if size != whole[axis]))
            programs[sizes, runs] = _orders(runs, by_axis[BLOCKS.name])
    return sum(programs.values())


def _blocks(stage: BoundStage, segment: Segment, layers: int) -> tuple[_Run, ...]:
    """Of each block of a stack, whether it runs and what is full in it (rule 4); empty where all are alike."""
    spared = {name: rule.full for name, rule in stage.axes.items() if rule.full}
    if not spared:
        return ()
    return tuple(
        _Run(frozenset(name for name, blocks in spared.items() if block in blocks), int(chance == 1), int(chance > 0))
        for block, chance in enumerate(marginals(segment.axes.get(BLOCKS.name), layers))
    )


def _runs(blocks: Sequence[_Run], thinned: frozenset[str]) -> tuple[_Run, ...]:
    """The runs of like blocks where these axes are thinned; empty where all that run are alike."""
    alike = groupby((block for block in blocks if block.most), key=lambda block: block.full & thinned)
    runs = []
    for full, members in alike:
        held = list(members)
        runs.append(_Run(full, sum(one.least for one in held), sum(one.most for one in held)))
    return tuple(runs) if len(runs) > 1 else ()


def _orders(runs: Sequence[_Run], size: Size) -> int:
    """In how many ways blocks can be divided among the runs: a program knows how many are in each."""
    ways = {0: 1}
    for run in runs:
        found: dict[int, int] = {}
        for before, times in ways.items():
            for count in range(run.least, run.most + 1):
                found[before + count] = found.get(before + count, 0) + times
        ways = found
    return ways.get(size if isinstance(size, int) else size[1], 1)


def _sizes(name: str, stage: BoundStage, taken: Occupancy, full: Mapping[str, tuple[int, ...]]) -> tuple[Size, ...]:
    """What tells programs apart along one axis: how many units run, or the bucket that holds them unless all do."""
    rule = stage.axes.get(name)
    if rule is None or not rule.buckets or rule.train is not None:
        return taken.possible
    (units,) = full[name]
    return tuple(
        dict.fromkeys(
            count if count == units else ("bucket", next(size for size in rule.buckets if count <= size))
            for count in taken.possible
        )
    )
