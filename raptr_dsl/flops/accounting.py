"""An account: a convention, and what it is to assume of attention's mask and of activation memory."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Literal, get_args

from raptr_dsl.diagnostics import did_you_mean
from raptr_dsl.flops.conventions import CONVENTIONS
from raptr_dsl.flops.parts import LAST_MATMUL, Exact, Parts, has_weight
from raptr_dsl.ir.model import ModelShape

Causal = Literal["full", "half"]
Recompute = Literal["none", "full", "early_stop"]

TRAINING = 3
"""A training step costs its forward pass, and twice that again for the gradients of weights and inputs.

Where parts of the network do not train (rule 34), this is no constant: a matmul costs its forward, its weight's
gradient if the weight trains, and its input's if anything before it does; scores have no weight, but two inputs. A
block that trains has a norm in front of its first matmul, so that each of its matmuls costs its input's gradient.
"""


@dataclass(frozen=True, slots=True)
class Costs:
    """FLOPs of one optimizer step at full size.

    Attributes:
        stacks: training FLOPs, everything trained; for each residual stack, by part, those of *one* of its blocks.
        forward: those of its forward pass alone, the same way.
        outside: forward FLOPs of all outside the blocks.
    """

    stacks: tuple[Mapping[str, Exact], ...]
    forward: tuple[Mapping[str, Exact], ...]
    outside: Mapping[str, Exact]

    @property
    def head(self) -> Exact:
        """Training FLOPs of all outside the blocks, everything trained."""
        return self.head_without(())

    def head_without(self, frozen: Collection[str]) -> Exact:
        """The same where parts are frozen. Something before the head trains always, so its input has a gradient."""
        return sum(
            flops * (1 if "embed" in frozen else TRAINING)
            if part == "embedding"
            else flops * (TRAINING - ("head" in frozen))
            for part, flops in self.outside.items()
        )

    def block(self, part: str, stack: int, trains: bool = True, flows: bool = True) -> Exact:
        """Training FLOPs of one part of one block (rule 34).

        Args:
            trains: whether its weights do. flows: whether they or anything before the block does.
        """
        forward = self.forward[stack][part]
        if not flows:
            return forward
        return self.stacks[stack][part] - (0 if trains or not has_weight(part) else forward)

    @property
    def blocks(self) -> tuple[Exact, ...]:
        """Of one block of each stack."""
        return tuple(whole(sum(parts.values())) for parts in self.stacks)


@dataclass(frozen=True, slots=True)
class Accounting:
    """How FLOPs are counted.

    Attributes:
        convention: a name of `CONVENTIONS`.
        causal: `half` counts half of the scores of attention that looks back only, as kernels that skip the masked
            half do; `full` counts all pairs.
        recompute: what activation checkpointing runs again of every block that runs: `full` its whole forward pass;
            `early_stop` all but its last matmul, whose product backward does not need: torch's default, where neither
            a norm nor dropout comes behind that matmul, nor the weight of an expert, which makes it `full`. Nothing
            outside the blocks is run again.
    """

    convention: str = "matmul"
    causal: Causal = "full"
    recompute: Recompute = "none"

    def problem(self, shape: ModelShape | None = None) -> str:
        """Why this is no account, or none of such a model, in the user's words; "" if it is one."""
        for what, value, legal in (
            ("convention", self.convention, tuple(CONVENTIONS)),
            ("causal", self.causal, get_args(Causal)),
            ("recompute", self.recompute, get_args(Recompute)),
        ):
            if value not in legal:
                guess = did_you_mean(value, legal)
                known = f"did you mean {guess}?" if guess else f"known are {', '.join(legal)}"
                return f"there is no FLOP {what} {value!r}; {known}"
        return "" if shape is None else self._misfit(shape)

    def _misfit(self, shape: ModelShape) -> str:
        convention = CONVENTIONS[self.convention]
        if convention.one_stack and shape.stacks > 1:
            others = ", ".join(other.name for other in CONVENTIONS.values() if not other.one_stack)
            return (
                f"the formula of {self.convention} knows no encoder beside a decoder, which this model has; "
                f"these count both: {others}"
            )
        if self.causal == "half" and not convention.scores:
            return f"{self.convention} counts no scores, so causal=half halves nothing"
        if self.causal == "half" and not shape.causal:
            return "this model's attention looks both ways, so causal=half halves nothing"
        return ""

    def costs(self, shape: ModelShape) -> Costs:
        """What a training step of a shape costs at full size.

        Raises:
            ValueError: the account does not fit the shape.
        """
        return _costs(self, shape)


MATMUL = Accounting()
"""The account that torch's counter and the audit of executed FLOPs agree with."""


@lru_cache(maxsize=64)
def _costs(accounting: Accounting, shape: ModelShape) -> Costs:
    problem = accounting.problem(shape)
    if problem:
        raise ValueError(problem)
    full = CONVENTIONS[accounting.convention].parts(shape)
    forward = tuple({part: whole(n) for part, n in parts.items()} for parts in _masked(full, accounting.causal))
    return Costs(
        stacks=tuple(
            {part: whole(_passes(part, accounting.recompute, shape) * flops) for part, flops in parts.items()}
            for parts in forward
        ),
        forward=forward,
        outside=full.outside,
    )


def _masked(forward: Parts, causal: Causal) -> tuple[Mapping[str, Exact], ...]:
    """The stacks with the scores that the mask leaves: the last stack is the one that looks back only."""
    if causal == "full":
        return forward.stacks
    *encoder, decoder = forward.stacks
    return (*encoder, {**decoder, "attention.scores": Fraction(decoder["attention.scores"], 2)})


def _passes(part: str, recompute: Recompute, shape: ModelShape) -> int:
    """How many times the forward FLOPs of a part are spent in a training step."""
    is_product_needed = part != LAST_MATMUL or shape.has_experts
    again = recompute == "full" or (recompute == "early_stop" and is_product_needed)
    return TRAINING + again


def times(one: Exact, other: Exact) -> Exact:
    """A product, as an integer where it is whole: faster than a `Fraction` and `whole` of it."""
    denominator = one.denominator * other.denominator
    quotient, rest = divmod(one.numerator * other.numerator, denominator)
    return Fraction(quotient * denominator + rest, denominator) if rest else quotient


def whole(number: Exact) -> Exact:
    """A whole number as an integer."""
    return number.numerator if number.denominator == 1 else number
