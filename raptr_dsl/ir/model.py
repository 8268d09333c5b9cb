"""The shape of a transformer: all that the compiler needs to know of a model."""

from fractions import Fraction
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from raptr_dsl.ir.base import Frozen, Rational

Size = Annotated[int, Field(ge=1, le=2**40, strict=True)]
SourceSize = Annotated[int, Field(ge=0, le=2**40, strict=True)]
DEFAULT_WIDTH_GROUP = 64


class ModelShape(Frozen):
    """A stack of `layers` residual blocks (attention, then feed-forward) under a vocabulary head.

    With `source_seq` there are two stacks of `layers` blocks each: an encoder that reads `source_seq` positions, and a
    decoder of `seq` positions whose blocks attend to the encoder's output as well. Blocks are numbered through both,
    the encoder's first.

    Attributes:
        heads, kv_heads: query heads and key/value heads of a block; `heads` is a multiple of `kv_heads`.
        head_dim: columns of one head; `hidden / heads` unless given.
        ffn: hidden units of the feed-forward part, of one expert where it has several; `gated` adds the third matrix
            (SwiGLU, GeGLU).
        experts, top_k: feed-forward parts of a block among which a router chooses (a mixture of experts), and to how
            many of them it sends each token; 1 where there is no router.
        width_group: hidden units that are on or off together; 64 where it divides `ffn`, else 1.
        seq, batch: positions of a sequence, and sequences of one optimizer step (all micro-batches, all ranks).
        source_seq: positions of the encoder's sequence, 0 where there is no encoder beside the decoder.
        head_share: the share of positions that the vocabulary head sees (15% for masked-LM heads).
        head_transform: whether the head begins with a dense hidden × hidden layer (BERT's does).
        tied: whether the head's matrix is the embedding's.
        causal: whether attention looks back only; that of an encoder beside a decoder, and across to it, never does.
    """

    layers: Size
    heads: Size
    hidden: Size
    ffn: Size
    experts: Size = 1
    top_k: Size = 1
    vocab: Size
    seq: Size
    source_seq: SourceSize = 0
    batch: Size = 1
    kv_heads: Size
    head_dim: Size
    width_group: Size
    gated: bool = False
    tied: bool = True
    causal: bool = True
    head_share: Rational = Fraction(1)
    head_transform: bool = False

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        """The words a file leaves out follow from the ones it gives."""
        if not isinstance(values, dict):
            return values
        filled: dict[str, Any] = dict(values)
        heads, hidden, ffn = (filled.get(word) for word in ("heads", "hidden", "ffn"))
        filled.setdefault("kv_heads", heads)
        if isinstance(heads, int) and isinstance(hidden, int) and heads > 0 and hidden % heads == 0:
            filled.setdefault("head_dim", hidden // heads)
        if isinstance(ffn, int):
            filled.setdefault("width_group", 1 if ffn % DEFAULT_WIDTH_GROUP else DEFAULT_WIDTH_GROUP)
        return filled

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads={self.heads} is not a multiple of kv_heads={self.kv_heads}")
        if self.ffn % self.width_group:
            raise ValueError(f"ffn={self.ffn} is not a multiple of width_group={self.width_group}")
        if self.top_k > self.experts:
            raise ValueError(f"top_k={self.top_k} is more than experts={self.experts}")
        if not 0 < self.head_share <= 1:
            raise ValueError(f"head_share={self.head_share} is not between 0 and 1")
        if self.source_seq and not self.causal:
            raise ValueError(f"source_seq={self.source_seq} asks for a decoder, and causal=false says there is none")
        return self

    @property
    def stacks(self) -> int:
        """Residual stacks of `layers` blocks: 2 of an encoder–decoder, else 1."""
        return 2 if self.source_seq else 1

    @property
    def blocks(self) -> int:
        """All residual blocks."""
        return self.stacks * self.layers

    @property
    def has_experts(self) -> bool:
        """Whether the feed-forward part of a block is several, among which a router chooses."""
        return self.experts > 1

    @property
    def tokens(self) -> int:
        """Positions of one optimizer step; an encoder's are apart."""
        return self.batch * self.seq

    @property
    def head_positions(self) -> int:
        """Positions of one optimizer step that the vocabulary head sees: whole ones of every sequence."""
        return self.batch * int(self.seq * self.head_share)
