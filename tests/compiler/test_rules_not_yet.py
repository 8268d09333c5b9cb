"""Rules of what this version refuses: each is parsed, and answered by name instead of being ignored."""

from raptr_dsl import compile_text
from raptr_dsl.flops import full_blocks_cost, head_cost

MODEL = "model layers=4 heads=2 hidden=32 ffn=128 vocab=64 seq=8 batch=2\nsteps 100\n"


def test_rule_34_while_everything_trains_each_matmul_costs_both_its_gradients() -> None:
    """Three times the forward pass: 2·M·N·K of query, key, value, output, scores, values, up, down, and of the head."""
    shape = compile_text(MODEL + "stage steps=rest\n").shape
    forward = 4 * (2 * 16 * 32 * 32) + 2 * (2 * 2 * 8 * 8 * 32) + 2 * (2 * 16 * 32 * 128)
    assert full_blocks_cost(shape) == 3 * 4 * forward
    assert head_cost(shape) == 3 * 2 * 16 * 32 * 64
