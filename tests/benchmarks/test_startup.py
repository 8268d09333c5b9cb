"""How long `raptr check` of a small file takes, against its parser and validator being imported and nothing else."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

ROUNDS = 15
MOST = 1.8
SMALL = """\
model bert-base
steps 675k
stage small depth=6/12 steps=50%
stage full steps=rest
"""


def processor_ms(command: list[str | Path], directory: Path) -> float:
    """User and system time of a process, which other processes disturb less than the time on the wall."""
    process = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
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
        "raptr --help": [Path(sys.executable).parent / "raptr", "--help"],
        "raptr check": [Path(sys.executable).parent / "raptr", "check", "small.raptr"],
    }
    least = dict.fromkeys(commands, float("inf"))
    for _ in range(ROUNDS):
        for name, command in commands.items():
            least[name] = min(least[name], processor_ms(command, tmp_path))
    ratio = least["raptr check"] / least["import lark, pydantic"]
    told = ", ".join(f"{name} {time:.0f} ms" for name, time in least.items())
    print(f"\n{told}: check ÷ imports = {ratio:.2f}")
    assert ratio <= MOST
