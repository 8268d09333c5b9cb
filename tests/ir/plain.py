"""A plan made with nothing but the package: what a process without NumPy can do."""

from fractions import Fraction

from raptr_dsl.ir.bound import Border, BoundRule, BoundStage
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_dsl.laws import LAWS


def make() -> Plan:
    """Nine steps with two laws and one curve's worth of borders."""
    shape = ModelShape(layers=12, heads=12, hidden=24, ffn=128, vocab=11, seq=4)
    sizes = tuple(Border(offset=offset, value=Fraction(6 + 2 * offset)) for offset in range(3))
    axes = {
        "depth": BoundRule(law=LAWS["balanced"](), sizes=sizes),  # pyright: ignore[reportCallIssue]
        "heads": BoundRule(law=LAWS["bernoulli"](), sizes=sizes, scale="inverse"),  # pyright: ignore[reportCallIssue]
    }
    stage = BoundStage(start=0, stop=9, duration=Fraction(9), axes=axes)
    return Plan(name="plain", seed=3, shape=shape, steps=9, partial=True, stages=(stage,))
