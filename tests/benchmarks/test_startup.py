"""How long `raptr check` of a small file takes, against its parser and validator being imported and nothing else.

`import pydantic` alone loads next to nothing since pydantic imports itself piece by piece: the second baseline defines
one model, as every program that uses pydantic does. Python may write bytecode here, as it does wherever a package is
installed: the first round compiles, the least of the others counts.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

ROUNDS = 15
ONE_MODEL = """
import lark
from pydantic import BaseModel


class Model(BaseModel):
    number: int
"""
SMALL = """\
model bert-base
steps 675k
stage small depth=6/12 steps=50%
stage full steps=rest
"""


def processor_ms(command: list[str | Path], directory: Path) -> float:
    """User and system time of a process, which other processes disturb less than the time on the wall."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.stderr
    with process.stderr as errors:
        assert process.returncode == 0, errors.read()
    return 1000 * (usage.ru_utime + usage.ru_stime)


def test_check_of_a_small_file_starts_fast(tmp_path: Path) -> None:
    (tmp_path / "small.raptr").write_text(SMALL)
    commands: dict[str, list[str | Path]] = {
        "import lark, pydantic": [sys.executable, "-c", "import lark, pydantic"],
        "lark and one pydantic model": [sys.executable, "-c", ONE_MODEL],
        "raptr --help": [Path(sys.executable).parent / "raptr", "--help"],
        "raptr check": [Path(sys.executable).parent / "raptr", "check", "small.raptr"],
    }
    least = dict.fromkeys(commands, float("inf"))
    for _ in range(ROUNDS):
        for name, command in commands.items():
            least[name] = min(least[name], processor_ms(command, tmp_path))
    told = ", ".join(f"{name} {time:.0f} ms" for name, time in least.items())
    ratios = [f"{least['raptr check'] / least[name]:.2f}" for name in list(commands)[:2]]
    print(f"\n{told}: check ÷ imports = {ratios[0]}, check ÷ (imports and one model) = {ratios[1]}")
