"""The README's examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

from raptr_dsl.cli import COMMANDS
from tests.conftest import Golden

ROOT = Path(__file__).resolve().parent.parent


def block(language: str) -> str:
    """The README's only fenced block of that language."""
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    return text


def run(*command: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """`raptr` as its user runs it."""
    raptr = Path(sys.executable).parent / "raptr"
    return subprocess.run([raptr, *command], cwd=directory, capture_output=True, text=True)


def test_the_schedule_checks_without_a_word_and_the_python_example_runs_on_it(tmp_path: Path) -> None:
    (tmp_path / "bert.raptr").write_text(block("raptr"))
    checked = run("check", "bert.raptr", directory=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not re.search(r"^(error|warning)", checked.stderr, re.MULTILINE), checked.stderr
    subprocess.run([sys.executable, "-c", block("python")], cwd=tmp_path, check=True)
    assert (tmp_path / "bert.plan.json").stat().st_size < 10_000


def test_the_picture_is_that_of_the_schedule(tmp_path: Path, golden: Golden) -> None:
    (tmp_path / "raptr.raptr").write_text(block("raptr"))
    run("show", "raptr.raptr", "--svg", "raptr.svg", directory=tmp_path)
    golden(ROOT / "docs" / "images" / "raptr.svg", (tmp_path / "raptr.svg").read_text())


def test_the_table_of_commands_is_whole() -> None:
    listed = set(re.findall(r"`raptr ([a-z]\w*)[^`]*`", (ROOT / "README.md").read_text()))
    assert listed == set(COMMANDS)


def test_the_diagnostic_is_what_the_command_prints(tmp_path: Path) -> None:
    stages = "stage warm depth=6/12 steps=60%\nstage full            steps=50%\n"
    (tmp_path / "overrun.raptr").write_text(f"model bert-base\nsteps 1000\n{stages}")
    checked = run("check", "overrun.raptr", directory=tmp_path)
    assert checked.returncode == 1
    assert block("text") in checked.stderr + checked.stdout


def test_every_link_to_a_file_leads_somewhere() -> None:
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / name).read_text()):
            assert target.startswith("https://") or (ROOT / target).exists(), f"{name}: {target}"


def test_every_make_target_and_folder_named_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / name).read_text()
        for target in re.findall(r"^(?:\| `)?make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{name}: make {target}"
        for folder in re.findall(r"`((?:\w+/)+)`", text):
            parents = (ROOT, ROOT / "raptr_dsl")
            assert any((parent / folder).is_dir() for parent in parents), f"{name}: {folder}"
