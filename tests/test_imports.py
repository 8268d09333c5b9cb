"""The core commands load no framework: `raptr check` starts in the time of its parser, not torch's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = frozenset({"torch", "jax", "flax", "optax", "matplotlib"})

SCHEDULE = """\
model bert-base
stage s6 depth=6/12 steps=25%
stage s8 depth=8/12 steps=25%
stage s10 depth=10/12 steps=25%
stage s12 steps=rest
"""

# Runs the entry point as the installed script does, then writes down what is loaded, however it exits.
RUN_COMMAND = """
import json, pathlib, sys
report = pathlib.Path(sys.argv.pop(1))
try:
    from raptr_dsl.cli import main
    sys.argv[0] = "raptr"
    sys.exit(main())
finally:
    report.write_text(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""

COMMANDS = {
    "check": ["check", "bert.raptr"],
    "compile": ["compile", "bert.raptr", "--steps", "1200", "--seed", "17", "-o", "bert.plan.json"],
    "show": ["show", "bert.raptr", "--steps", "1200"],
    "cost": ["cost", "bert.raptr", "--steps", "1200"],
    "diff": ["diff", "bert.raptr", "bert.raptr", "--steps", "1200"],
    "controls": ["controls", "bert.raptr", "--steps", "1200"],
    "explain": ["explain", "stages-overrun"],
    "backends": ["backends"],
    "version": ["--version"],
}


def loaded_modules(arguments: list[str], directory: Path, prelude: str = "") -> set[str]:
    """The top-level modules loaded after `raptr ARGUMENTS` in `directory`; fails if the command does."""
    (directory / "bert.raptr").write_text(SCHEDULE)
    report = directory / "modules.json"
    done = subprocess.run(
        [sys.executable, "-c", prelude + RUN_COMMAND, str(report), *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(directory)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"raptr {' '.join(arguments)} exited {done.returncode}:\n{done.stdout}{done.stderr}"
    return set(json.loads(report.read_text()))


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_core_command_loads_no_framework(arguments: list[str], tmp_path: Path) -> None:
    assert not HEAVY & loaded_modules(arguments, tmp_path)


def test_check_does_not_load_numpy(tmp_path: Path) -> None:
    assert "numpy" not in loaded_modules(COMMANDS["check"], tmp_path)


def test_import_of_the_package_loads_no_framework_and_no_numpy(tmp_path: Path) -> None:
    loaded = subprocess.check_output(
        [sys.executable, "-c", "import raptr_dsl, sys; print(*sys.modules)"], cwd=tmp_path, text=True
    ).split()
    assert not (HEAVY | {"numpy"}) & set(loaded)


@pytest.mark.parametrize("name", sorted(HEAVY))
def test_a_loaded_framework_is_noticed(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text("")
    assert HEAVY & loaded_modules(COMMANDS["backends"], tmp_path, prelude=f"import {name}") == {name}


def test_a_failing_command_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exited"):
        loaded_modules(["check", "no-such-file.raptr"], tmp_path)
