"""The README's examples run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def block(language: str) -> str:
    """The README's only fenced block of that language."""
    (text,) = re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    return text


def run_python(code: str, directory: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schedule_checks_without_a_word_and_the_python_example_runs_on_it(tmp_path: Path) -> None:
    (tmp_path / "bert.raptr").write_text(block("raptr"))
    check = subprocess.run(
        [Path(sys.executable).parent / "raptr", "check", "bert.raptr"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert check.returncode == 0, check.stdout + check.stderr
    assert not re.search(r"^(error|warning)", check.stderr, re.MULTILINE), check.stderr
    run_python(block("python"), tmp_path)
    assert (tmp_path / "bert.plan.json").stat().st_size < 10_000


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
