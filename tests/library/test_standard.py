"""`std` comes with raptr, so each version of raptr has its own: a lock says which one a project was made with."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raptr_dsl.library import libraries
from raptr_dsl.library.lock import Lock, write_lock
from raptr_dsl.library.project import Project
from raptr_dsl.resources import schedule_directory
from tests.library.test_libraries import compiled, problem

Make = Callable[..., Project]
RUN = "use std/raptr\nrun raptr steps=rest\n"


@pytest.fixture
def another_raptr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What installs another version of raptr, whose `std` has another `raptr` in it."""

    def install() -> None:
        folder = Path(shutil.copytree(schedule_directory(), tmp_path / "std"))
        toml, schedule = folder / "raptr.toml", folder / "raptr.raptr"
        toml.write_text(toml.read_text().replace(f'version = "{libraries.standard().version}"', 'version = "9.0.0"'))
        schedule.write_text(schedule.read_text() + "# another\n")
        monkeypatch.setattr(libraries, "schedule_directory", lambda: folder)

    return install


def test_another_std_than_the_locked_one_is_told_apart(project: Make, another_raptr: Callable[[], None]) -> None:
    made = project()
    made.update()
    assert compiled(made, RUN).ok
    another_raptr()
    found = problem(made, RUN)
    assert found.code == "library-changed" and "std 0." in found.message and len(found.notes) == 3
    assert [item.code for item in made.verify()] == ["library-changed"]
    assert compiled(made, "use std/layerdrop\nallow partial\nrun layerdrop steps=rest\n").ok, "this one is the same"
    made.update()  # keeps what is pinned
    assert problem(made, RUN).code == "library-changed"
    made.update(["std"])
    assert compiled(made, RUN).ok and not list(made.verify())
    lock = made.lock()
    assert lock.standard and lock.standard.version == "9.0.0"


def test_std_is_any_where_nothing_is_locked(project: Make, another_raptr: Callable[[], None]) -> None:
    made = project()
    another_raptr()
    assert compiled(made, RUN).ok
    made.update()
    assert '[std]\nversion = "9.0.0"' in (made.root / "raptr.lock").read_text()


def test_a_lock_that_says_nothing_of_std_is_read_and_gets_it_with_the_next(project: Make) -> None:
    made = project()
    write_lock(made.root, Lock({}))
    assert compiled(made, RUN).ok and made.lock().standard is None
    assert made.update().standard == libraries.lock_of_standard()
