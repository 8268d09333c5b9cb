"""Looking at a model that somebody else wrote: all that can be refused is refused here, before it is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from raptr_dsl.diagnostics import fail
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Plan
from raptr_torch.adapters import has_adapters
from raptr_torch.attached import ModuleSites
from raptr_torch.blocks import has_cache
from raptr_torch.flop_proof import ledger_of
from raptr_torch.flops import LinearForward
from raptr_torch.layouts import Layout, UnitLinears, layout_of, refusal_of
from raptr_torch.ledger import FlopLedger
from raptr_torch.linears import listening, outside_linears
from raptr_torch.looking import (
    growths,
    option_refused,
    require_alike_copies,
    require_odd_blocks_kept,
    require_plain,
    require_planned_config,
    require_untied,
)
from raptr_torch.outside import outside_parts
from raptr_torch.proof import Call, capture, example_of, mapped, prove
from raptr_torch.slicing import is_linear
from raptr_torch.stacks import Stack, find_stacks, unwrapped
from raptr_torch.storageless import copy_without_storage, is_sharded, plain, runs_whole, tracing, without_storage
from raptr_torch.units import AxisLinears, submodule


def sites_of(
    model: nn.Module,
    plan: Plan,
    stacks: Sequence[str] | None = None,
    layout: Layout | None = None,
    example: Any = None,
) -> ModuleSites:
    """Makes a model obey a plan's steps; see `raptr_torch.attach` for the arguments.

    Raises:
        RaptrError: it cannot be; the model is left as it was.
    """
    require_plain(model)
    require_planned_config(model, plan.shape)
    found = find_stacks(model, plan.shape, stacks)
    require_untied(model, found)
    require_odd_blocks_kept(found, plan)
    thinned = sorted({axis for stage in plan.stages for axis in stage.axes} - {"depth"})
    units = {axis: _linears(axis, found, plan.shape, layout) for axis in thinned}
    require_alike_copies(found, plan)
    outputs = _outputs(found, plan, layout)
    freezes = any(stage.freeze for stage in plan.stages)
    trial = _tried(model, found, units, layout, example, freezes)
    outside = outside_parts(model, plan, found, trial.example) if freezes else {}
    if trial.missing:
        flops = FlopLedger(problem=trial.missing)
    else:
        is_frozen = not all(parameter.requires_grad for parameter in model.parameters())
        flops = ledger_of(plan, trial.stacks or found, units, trial.calls, trial.linears, is_frozen)
    return ModuleSites(model, found, units, outside, outputs, flops)


@dataclass(frozen=True)
class _Trial:
    """What a model did with a tiny batch.

    Attributes:
        calls: of the first and last block of each stack, by path. linears: those outside the blocks, in order.
        stacks: of a copy, where that was tried.
        missing: why nothing was tried; "" where it was.
    """

    example: Any = None
    calls: Mapping[str, Call] = field(default_factory=dict)
    linears: Sequence[LinearForward] = ()
    stacks: Sequence[Stack] = ()
    missing: str = ""


def _outputs(stacks: Sequence[Stack], plan: Plan, given: Layout | None) -> dict[nn.Module, list[nn.Module]]:
    """The output projections of every block, where the plan makes those of new blocks zero."""
    if all(source >= 0 for growth in growths(plan) for source in growth.sources):
        return {}
    found = {}
    for stack in stacks:
        for path, wrapped in stack.blocks:
            block = unwrapped(wrapped)
            layout = given or layout_of(block)
            if layout is None:
                raise fail(
                    "attach-units",
                    f"grow=zero makes output projections zero, and it is not known which layers of {path}, a "
                    f"{type(block).__qualname__}, they are",
                    help="write grow=copy(last), or describe them: attach(…, layout=Layout(heads=…, width=…))",
                )
            axes = [axis for axis in (layout.heads, layout.width) if axis is not None]
            found[wrapped] = [_zeroable(block, path, axis.output) for axis in axes]
    return found


def _zeroable(block: nn.Module, path: str, name: str) -> nn.Module:
    """An output projection that can begin at zero, and leave it."""
    projection = submodule(block, path, name)
    if is_linear(projection) and all(parameter.requires_grad for parameter in projection.parameters()):
        return projection
    what = (
        "does not train"
        if is_linear(projection)
        else f"is a {type(projection).__module__}.{type(projection).__qualname__}"
    )
    raise fail(
        "attach-linear",
        f"grow=zero cannot make {path}.{name} zero: it {what}, and would stay so",
        help="write grow=copy(last), or grow before adapters are added and weights are frozen",
    )


def _linears(axis: str, stacks: Sequence[Stack], shape: ModelShape, given: Layout | None) -> list[AxisLinears]:
    """The layers of an axis in all blocks."""
    units = shape.kv_heads if axis == "heads" else shape.ffn // shape.width_group
    elements = shape.heads * shape.head_dim if axis == "heads" else shape.ffn
    found = []
    for stack in stacks:
        for path, wrapped in stack.blocks:
            block = unwrapped(wrapped)
            linears = _layout(axis, path, block, given)
            site = AxisLinears.of(block, path, axis, linears, units)
            held = site.output_cut.size * units
            if held != elements:
                raise fail(
                    "attach-shape",
                    f"the plan is for {elements} columns of {axis}, and {path}.{linears.output} has {held}",
                    help="compile the schedule for this model's shape",
                )
            found.append(site)
    return found


def _layout(axis: str, path: str, block: nn.Module, given: Layout | None) -> UnitLinears:
    refusal = "" if given else refusal_of(block)
    if refusal:
        raise fail(
            "attach-units",
            f"{axis} of {type(block).__qualname__} cannot be selected: {refusal}",
            help=f"leave {axis} at full size in the schedule; depth works",
        )
    layout = given or layout_of(block)
    linears = layout.axis(axis) if layout else None
    if linears is None:
        raise fail(
            "attach-units",
            f"it is not known where {path}, a {type(block).__qualname__}, has its {axis}",
            help=f"describe it: attach(…, layout=Layout({axis}=UnitLinears(inputs=(…), output=…)))",
        )
    return linears


def _tried(
    model: nn.Module,
    stacks: Sequence[Stack],
    units: Mapping[str, Sequence[AxisLinears]],
    layout: Layout | None,
    example: Any,
    freezes: bool,
) -> _Trial:
    """Runs a tiny batch, where there is one; proves what is to be selected on first and last block of each stack."""
    if example is None:
        example = example_of(model)
    if example is None:
        if units or freezes:
            what = (
                f"{' and '.join(units)} cannot be proven on it" if units else "its embeddings and head cannot be found"
            )
            raise fail(
                "attach-example",
                f"what {type(model).__qualname__} takes is not known, so {what}",
                help="give a tiny batch: attach(…, example={name: tensor, …}), or a tuple of positional arguments",
            )
        return _Trial(missing="what the model takes is not known: give attach(…, example=…), a tiny batch")
    if any(p.is_meta or type(p) is not nn.Parameter for p in model.parameters()):  # sharded: no forward before training
        if freezes:
            raise fail(
                "attach-freeze",
                "embeddings and head of a model that is sharded, or on the meta device, cannot be told apart",
                help="leave freeze= out of the schedule, and freeze on purpose: parameter.requires_grad_(False)",
            )
        return _tried_on_meta(model, stacks, example)
    tried = _ends(stacks)
    with listening(outside_linears(model, stacks)) as linears:
        calls = capture(model, tried, example)
    _require_no_cache(model, calls)
    numbers = {path: number for number, (path, _) in enumerate(block for stack in stacks for block in stack.blocks)}
    for axis, sites in units.items():
        for path, wrapped in tried.items():
            block = unwrapped(wrapped)
            prove(path, block, calls[path], axis, _layout(axis, path, block, layout), sites[numbers[path]].units)
    return _Trial(example, calls, linears)


def _tried_on_meta(model: nn.Module, stacks: Sequence[Stack], example: Any) -> _Trial:
    """Runs a tiny batch through a copy without storage: a sharded model gathers nothing before it is trained."""
    if any(not is_sharded(p) and type(p) is not nn.Parameter for p in model.parameters()):
        return _Trial(missing="its parameters are quantised, so that shapes do not say what is computed")
    if not runs_whole(model):
        return _Trial(missing="its parameters are sharded by others than FSDP2, or over ranks of several dimensions")
    try:
        copy, _ = copy_without_storage(model)
        copied = [Stack(s.path, tuple((path, copy.get_submodule(path)) for path, _ in s.blocks)) for s in stacks]
        with listening(outside_linears(copy, copied)) as linears, tracing():
            calls = capture(copy, _ends(copied), mapped(example, without_storage))
        calls = {path: Call(*mapped((call.args, call.kwargs), plain)) for path, call in calls.items()}
    except Exception as error:  # whatever a foreign forward may raise where tensors have no values
        return _Trial(missing=f"without its parameters it cannot be tried: {error}")
    return _Trial(example, calls, linears, copied)


def _ends(stacks: Sequence[Stack]) -> dict[str, nn.Module]:
    """The first and last block of each stack."""
    return {path: block for stack in stacks for path, block in (stack.blocks[0], stack.blocks[-1])}


def _require_no_cache(model: nn.Module, calls: Mapping[str, Call]) -> None:
    path = next((path for path, call in calls.items() if has_cache(call.args, call.kwargs)), None)
    if path is None:
        return
    if not has_adapters(model):
        raise option_refused("use_cache")
    raise fail(
        "attach-option",
        f"{path} is given keys and values of a cache, as by prefix tuning, and blocks that are left out would not be",
        help="use adapters within the blocks (LoRA) or virtual tokens before them (prompt tuning)",
    )
