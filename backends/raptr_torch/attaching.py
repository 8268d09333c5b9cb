"""Looking at a model that somebody else wrote: all that can be refused is refused here, before it is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.bound import BoundRule
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Growth, Plan
from raptr_torch.attached import ModuleSites
from raptr_torch.blocks import has_cache
from raptr_torch.families import FAMILIES
from raptr_torch.flop_proof import ledger_of
from raptr_torch.flops import LinearForward
from raptr_torch.growth import tensors
from raptr_torch.layouts import Layout, UnitLinears, layout_of, refusal_of
from raptr_torch.ledger import FlopLedger
from raptr_torch.linears import listening, outside_linears
from raptr_torch.outside import outside_parts
from raptr_torch.proof import Call, capture, example_of, prove
from raptr_torch.stacks import Stack, find_stacks, unwrapped
from raptr_torch.swap import Swapped
from raptr_torch.units import AxisLinears, submodule

_CONFIG_OPTIONS = ("output_hidden_states",)


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
    _require_plain(model)
    _require_planned_config(model, plan.shape)
    found = find_stacks(model, plan.shape, stacks)
    _require_untied(model, found)
    _require_odd_blocks_kept(found, plan)
    thinned = sorted({axis for stage in plan.stages for axis in stage.axes} - {"depth"})
    units = {axis: _linears(axis, found, plan.shape, layout) for axis in thinned}
    _require_alike_copies(found, plan)
    outputs = _outputs(found, plan, layout)
    freezes = any(stage.freeze for stage in plan.stages)
    trial = _tried(model, found, units, layout, example, freezes)
    outside = outside_parts(model, plan, found, trial.example) if freezes else {}
    if trial.missing:
        flops = FlopLedger(problem=trial.missing)
    else:
        is_frozen = not all(parameter.requires_grad for parameter in model.parameters())
        flops = ledger_of(plan, found, units, trial.calls, trial.linears, is_frozen)
    return ModuleSites(model, found, units, outside, outputs, flops)


@dataclass(frozen=True)
class _Trial:
    """What a model did with a tiny batch.

    Attributes:
        calls: of the first and last block of each stack, by path. linears: those outside the blocks, in order.
        missing: why nothing was tried; "" where it was.
    """

    example: Any = None
    calls: Mapping[str, Call] = field(default_factory=dict)
    linears: Sequence[LinearForward] = ()
    missing: str = ""


def _require_plain(model: nn.Module) -> None:
    """Refuses models that are attached, compiled as a whole, or wrapped."""
    if any(isinstance(module, Swapped) for module in model.modules()):
        raise fail("attach-twice", "the model is attached to a plan already", help="call runner.detach() first")
    if hasattr(model, "_orig_mod") or getattr(model, "_compiled_call_impl", None) is not None:
        raise fail(
            "attach-compiled",
            "the model was given to torch.compile as a whole, which freezes the mask of one step",
            help="attach the model as it was before, and call runner.compile(): it compiles the blocks",
        )
    if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
        raise fail(
            "attach-model",
            f"the model is wrapped in {type(model).__qualname__}",
            help="attach the model within: attach(model.module, …)",
        )
    config = getattr(model, "config", None)
    for option in _CONFIG_OPTIONS:
        if getattr(config, option, False):
            raise _option(option)


def _require_planned_config(model: Any, shape: ModelShape) -> None:
    """Compares what the config of a known model says with the plan; how it is fed is no part of that."""
    family = next((FAMILIES[cls.__name__] for cls in type(model).__mro__ if cls.__name__ in FAMILIES), None)
    if family is None or not hasattr(model, "config"):
        return
    words = {**family.constants, **{word: read(model.config) for word, read in family.words.items()}}
    differ = [(word, getattr(shape, word), value) for word, value in words.items() if getattr(shape, word) != value]
    if differ:
        word, planned, actual = differ[0]
        raise fail(
            "attach-shape",
            f"the plan is for a model of {word}={planned}, and this one has {word}={actual}",
            notes=tuple(
                f"{word}: {planned} in the plan, {actual} in the model" for word, planned, actual in differ[1:]
            ),
            help="compile the schedule for this model's shape: model=raptr_torch.shape(model)",
        )


def _require_untied(model: nn.Module, stacks: Sequence[Stack]) -> None:
    """Refuses blocks that share parameters with each other or with anything else."""
    owners: dict[int, str] = {}
    for stack in stacks:
        for path, block in stack.blocks:
            for name, parameter in block.named_parameters():
                other = owners.setdefault(id(parameter), path)
                if other != path:
                    raise _tied(f"{path}.{name}", other)
    inside = {id(module) for stack in stacks for block in stack.modules for module in block.modules()}
    for path, module in model.named_modules():
        if id(module) in inside:
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in owners:
                raise _tied(f"{path}.{name}", owners[id(parameter)])


def _tied(name: str, other: str) -> RaptrError:
    return fail(
        "attach-tied",
        f"{name} is also a parameter of {other}: when one is left out, the other would train it",
        help="give each block parameters of its own",
    )


def _require_odd_blocks_kept(stacks: Sequence[Stack], plan: Plan) -> None:
    """A block with parameters that the others lack (T5's first makes the position bias) does what they cannot."""
    for stack in stacks:
        kinds = [tuple((name, p.shape) for name, p in block.named_parameters()) for block in stack.modules]
        common = max(set(kinds), key=kinds.count)
        for place, kind in enumerate(kinds):
            if kind == common:
                continue
            for stage in plan.stages:
                rule = stage.axes.get("depth")
                if rule is not None and place not in rule.keep and not _runs_all(rule, len(kinds)):
                    path = stack.blocks[place][0]
                    name = next(iter({name for name, _ in kind} ^ {name for name, _ in common}), "a shape")
                    raise fail(
                        "attach-blocks",
                        f"{path} is not like the other blocks ({name}), so they cannot stand in for it",
                        help=f"keep it: `keep depth=[{place}]`" if place else "keep it: `keep depth=first`",
                    )


def _runs_all(rule: BoundRule, units: int) -> bool:
    settled = rule.sizes and rule.measure == "units" and not rule.choices
    return bool(settled) and all(border.value == units for border in rule.sizes)


def _require_alike_copies(stacks: Sequence[Stack], plan: Plan) -> None:
    """A block is copied from one that has the same tensors."""
    for stack in stacks:
        kinds = [{name: tensor.shape for name, tensor in tensors(block).items()} for block in stack.modules]
        for growth in _growths(plan):
            for place, source in enumerate(growth.sources):
                if source >= 0 and kinds[place] != kinds[source]:
                    raise fail(
                        "attach-blocks",
                        f"{stack.blocks[place][0]} is not like {stack.blocks[source][0]}, and so cannot be its copy",
                        help="begin with more blocks, or grow by copy(last), which copies none of the first ones",
                    )


def _outputs(stacks: Sequence[Stack], plan: Plan, given: Layout | None) -> dict[nn.Module, list[nn.Module]]:
    """The output projections of every block, where the plan makes those of new blocks zero."""
    if all(source >= 0 for growth in _growths(plan) for source in growth.sources):
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
            found[wrapped] = [submodule(block, path, axis.output) for axis in axes]
    return found


def _growths(plan: Plan) -> list[Growth]:
    rules = [stage.axes.get("depth") for stage in plan.stages]
    return [rule.growth for rule in rules if rule and rule.growth]


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
        return _Trial(missing="its parameters are sharded, quantised or on the meta device, so no batch can be tried")
    tried = {path: block for stack in stacks for path, block in (stack.blocks[0], stack.blocks[-1])}
    with listening(outside_linears(model, stacks)) as linears:
        calls = capture(model, tried, example)
    _require_no_cache(calls)
    numbers = {path: number for number, (path, _) in enumerate(block for stack in stacks for block in stack.blocks)}
    for axis, sites in units.items():
        for path, wrapped in tried.items():
            block = unwrapped(wrapped)
            prove(path, block, calls[path], axis, _layout(axis, path, block, layout), sites[numbers[path]].units)
    return _Trial(example, calls, linears)


def _require_no_cache(calls: Mapping[str, Call]) -> None:
    if any(has_cache(call.args, call.kwargs) for call in calls.values()):
        raise _option("use_cache")


def _option(option: str) -> RaptrError:
    return fail(
        "attach-option",
        f"the model's config says {option}=True, and blocks that are left out would be missing from it",
        help=f"model.config.{option} = False",
    )
