"""The proof that the account of the core is what an attached model costs: torch's own count of a block, on `meta`.

A copy of a block without storage is run forward and backward with what the block was called with on a tiny batch,
attention in its MATH form, and torch's count is compared with the account at the same shapes, as integers. What cannot
be proven is not counted, and refuses nothing: the plan is obeyed all the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from raptr_dsl.ir.plan import Plan
from raptr_torch.flops import Formula, Gradients, LinearForward
from raptr_torch.ledger import FlopLedger
from raptr_torch.proof import Call, mapped
from raptr_torch.seeing import Inputs
from raptr_torch.slicing import Selection
from raptr_torch.stacks import Stack, unwrapped
from raptr_torch.storageless import copy_without_storage, without_storage
from raptr_torch.units import AxisLinears, install

_FIRST_OF_FROZEN = Gradients(weights=True, input=False)
"""The first block under frozen embeddings."""


class Unproven(Exception):
    """Why FLOPs are not counted."""


def ledger_of(
    plan: Plan,
    stacks: Sequence[Stack],
    units: Mapping[str, Sequence[AxisLinears]],
    calls: Mapping[str, Call],
    outside: Sequence[LinearForward],
    is_frozen: bool = False,
) -> FlopLedger:
    """A ledger that counts by the account of the plan's shape, where that is proven; else one that says why not.

    Args:
        units: by axis that the plan thins, the layers of every block.
        calls: what the first and last block of each stack were called with on a tiny batch.
        outside: what linear layers outside the blocks ran on it, in order.
        is_frozen: whether somebody has frozen parameters by hand.
    """
    formula = Formula(plan.shape, {axis: sites[0].units for axis, sites in sorted(units.items())})
    paths = [path for stack in stacks for path, _ in stack.blocks]
    try:
        head = _proven_head(formula, outside)
        proven = _proven_blocks(plan, formula, stacks, units, calls, is_frozen)
    except Unproven as problem:
        return FlopLedger(problem=str(problem))
    return FlopLedger(formula, proven, paths, head)


def _proven_head(formula: Formula, outside: Sequence[LinearForward]) -> str:
    """The path of the layer that predicts tokens; with all others outside the blocks it costs what a head does."""
    vocab = formula.shape.vocab
    head = next((ran for ran in reversed(outside) if ran.outputs == vocab), None)
    if head is None:
        raise Unproven(f"no linear layer outside the blocks has {vocab:,} outputs, so the head cannot be seen")
    found = sum(2 * ran.rows * ran.inputs * ran.outputs for ran in outside)
    rows = sum(ran.rows for ran in outside if ran.path == head.path)
    planned = formula.head_forward(rows)
    if found != planned:
        raise Unproven(
            f"on {rows} positions linear layers outside the blocks compute {found:,} FLOPs forward, and the head of "
            f"the plan's shape {planned:,}"
        )
    return head.path


def _proven_blocks(
    plan: Plan,
    formula: Formula,
    stacks: Sequence[Stack],
    units: Mapping[str, Sequence[AxisLinears]],
    calls: Mapping[str, Call],
    is_frozen: bool,
) -> frozenset[Gradients]:
    """The ways to be tracked by autograd in which blocks cost what the formula says: all that the plan needs.

    Args:
        is_frozen: whether somebody has frozen parameters by hand, as those of the embeddings.
    """
    proven = _gradients(plan)
    number = 0
    for place, stack in enumerate(stacks):
        for path, block in stack.blocks:
            if path in calls:
                trial = _Trial(formula, place, path, unwrapped(block), calls[path])
                for gradients in proven:
                    trial.prove(gradients)
                for axis, sites in units.items():
                    trial.prove_half(axis, sites[number])
            number += 1
    path, block = stacks[0].blocks[0]
    if is_frozen and _Trial(formula, 0, path, unwrapped(block), calls[path]).holds(_FIRST_OF_FROZEN):
        proven |= {_FIRST_OF_FROZEN}
    return proven


def _gradients(plan: Plan) -> frozenset[Gradients]:
    """The ways in which autograd tracks blocks under a plan."""
    weights = {True}
    if any(rule.train is not None for stage in plan.stages if (rule := stage.axes.get("depth"))):
        weights.add(False)
    inputs = {True}
    if any("embed" in stage.freeze for stage in plan.stages):
        inputs.add(False)
    return frozenset(Gradients(trains, flows) for trains in weights for flows in inputs)


class _Trial:
    """One block, to be compared with the formula."""

    def __init__(self, formula: Formula, stack: int, path: str, block: nn.Module, call: Call) -> None:
        self._formula, self._stack, self._path, self._block = formula, stack, path, block
        self._args, self._kwargs = (mapped(given, without_storage) for given in (call.args, call.kwargs))
        self._inputs = Inputs(block)
        self._seen = self._inputs.seen(call.args, call.kwargs)
        self._everything = dict(formula.units)

    def holds(self, gradients: Gradients) -> bool:
        """Whether the whole block costs what the formula says."""
        return self._found(gradients) == self._planned(self._everything, gradients)

    def prove(self, gradients: Gradients) -> None:
        """Raises where it does not."""
        self._compare("", self._found(gradients), self._planned(self._everything, gradients))

    def prove_half(self, axis: str, site: AxisLinears) -> None:
        """The same with half of the units of an axis."""
        on = range(site.units)[1::2] or range(1)
        gradients = Gradients(weights=True, input=True)
        planned = self._planned({**self._everything, axis: len(on)}, gradients)
        self._compare(f" with {len(on)} of {site.units} units of {axis}", self._found(gradients, site, on), planned)

    def _compare(self, how: str, found: int, planned: int) -> None:
        if found != planned:
            raise Unproven(
                f"on {self._seen.batch} × {self._seen.seq} positions {self._path} computes {found:,} FLOPs in "
                f"training{how}, and a block of the plan's shape {planned:,}"
            )

    def _planned(self, active: Mapping[str, int], gradients: Gradients) -> int:
        if not self._formula.fits(self._stack, self._seen):
            raise Unproven(f"{self._path} is not called with an encoder's output as the plan's shape says")
        return self._formula.block(self._stack, self._seen, tuple(active.values()), gradients)

    def _found(self, gradients: Gradients, site: AxisLinears | None = None, on: Sequence[int] = ()) -> int:
        """Torch's own count of a forward and backward pass."""
        try:
            return self._count(gradients, site, on)
        except Exception as error:  # whatever a foreign forward may raise where tensors have no values
            raise Unproven(f"{self._path} cannot be tried on meta: {type(error).__name__}: {error}") from error

    def _count(self, gradients: Gradients, site: AxisLinears | None, on: Sequence[int]) -> int:
        block, site = copy_without_storage(self._block, site)
        for parameter in block.parameters():
            parameter.requires_grad_(bool(gradients.weights) and parameter.is_floating_point())
        args, kwargs = (mapped(given, Tensor.detach) for given in (self._args, self._kwargs))
        for given in self._inputs.differentiable(args, kwargs):
            given.requires_grad_(gradients.input)
        if site is not None:
            selection = Selection(site.units, always=True)
            install(site, selection)
            site.select(selection, on, None)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            output = block(*args, **kwargs)
            output = output[0] if isinstance(output, tuple) else output
            if output.requires_grad:
                output.sum().backward()
        return counter.get_total_flops()
