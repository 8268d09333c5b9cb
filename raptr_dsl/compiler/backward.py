"""Whether each stage trains something, and its cost is known before training (rules 4, 33, 34)."""

from collections.abc import Iterator, Mapping, Sequence

from raptr_dsl.axes import BLOCKS, trained
from raptr_dsl.compiler.origins import Origins
from raptr_dsl.diagnostics import Diagnostics
from raptr_dsl.flops.backward import is_known, is_partial, marginals, surely_trains, unsure_block
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.occupancy import Occupancy, segments


def check_backward(
    stages: Sequence[BoundStage],
    numbers: Sequence[int],
    shape: ModelShape,
    origins: Origins,
    diagnostics: Diagnostics,
) -> bool:
    """Whether every stage can be trained and accounted as it says; if not, why is recorded.

    Args:
        numbers: which stage of the schedule each is.
    """
    good = True
    for stage, number in zip(stages, numbers, strict=True):
        for field, code, message, help in (*_unsure(stage, shape), *_problems(stage, shape)):
            good = False
            origin = origins.at(("stages", number, *field))
            diagnostics.add(code, message, origin.span, related=origin.chain, help=help)
    return good


_Problem = tuple[tuple[str, ...], str, str, str]
"""The field of a stage, the code, what is wrong, and what helps."""


def _unsure(stage: BoundStage, shape: ModelShape) -> Iterator[_Problem]:
    """A block that costs more than the others, and is drawn: every seed would cost something else."""
    found = unsure_block(stage, shape)
    if found is None:
        return
    axis, block, what = found
    kept = sorted({block, *(stage.axes[BLOCKS.name].keep if BLOCKS.name in stage.axes else ())})
    help = f"keep it: keep depth=[{', '.join(map(str, kept))}], or leave it out of {axis}.full"
    if what == "trains":
        help = f"leave it out of {axis}.full, or train a prefix or suffix"
    message = f"block {block} is to run all of {axis}, and whether it {what} is drawn: seeds would differ in their cost"
    yield ("axes", axis, "full"), "full-block-drawn", message, help


def _problems(stage: BoundStage, shape: ModelShape) -> Iterator[_Problem]:
    if not (stage.freeze or is_partial(stage)):
        return
    train = ("axes", BLOCKS.name, "train")
    if len(stage.freeze) == 1 and shape.tied:
        frozen, other = ("embedding", "head") if stage.freeze == ("embed",) else ("head", "embedding")
        message = f"the {frozen} is frozen and the {other} is not, and they are one matrix: the model is tied"
        yield ("freeze",), "freeze-tied", message, "write freeze=[embed, head], or tied=false if they are two"
        return
    parts, layers = list(segments(stage, shape)), shape.layers
    if is_partial(stage) and not all(_may_train(part.axes, layers) for part in parts):
        message = "no block that runs is among those that train"
        yield train, "trains-nothing", message, "train blocks that run: of a prefix of 6, the first 6"
    elif len(stage.freeze) == 2 and not all(surely_trains(part.axes, layers) for part in parts):
        message = "embedding and head are frozen, and in some steps no block trains: those would train nothing"
        yield ("freeze",), "trains-nothing", message, "freeze one of them only, or keep a block that trains"
    elif is_partial(stage) and not _is_accounted(stage, shape):
        message = "where the gradient begins is drawn anew in each step: what backward costs is not known beforehand"
        yield train, "backward-unknown", message, "train a suffix, or leave the embedding trained"


def _may_train(axes: Mapping[str, Occupancy], layers: int) -> bool:
    both = zip(marginals(axes.get(BLOCKS.name), layers), marginals(axes[trained(BLOCKS.name)], layers), strict=True)
    return any(one and other for one, other in both)


def _is_accounted(stage: BoundStage, shape: ModelShape) -> bool:
    if "embed" in stage.freeze and shape.stacks > 1:
        return False
    return all(is_known(part.axes, stage.freeze, shape.layers) for part in segments(stage, shape))
