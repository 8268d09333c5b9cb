"""Whether a backend can execute a plan: everything it cannot do, before anything is built."""

from collections.abc import Iterator

from raptr_dsl.backend.protocol import Backend, Capabilities
from raptr_dsl.diagnostics import Diagnostic
from raptr_dsl.ir.bound import BoundStage
from raptr_dsl.ir.plan import Plan


def unsupported(plan: Plan, backend: Backend, capabilities: Capabilities | None = None) -> tuple[Diagnostic, ...]:
    """One `backend-unsupported` for each word of the plan that the backend does not declare.

    Args:
        capabilities: those of the model at hand, where the backend cannot do as much with it as with its own.
    """
    declared = backend.capabilities if capabilities is None else capabilities
    where = "" if declared is backend.capabilities else " for this model"
    stages_by_need: dict[tuple[str, str, str], list[str]] = {}
    if declared is backend.capabilities and plan.shape.has_experts:  # a trainer builds the model, in any stage
        stages_by_need["axes", "axis ", "experts"] = ["the model"]
    for index, stage in enumerate(plan.stages):
        for need in _needs(stage):
            stages_by_need.setdefault(need, []).append(stage.name or f"stage {index + 1}")
    return tuple(
        Diagnostic(
            code="backend-unsupported",
            message=f"the {backend.name} backend has no {attribute}{value}{where}",
            notes=(f"asked for in {', '.join(dict.fromkeys(stages))}",),
            help=f"it has {', '.join(sorted(getattr(declared, kind))) or 'none'}",
            subject=backend.name,
        )
        for (kind, attribute, value), stages in stages_by_need.items()
        if value not in getattr(declared, kind)
    )


def _needs(stage: BoundStage) -> Iterator[tuple[str, str, str]]:
    for axis, rule in stage.axes.items():
        yield "axes", "axis ", axis
        yield "scales", "scale=", rule.scale
        yield "idle", "idle=", rule.idle
        if rule.train:
            yield "attributes", f"{axis}.", "train"
        if rule.growth or rule.born:
            yield "attributes", f"{axis}.", "grow"
    if stage.freeze:
        yield "attributes", "", "freeze"
    if stage.rewarm:
        yield "attributes", "", "rewarm"
