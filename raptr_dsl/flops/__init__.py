"""Exact FLOP accounting: what a schedule costs, under conventions by name (docs/flops.md)."""

from raptr_dsl.flops.accounting import MATMUL, TRAINING, Accounting, Causal, Costs, Recompute
from raptr_dsl.flops.conventions import CONVENTIONS, Convention
from raptr_dsl.flops.parts import Exact, Parts
from raptr_dsl.flops.report import (
    Case,
    FlopReport,
    block_cost,
    full_blocks_cost,
    head_cost,
    head_share,
    run_report,
)

__all__ = [
    "CONVENTIONS",
    "MATMUL",
    "TRAINING",
    "Accounting",
    "Case",
    "Causal",
    "Convention",
    "Costs",
    "Exact",
    "FlopReport",
    "Parts",
    "Recompute",
    "block_cost",
    "full_blocks_cost",
    "head_cost",
    "head_share",
    "run_report",
]
