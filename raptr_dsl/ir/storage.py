"""Plans as files: one JSON text, whole or not there, read without trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from pydantic import ValidationError

from raptr_dsl.diagnostics import RaptrError, fail
from raptr_dsl.files import replacing
from raptr_dsl.ir.identity import hash_of

if TYPE_CHECKING:
    from raptr_dsl.ir.plan import Plan

MOST_BYTES = 64 * 2**20
_RECOMPILE = "compile the schedule again: the same file, model, steps and seed give the same plan"


def content(plan: Plan) -> dict[str, Any]:
    """What is saved of a plan, without its checksum."""
    return plan.model_dump(mode="json") | {"digest": plan.digest}


def save(plan: Plan, path: Path) -> None:
    """Writes a plan; see `Plan.save`."""
    saved = content(plan) | {"checksum": plan.checksum}
    try:
        with replacing(path) as file:
            file.write(_lines(saved).encode())
    except (OSError, ValueError) as error:
        raise write_failure("the plan", path, error) from error


def write_failure(what: str, path: Path, error: OSError | ValueError) -> RaptrError:
    """The diagnostic of a file that could not be written; `what` is a noun phrase."""
    return fail(
        "plan-write",
        f"{what} cannot be written: {_reason(error)}",
        subject=str(path),
        help="name a file in a folder that exists and can be written" if path.parent != path else "",
    )


def _lines(saved: dict[str, Any]) -> str:
    """JSON with a line for each entry and each stage, so that a difference of two plans can be read."""
    entries = []
    for name, value in saved.items():
        text = json.dumps(value, ensure_ascii=False)
        if name == "stages":
            text = "[\n  " + ",\n  ".join(json.dumps(stage, ensure_ascii=False) for stage in value) + "\n ]"
        entries.append(f' "{name}": {text}')
    return "{\n" + ",\n".join(entries) + "\n}\n"


def load(path: Path, model: type[Plan]) -> Plan:
    """Reads a plan; see `load_plan`."""
    saved = _parse(_read(path), path)
    _require_version(saved, model, path)
    checksum, digest = saved.pop("checksum", None), saved.get("digest")
    if checksum != hash_of(saved):
        raise fail(
            "plan-checksum",
            "the plan was changed after it was written: its checksum is not that of its content"
            if checksum
            else "the plan has no checksum",
            subject=str(path),
            help=_RECOMPILE,
        )
    try:
        plan = model.model_validate({name: value for name, value in saved.items() if name != "digest"})
    except ValidationError as error:
        _refuse(error, path)
    if content(plan) | {"digest": digest} != saved:
        raise fail("plan-invalid", "the plan is not written as raptr writes it", subject=str(path), help=_RECOMPILE)
    if plan.digest != digest:
        raise fail(
            "plan-digest",
            "the plan's digest is not that of its stages",
            subject=str(path),
            help=_RECOMPILE,
            notes=(f"the file says {digest}", f"its stages give {plan.digest}"),
        )
    return plan


def _read(path: Path) -> str:
    try:
        if path.is_dir():
            raise fail("plan-unreadable", "this is a folder, not a plan", subject=str(path))
        if path.stat().st_size > MOST_BYTES:
            message = f"the file has more than {MOST_BYTES // 2**20} MiB: no plan is that large"
            raise fail("plan-too-large", message, subject=str(path))
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise fail(
            "plan-missing", "there is no such file", subject=str(path), help="raptr compile FILE -o PLAN writes one"
        ) from error
    except UnicodeDecodeError as error:
        raise _not_json(path, f"byte {error.start:,} is not UTF-8") from error
    except (OSError, ValueError) as error:
        raise fail("plan-unreadable", f"the plan cannot be read: {_reason(error)}", subject=str(path)) from error


def _reason(error: OSError | ValueError) -> str:
    """The system's words, or Python's about a name that cannot be one of a file."""
    return (getattr(error, "strerror", None) or str(error)).lower()


def _parse(text: str, path: Path) -> dict[str, Any]:
    try:
        saved = json.loads(text, parse_constant=_no_constant, parse_float=_no_float)
    except json.JSONDecodeError as error:
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            raise fail(
                "plan-truncated",
                "the plan ends in the middle" if text.strip() else "the file is empty",
                subject=str(path),
                help=_RECOMPILE,
            ) from error
        raise _not_json(path, f"line {error.lineno}, column {error.colno}") from error
    except RecursionError as error:
        raise _not_json(path, "it is nested too deeply") from error
    except ValueError as error:  # a number of thousands of digits, or one that no plan has
        raise _not_json(path, str(error)) from error
    if not isinstance(saved, dict):
        raise _no_plan(path)
    return saved


def _no_float(text: str) -> NoReturn:
    raise ValueError(f"a plan has no number such as {text[:40]}")


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"a plan has no number such as {text}")


def _not_json(path: Path, where: str) -> RaptrError:
    return fail(
        "plan-not-json",
        "this is no plan: it is not JSON",
        subject=str(path),
        notes=(where,),
        help="raptr compile FILE -o PLAN makes a plan of a schedule",
    )


def _no_plan(path: Path) -> RaptrError:
    return fail(
        "plan-not-a-plan",
        "this is JSON, but no plan of raptr",
        subject=str(path),
        help="raptr compile FILE -o PLAN makes a plan of a schedule",
    )


def _require_version(saved: dict[str, Any], model: type[Plan], path: Path) -> None:
    written = saved.get("format")
    if not isinstance(written, str) or not written.startswith("raptr-plan-"):
        raise _no_plan(path)
    for name in ("format", "rng"):
        known = model.model_fields[name].default
        if saved.get(name) != known:
            raise fail(
                "plan-version",
                f"the plan is of another version: its {name} is {str(saved.get(name))[:60]!r}, "
                f"this raptr reads {known!r}",
                subject=str(path),
                help="compile the schedule again with this version, or use the version that wrote the plan",
            )


def _refuse(error: ValidationError, path: Path) -> NoReturn:
    problems = error.errors(include_url=False)
    unknown = [_place(problem["loc"]) for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        raise fail(
            "plan-unknown-field",
            f"the plan says more than this raptr understands: {', '.join(unknown[:5])}",
            subject=str(path),
            help="a newer version wrote it: use that one, or compile the schedule again with this one",
        ) from error
    notes = [
        f"{_place(problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}".removeprefix(": ")
        for problem in problems
    ]
    raise fail(
        "plan-invalid",
        "the plan cannot be carried out as it stands",
        subject=str(path),
        notes=tuple(notes[:10]),
        help=_RECOMPILE,
    ) from error


def _place(path: tuple[int | str, ...]) -> str:
    """`stages[2].axes.depth`: where in the file, without pydantic's names of union members."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
