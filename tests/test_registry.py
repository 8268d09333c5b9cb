"""Backends by entry point: found without importing them, refused by name when they cannot be used."""

import subprocess
import sys
from pathlib import Path

import pytest

import raptr_dsl
from raptr_dsl import registry
from raptr_dsl.diagnostics import RaptrError

TOY = Path(__file__).parent / "toy_backend"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Declares a backend in an installed distribution, with the module that holds it."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(distribution: str, name: str, code: str, *, needs: str = "", module: str = "") -> None:
        module = module or f"{distribution.replace('-', '_')}_module"
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{distribution.replace('-', '_')}-9.8.dist-info"
        info.mkdir()
        requires = f'Provides-Extra: {name}\nRequires-Dist: {needs}; extra == "{name}"\n' if needs else ""
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 9.8\n{requires}")
        (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {module}:BACKEND\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


TOY_CODE = (TOY / "raptr_toy.py").read_text()


def refused(action, *arguments) -> tuple[str, str]:
    """The code and the whole text of the one diagnostic that an action ends with."""
    with pytest.raises(RaptrError) as caught:
        action(*arguments)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code, f"{diagnostic.message} {diagnostic.help}"


def test_the_backends_that_come_along_are_declared() -> None:
    declared = registry.installed()
    assert {"jax", "reference", "torch"} <= set(declared)
    assert declared["torch"].distribution == "raptr-dsl"
    assert declared["reference"].missing == ()


def test_a_backend_is_found_without_importing_it(install) -> None:
    install("raptr-other", "other", "raise SystemExit('imported')")
    found = registry.find("other")
    assert (found.distribution, found.version, found.missing) == ("raptr-other", "9.8", ())


def test_a_third_party_backend_loads(install) -> None:
    install("raptr-toy", "toy", TOY_CODE)
    assert registry.load("toy").capabilities.axes == {"depth"}
    assert registry.load_to_run("toy").name == "toy"


def test_an_unknown_name_gets_the_nearest_one() -> None:
    assert refused(registry.find, "tocrh") == (
        "backend-unknown",
        "no installed package provides a backend called 'tocrh' did you mean torch?",
    )
    code, text = refused(registry.load, "zzz")
    assert code == "backend-unknown"
    assert "installed are jax, reference, torch" in text


def test_two_packages_of_one_name_are_refused_and_both_named(install) -> None:
    install("raptr-one", "twin", TOY_CODE)
    install("raptr-two", "twin", TOY_CODE)
    for action in (registry.find, registry.load):
        code, text = refused(action, "twin")
        assert code == "backend-ambiguous"
        assert "raptr-one 9.8" in text
        assert "raptr-two 9.8" in text
    with pytest.raises(RaptrError):
        registry.installed()
    assert registry.find("reference").name == "reference"  # the others still serve


def test_what_is_missing_is_named_with_the_command_that_installs_it(install) -> None:
    install("raptr-toy", "toy", TOY_CODE, needs="no-such-framework>=3")
    found = registry.find("toy")
    assert found.missing == ("no-such-framework>=3",)
    assert registry.load("toy").capabilities.scales == {"none"}  # can be read all the same
    code, text = refused(registry.load_to_run, "toy")
    assert code == "backend-not-installed"
    assert "no-such-framework>=3" in text
    assert 'pip install "raptr-toy[toy]"' in text


def test_what_is_there_is_not_missing(install) -> None:
    install("raptr-toy", "toy", TOY_CODE, needs="Click>=8")
    assert registry.find("toy").missing == ()


def test_an_import_that_fails_for_want_of_the_framework_says_so(install) -> None:
    install("raptr-eager", "eager", "import no_such_framework", needs="no-such-framework")
    assert refused(registry.load, "eager")[0] == "backend-not-installed"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("x = 1", "cannot be imported: AttributeError"),
        ("BACKEND = 3", "lacks name, capabilities, shape, attach, trainer"),
        (TOY_CODE.replace('name = "toy"', 'name = "yot"'), "calls itself 'yot'"),
    ],
)
def test_a_broken_backend_is_named_with_the_reason(install, code: str, reason: str) -> None:
    install("raptr-toy", "toy", code)
    found, text = refused(registry.load, "toy")
    assert found == "backend-broken"
    assert "'toy' of raptr-toy 9.8" in text
    assert reason in text


@pytest.mark.slow
def test_the_toy_backend_really_installed(tmp_path: Path) -> None:
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
    ]
    subprocess.run([*pip, "--target", tmp_path, TOY], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-c", "from raptr_dsl.cli import main; raise SystemExit(main(['backends']))"],
        env={"PYTHONPATH": str(tmp_path), "COLUMNS": "160"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "raptr-toy 1.2.3" in done.stdout
    assert "a-framework-that-nobody-has>=3" in done.stdout


def test_the_toy_backend_runs_what_a_plan_says(install) -> None:
    install("raptr-toy", "toy", TOY_CODE)
    plan = raptr_dsl.compile_text(
        "model layers=4 heads=1 hidden=1 ffn=1 vocab=1 seq=1\nsteps 10\nstage depth=2/4 steps=6\nstage steps=rest"
    )
    ran: list[int] = []

    def block(number: int):
        def run(value: float) -> float:
            ran.append(number)
            return value + 1

        return run

    runner = registry.load("toy").attach([block(number) for number in range(4)], plan)
    for step in range(plan.steps):
        ran.clear()
        with runner.step(step):
            assert runner(0.0) == (2 if step < 6 else 4)
        assert ran == plan.masks("depth", step, step + 1)[0].nonzero()[0].tolist()


def test_the_toy_backend_refuses_what_it_does_not_declare(install) -> None:
    install("raptr-toy", "toy", TOY_CODE)
    plan = raptr_dsl.compile_text(
        "model bert-base\nsteps 10\nstage a depth=6/12 scale=sqrt width=1/2 idle=skip steps=6\nstage steps=rest"
    )
    with pytest.raises(RaptrError) as caught:
        registry.load("toy").attach([], plan)
    assert [diagnostic.message for diagnostic in caught.value.diagnostics] == [
        "the toy backend has no scale=sqrt",
        "the toy backend has no idle=skip",
        "the toy backend has no axis width",
    ]
    assert all(diagnostic.notes == ("asked for in a",) for diagnostic in caught.value.diagnostics)
