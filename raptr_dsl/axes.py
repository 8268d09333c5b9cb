"""The axes along which a network can be thinned. A new axis is one more entry of `AXES`, and nothing else.

An axis is a list of *sites*, each with the same number of *units* of `group` elements (rule 4). What an axis
saves is said by `powers`: the FLOPs of a part (see `flops.parts`) fall with the share of active units to that power.

Blocks are numbered through all stacks: a site of a per-block axis is a block, unit u of stack s is block s·layers + u.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from raptr_dsl.ir.model import ModelShape


@dataclass(frozen=True, slots=True)
class Space:
    """The units of one axis of one model: `sites` × `units` units of `group` elements."""

    sites: int
    units: int
    group: int


@dataclass(frozen=True, slots=True)
class Axis:
    """What a stage can thin out.

    Attributes:
        element, unit: what a count in a file counts, and what is on or off together (singular, for messages).
        per_block: whether there is a site in every block, so that a block that is off idles the site as well.
        space: the axis's units in a model of a given shape.
        powers: for each part of the FLOP account that shrinks with this axis, the exponent; `HEAD` for all outside the
            blocks.
        laws: the sampling laws that make sense on it, the first the default; None for all, and for `fixed`. Where a
            power is not 1 they are exact: the mean of a square is not known of a count that varies.
        lacks: attributes of a stage that mean nothing on it; `full`, which names blocks, where no block has a site.
        units_are_blocks: whether a unit is a block: one that is off idles all within it, and `sqrt` and `linear`
            look at the skipped ones behind an active one (rule 29).
        thins_tokens: whether a step sees fewer tokens: "relative to the full network" has two meanings (rule 37).
        excludes: axes that a stage cannot thin beside this one.
        least: the word of a shape that says with how few units of a site the model runs; "" where none is enough.
        misfit: why a model has no such axis, in the user's words; "" if it has.
    """

    name: str
    element: str
    unit: str
    per_block: bool
    space: Callable[[ModelShape], Space]
    powers: Mapping[str, int]
    laws: tuple[str, ...] | None = None
    lacks: frozenset[str] = frozenset({"buckets", "train", "grow", "moments"})
    units_are_blocks: bool = False
    thins_tokens: bool = False
    excludes: frozenset[str] = frozenset()
    least: str = ""
    misfit: Callable[[ModelShape], str] = lambda shape: ""

    @property
    def has_weights(self) -> bool:
        """Whether a unit is weights, as blocks, heads and hidden units are, and not a part of the data."""
        return "idle" not in self.lacks

    def is_counted(self, shape: ModelShape) -> bool:
        """Whether a model has such units of weights: they are counted wherever they run."""
        return self.has_weights and not self.misfit(shape)

    def fewest(self, shape: ModelShape) -> int:
        """With how few units of a site on a model can run."""
        return getattr(shape, self.least) if self.least else 0

    def units_of(self, elements: int | Fraction, shape: ModelShape) -> Fraction:
        """Elements as units: not whole where a count is no multiple of the group."""
        return Fraction(elements) / self.space(shape).group


_ATTENTION = tuple(
    f"{kind}.{part}" for kind in ("attention", "cross_attention") for part in ("query", "key_value", "scores", "output")
)
"""One mask for both attentions of a decoder's block."""

_FFN = ("ffn.input", "ffn.output")
_ROUTER = "ffn.router"
_BLOCK = (*_ATTENTION, _ROUTER, *_FFN)
"""All parts of a block."""

HEAD = "head"
"""All outside the blocks, as one part: no axis thins some of it."""

_BY_POSITION = {part: 2 if part.endswith(".scores") else 1 for part in _BLOCK}
"""Each position is projected by itself; each looks at all."""

_NO_UNITS_OF_WEIGHTS = frozenset({"buckets", "train", "grow", "moments", "scale", "idle"})


def _one_sequence(shape: ModelShape) -> str:
    return "this model reads two sequences, of which an axis of positions could be either" if shape.source_seq else ""


def _dense(shape: ModelShape) -> str:
    return "the hidden units of this model are those of its experts, which are thinned as a whole" * shape.has_experts


def _with_experts(shape: ModelShape) -> str:
    return "" if shape.has_experts else "this model has no experts"


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis(
            name="depth",
            element="block",
            unit="block",
            per_block=False,
            space=lambda shape: Space(sites=shape.stacks, units=shape.layers, group=1),
            powers=dict.fromkeys(_BLOCK, 1),
            lacks=frozenset({"full"}),
            units_are_blocks=True,
        ),
        Axis(
            name="heads",
            element="head",
            unit="group of heads",
            per_block=True,
            space=lambda shape: Space(sites=shape.blocks, units=shape.kv_heads, group=shape.heads // shape.kv_heads),
            powers=dict.fromkeys(_ATTENTION, 1),
        ),
        Axis(
            name="width",
            element="hidden unit",
            unit="group of hidden units",
            per_block=True,
            space=lambda shape: Space(
                sites=shape.blocks, units=shape.ffn // shape.width_group, group=shape.width_group
            ),
            powers=dict.fromkeys(_FFN, 1),
            misfit=_dense,
        ),
        Axis(
            name="experts",
            element="expert",
            unit="expert",
            per_block=True,
            space=lambda shape: Space(sites=shape.blocks, units=shape.experts, group=1),
            least="top_k",
            powers={_ROUTER: 1},
            lacks=frozenset({"buckets", "train", "grow", "moments", "scale"}),
            misfit=_with_experts,
        ),
        Axis(
            name="positions",
            element="position",
            unit="position",
            per_block=True,
            space=lambda shape: Space(sites=shape.blocks, units=shape.seq, group=1),
            powers=_BY_POSITION,
            laws=("fixed", "balanced", "rotate", "prefix", "suffix", "window", "stratified", "ranked"),
            lacks=_NO_UNITS_OF_WEIGHTS,
            excludes=frozenset({"seq"}),
            misfit=_one_sequence,
        ),
        Axis(
            name="seq",
            element="position",
            unit="position",
            per_block=False,
            space=lambda shape: Space(sites=1, units=shape.seq, group=1),
            powers={**_BY_POSITION, HEAD: 1},
            laws=("prefix",),
            lacks=_NO_UNITS_OF_WEIGHTS | {"full"},
            thins_tokens=True,
            excludes=frozenset({"positions"}),
            misfit=_one_sequence,
        ),
        Axis(
            name="batch",
            element="sequence",
            unit="sequence",
            per_block=False,
            space=lambda shape: Space(sites=1, units=shape.batch, group=1),
            powers=dict.fromkeys((*_BLOCK, HEAD), 1),
            laws=("prefix",),
            lacks=_NO_UNITS_OF_WEIGHTS | {"full"},
            thins_tokens=True,
        ),
    )
}


def trained(axis: str) -> str:
    """The name of the draw of those units of an axis that are trained (rule 33); its words are those of that name."""
    return f"{axis}.train"


BLOCKS = next(axis for axis in AXES.values() if axis.units_are_blocks)
"""The axis whose units are the blocks themselves."""
