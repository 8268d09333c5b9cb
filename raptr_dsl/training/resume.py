"""Whether a run may go on under what it is told now: what was done stands, what is to come is free."""

from raptr_dsl.backend import TrainSettings
from raptr_dsl.diagnostics import Diagnostics, fail
from raptr_dsl.ir.plan import Plan
from raptr_dsl.training.settings import RunSettings, differences


def require_same_settings(before: RunSettings, now: RunSettings) -> None:
    """Raises RaptrError naming everything that decides a run's numbers and is not what it was."""
    problems = Diagnostics()
    for name, old, new in differences(before, now):
        problems.add(
            "train-resume-settings",
            f"the run began with {_said(name)} {_shown(old)}, and now it is {_shown(new)}",
            subject=_said(name),
            help="leave the option out: a resume takes what the run began with; or train into another folder",
        )
    problems.raise_errors()


def require_same_past(before: Plan, now: Plan, done: int, settings: TrainSettings) -> None:
    """Rule 42: with `done` steps done, a run may go on under another plan that agrees on all of them.

    Raises:
        RaptrError: `train-resume-plan`, naming both digests and the first stage that differs;
            `train-resume-horizon` where the learning rates of the steps done would have been others.
    """
    difference = before.first_difference(now, before=done) if done else None
    if difference is not None:
        raise fail(
            "train-resume-plan",
            f"the run followed another plan for the {done:,} steps it has done",
            subject="plan",
            help="go on with the plan it began with, or train into another folder",
            notes=(*_digests(before, now), str(difference)),
        )
    changed = _first_other_rate(settings, before.steps, now.steps, done)
    if changed is None:
        return
    raise fail(
        "train-resume-horizon",
        f"the run was to have {before.steps:,} steps, and now {now.steps:,}: "
        "that changes the learning rate of steps it has done",
        subject="steps",
        help="keep the number of steps, or train into another folder",
        notes=(
            *_digests(before, now),
            f"step {changed:,} was done at {settings.learning_rate(changed, before.steps):.6g}, "
            f"and {now.steps:,} steps give it {settings.learning_rate(changed, now.steps):.6g}",
        ),
    )


def _digests(before: Plan, now: Plan) -> tuple[str, str]:
    return f"it began with the plan {before.digest}", f"now the plan is {now.digest}"


def _first_other_rate(settings: TrainSettings, before: int, now: int, done: int) -> int | None:
    """The first step done whose learning rate depends on which of two horizons holds."""
    if before == now:
        return None
    return next((n for n in range(done) if settings.learning_rate(n, before) != settings.learning_rate(n, now)), None)


def _said(name: str) -> str:
    """A setting as its user knows it: `train.weight_decay` is the weight decay."""
    return name.removeprefix("train.").replace(".", " ").replace("_", " ")


def _shown(value: object) -> str:
    return "nothing" if value is None else str(value)
