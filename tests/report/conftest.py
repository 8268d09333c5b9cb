"""Plans to draw."""

from hypothesis import strategies as st

import raptr_dsl
from raptr_dsl.ir.plan import Plan

LAYERS = 8


@st.composite
def plans(draw: st.DrawFn, most_stages: int = 6) -> Plan:
    """Plans of an 8-block model with depth and heads thinned, in stages of any length."""
    lengths = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=most_stages))
    lines = [
        f"model layers={LAYERS} heads=4 hidden=16 ffn=32 vocab=11 seq=8",
        f"steps {sum(lengths)}",
        "allow partial",
    ]
    for length in lengths:
        depth, heads = draw(st.integers(1, LAYERS)), draw(st.integers(1, 4))
        axes = draw(st.sampled_from(("", f"depth={depth}", f"heads={heads}", f"depth={depth} heads={heads}")))
        lines.append(f"stage {axes} steps={length}")
    return raptr_dsl.compile_text("\n".join(lines))
