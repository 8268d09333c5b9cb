"""What can be refused of a model that somebody else wrote by looking at it, before anything is tried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.ir.bound import BoundRule
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.ir.plan import Growth, Plan
from raptr_torch.adapters import own_parameters, without_adapters
from raptr_torch.families import FAMILIES
from raptr_torch.growth import tensors
from raptr_torch.stacks import Stack
from raptr_torch.swap import Swapped

_CONFIG_OPTIONS = ("output_hidden_states",)


def require_plain(model: nn.Module) -> None:
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
            raise option_refused(option)


def require_planned_config(model: Any, shape: ModelShape) -> None:
    """Compares what the config of a known model says with the plan; how it is fed is no part of that."""
    model = without_adapters(model)
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


def require_untied(model: nn.Module, stacks: Sequence[Stack]) -> None:
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


def require_odd_blocks_kept(stacks: Sequence[Stack], plan: Plan) -> None:
    """A block with parameters that the others lack (T5's first makes the position bias) does what they cannot.

    Adapters of some blocks only are added to what a block does.
    """
    for stack in stacks:
        kinds = [tuple((name, p.shape) for name, p in own_parameters(block)) for block in stack.modules]
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


def require_alike_copies(stacks: Sequence[Stack], plan: Plan) -> None:
    """A block is copied from one that has the same tensors, and is nothing but tensors."""
    for stack in stacks:
        if growths(plan):
            for path, block in stack.blocks:
                _require_saved_whole(path, block)
        kinds = [{name: tensor.shape for name, tensor in tensors(block).items()} for block in stack.modules]
        for growth in growths(plan):
            for place, source in enumerate(growth.sources):
                if source >= 0 and kinds[place] != kinds[source]:
                    raise fail(
                        "attach-blocks",
                        f"{stack.blocks[place][0]} is not like {stack.blocks[source][0]}, and so cannot be its copy",
                        help="begin with more blocks, or grow by copy(last), which copies none of the first ones",
                    )


def _require_saved_whole(path: str, block: nn.Module) -> None:
    """Quantised layers keep their scales beside their tensors, so that these alone mean nothing in another block."""
    other = next((name for name in block.state_dict() if name not in tensors(block)), None)
    if other is not None:
        raise fail(
            "attach-blocks",
            f"{path} cannot be copied to another block: {other} is no parameter and no buffer, as of quantised layers",
            help="leave grow= out of the schedule, or grow the model before it is quantised",
        )


def growths(plan: Plan) -> list[Growth]:
    rules = [stage.axes.get("depth") for stage in plan.stages]
    return [rule.growth for rule in rules if rule and rule.growth]


def option_refused(option: str) -> RaptrError:
    return fail(
        "attach-option",
        f"the model's config says {option}=True, and blocks that are left out would be missing from it",
        help=f"model.config.{option} = False",
    )
