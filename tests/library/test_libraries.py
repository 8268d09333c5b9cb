"""Libraries from end to end: found, locked, read offline, verified."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from raptr_dsl.api import Compilation, Options, check_file
from raptr_dsl.diagnostics import Diagnostic, RaptrError
from raptr_dsl.library.lock import read_lock
from raptr_dsl.library.project import Project
from raptr_dsl.render import render_json, render_text
from tests.library.conftest import SMALL, git, library, manifest, repository, write

OPTIONS = Options(model="bert-base", steps=1000)
Make = Callable[..., Project]


def compiled(project: Project, text: str = "use acme/small\nrun small steps=rest\n") -> Compilation:
    write(project.root, {"main.raptr": text})
    return check_file(project.root / "main.raptr", OPTIONS)


def problem(project: Project, text: str = "use acme/small\nrun small steps=rest\n") -> Diagnostic:
    """The one diagnostic of a file that cannot be compiled."""
    (found,) = compiled(project, text).diagnostics
    return found


def refused(action: Callable[[], object]) -> Diagnostic:
    with pytest.raises(RaptrError) as caught:
        action()
    return caught.value.diagnostics[0]


def test_std_is_always_there(project: Make) -> None:
    assert compiled(project(), "use std/raptr\nrun raptr(small=4/12) steps=rest\n").ok


def test_a_folder_is_locked_and_used(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    assert problem(made).code == "library-unknown"
    made.update()
    assert compiled(made).plan
    assert made.lock()["acme"].files.keys() == {"raptr.toml", "small.raptr"}


def test_what_a_library_runs_of_its_own_and_of_others_is_found(project: Make, tmp_path: Path) -> None:
    write(
        tmp_path / "base",
        {"raptr.toml": manifest("base"), "small.raptr": 'use "./parts/in.raptr" as i\nrun i steps=rest\n'},
    )
    write(tmp_path / "base", {"parts/in.raptr": 'use "../other.raptr" as o\nrun o steps=rest\n', "other.raptr": SMALL})
    library(tmp_path / "acme", "acme", text="use base/small\nrun small steps=rest\n", base="../base")
    made = project(acme="../acme")
    made.update()
    assert compiled(made).plan
    assert problem(made, "use base/nothing\nstage steps=rest\n").code == "library-export"


def test_a_library_uses_only_what_it_names(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "base", "base")
    library(tmp_path / "acme", "acme", text="use base/small\nrun small steps=rest\n")
    made = project(acme="../acme", base="../base")
    made.update()
    found = problem(made)
    assert found.code == "library-unknown"
    assert found.span and Path(found.span.source.name).samefile(tmp_path / "acme" / "small.raptr")
    assert found.related, "the import that led there is shown"


def test_a_changed_byte_is_refused_with_the_file_and_both_digests(project: Make, tmp_path: Path) -> None:
    made = project(acme="../acme")
    library(tmp_path / "acme", "acme")
    made.update()
    locked = made.lock()["acme"].files["small.raptr"]
    library(tmp_path / "acme", "acme", text=SMALL.replace("50%", "51%"))
    found = problem(made)
    assert found.code == "library-changed"
    assert "small.raptr" in found.message
    assert any(locked in note for note in found.notes) and len(found.notes) == 3
    assert [item.code for item in made.verify()] == ["library-changed"]
    made.update()  # keeps what is pinned
    assert problem(made).code == "library-changed"
    made.update(["acme"])
    assert compiled(made).plan and not list(made.verify())


def test_the_cache_serves_where_the_folder_is_gone(project: Make, tmp_path: Path, cache: Path) -> None:
    made = project(acme="../acme")
    library(tmp_path / "acme", "acme")
    made.update()
    shutil.rmtree(tmp_path / "acme")
    assert compiled(made).plan
    (kept,) = [path for path in cache.rglob("*") if path.name == made.lock()["acme"].files["small.raptr"]]
    kept.write_bytes(kept.read_bytes() + b"#")
    assert problem(made).code == "library-changed"
    kept.unlink()
    assert problem(made).code == "library-missing"


def test_the_vendored_copy_needs_nothing_else(project: Make, tmp_path: Path, cache: Path) -> None:
    made = project(acme="../acme")
    library(tmp_path / "acme", "acme")
    made.update()
    made.vendor()
    shutil.rmtree(tmp_path / "acme")
    shutil.rmtree(cache)
    assert compiled(made).plan
    copy = made.root / "raptr_libraries" / "acme" / "small.raptr"
    copy.write_text(SMALL.replace("50%", "51%"))
    assert problem(made).code == "library-changed"
    copy.unlink()
    assert problem(made).code == "library-file"


def test_an_update_renews_the_vendored_copy(project: Make, tmp_path: Path) -> None:
    made = project(acme="../acme")
    library(tmp_path / "acme", "acme")
    made.update()
    made.vendor()
    library(tmp_path / "acme", "acme", "1.1.0", text=SMALL.replace("50%", "51%"))
    made.update(everything=True)
    assert compiled(made).plan
    assert made.lock()["acme"].version == "1.1.0"


def test_a_git_repository_is_pinned_to_a_commit(project: Make, tmp_path: Path) -> None:
    first = repository(library(tmp_path / "acme", "acme"))
    made = project(acme=f"git+file://{tmp_path}/acme@main")
    made.update()
    assert made.lock()["acme"].commit == first
    library(tmp_path / "acme", "acme", "1.1.0", text=SMALL.replace("50%", "51%"))
    git(tmp_path / "acme", "commit", "--quiet", "--all", "--message", "y")
    made.update()
    assert made.lock()["acme"].commit == first
    shutil.move(tmp_path / "acme", tmp_path / "away")  # offline
    assert compiled(made).plan
    shutil.move(tmp_path / "away", tmp_path / "acme")
    made.update(["acme"])
    assert made.lock()["acme"].version == "1.1.0"


def test_a_commit_and_a_folder_of_a_repository(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "mono" / "schedules" / "acme", "acme")
    first = repository(tmp_path / "mono")
    write(tmp_path / "mono", {"other.txt": "x"})
    git(tmp_path / "mono", "add", "--all")
    git(tmp_path / "mono", "commit", "--quiet", "--message", "y")
    made = project(acme=f"git+file://{tmp_path}/mono@{first}#schedules/acme")
    made.update()
    assert made.lock()["acme"].commit == first
    assert compiled(made).plan


def test_an_fsspec_address(project: Make, tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for path, text in {"raptr.toml": manifest("acme"), "small.raptr": SMALL, "data.bin": "x"}.items():
        store.pipe(f"/schedules/acme/{path}", text.encode())
    made = project(acme="memory://schedules/acme")
    made.update()
    store.rm("/schedules", recursive=True)
    assert made.lock()["acme"].files.keys() == {"raptr.toml", "small.raptr"}
    assert compiled(made).plan


def test_adding_keeps_the_comments_of_the_manifest_and_is_all_or_nothing(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project()
    (made.root / "raptr.toml").write_text("# ours\n[dependencies]  # theirs\n")
    before = (made.root / "raptr.toml").read_text()
    assert refused(lambda: made.add("acme", "../nowhere")).code == "library-file"
    assert (made.root / "raptr.toml").read_text() == before and read_lock(made.root) is None
    made.add("acme", "../acme")
    assert "# ours" in (made.root / "raptr.toml").read_text() and "# theirs" in (made.root / "raptr.toml").read_text()
    assert compiled(made).plan


def test_two_versions_are_refused_with_both_ways(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "base1", "base", "1.0.0")
    library(tmp_path / "base2", "base", "2.0.0", text=SMALL.replace("50%", "40%"))
    library(tmp_path / "left", "left", base="../base1")
    library(tmp_path / "right", "right", base="../base2")
    found = refused(project(left="../left", right="../right").update)
    assert found.code == "library-versions"
    assert "1.0.0" in found.notes[0] and "left → base" in found.notes[0]
    assert "2.0.0" in found.notes[1] and "right → base" in found.notes[1]


def test_one_version_by_two_ways_is_fine(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "base", "base")
    shutil.copytree(tmp_path / "base", tmp_path / "copy")
    library(tmp_path / "left", "left", base="../base")
    library(tmp_path / "right", "right", base="../copy")
    assert project(left="../left", right="../right").update().keys() == {"base", "left", "right"}


def test_outside_a_project_nothing_is_locked(tmp_path: Path) -> None:
    for action in (lambda: Project.around(tmp_path).update(), lambda: Project.around(tmp_path).update(["std"])):
        found = refused(action)
        assert found.code == "library-manifest" and "raptr lib add" in found.help
    assert not list(tmp_path.iterdir())


def test_a_circle_is_shown(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "a", "a", b="../b")
    library(tmp_path / "b", "b", c="../c")
    library(tmp_path / "c", "c", a="../a")
    found = refused(project(a="../a", c="../c").update)
    assert found.code == "library-cycle"
    assert "a → b → c → a" in found.message


def test_a_circle_within_a_library_is_shown(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme", text='use "./b.raptr"\nrun b steps=rest\n')
    write(tmp_path / "acme", {"b.raptr": 'use "./small.raptr"\nrun small steps=rest\n'})
    made = project(acme="../acme")
    made.update()
    found = problem(made)
    assert found.code == "import-cycle"
    assert "acme/small.raptr → acme/b.raptr → acme/small.raptr" in found.message


def test_libraries_100_deep_are_refused(project: Make, tmp_path: Path) -> None:
    for number in range(100):
        library(tmp_path / f"l{number}", f"l{number}", **{f"l{number + 1}": f"../l{number + 1}"})
    found = refused(project(l0="../l0").update)
    assert found.code == "library-limit" and "32 deep" in found.message


def test_imports_100_deep_are_refused(project: Make, tmp_path: Path) -> None:
    files = {f"f{number}.raptr": f'use "./f{number + 1}.raptr" as f\nrun f steps=rest\n' for number in range(100)}
    library(tmp_path / "acme", "acme", text='use "./f0.raptr" as f\nrun f steps=rest\n')
    write(tmp_path / "acme", files)
    made = project(acme="../acme")
    made.update()
    assert problem(made).code == "limit-imports"


def test_a_schedule_of_std_or_a_file_in_place_of_a_library(project: Make) -> None:
    assert problem(project(), "use pld\nstage steps=rest\n").help == "did you mean `std/pld`?"
    assert 'in quotes: use "./warm.raptr"' in problem(project(), "use warm.raptr\nstage steps=rest\n").help


def test_a_missing_export_has_a_nearest(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    assert "did you mean `acme/small`?" in problem(made, "use acme/smal\nrun smal steps=rest\n").help


def test_a_parameter_out_of_bounds_shows_both_places(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    made = project(acme="../acme")
    made.update()
    found = problem(made, "use acme/small\nrun small(small=1/12) steps=rest\n")
    assert found.code == "param-bounds"
    assert found.span and found.span.text == "1/12"
    (bounds,) = found.related
    assert Path(bounds.span.source.name).samefile(tmp_path / "acme" / "small.raptr"), "an editor can open it"
    assert "small.raptr is of the library acme 1.0.0" in render_json([found])
    assert "= note: small.raptr is of the library acme 1.0.0" in render_text([found])


def test_a_manifest_and_a_lock_that_disagree_are_refused(project: Make, tmp_path: Path) -> None:
    library(tmp_path / "acme", "acme")
    library(tmp_path / "fork", "acme")
    made = project(acme="../acme")
    made.update()
    made = project(acme="../fork")
    assert problem(made).code == "library-lock"
    made.update()
    assert compiled(made).plan


def test_another_machine_fetches_what_was_locked_and_nothing_newer(project: Make, tmp_path: Path, cache: Path) -> None:
    first = repository(library(tmp_path / "acme", "acme"))
    made = project(acme=f"git+file://{tmp_path}/acme@main")
    made.update()
    library(tmp_path / "acme", "acme", "2.0.0", text=SMALL.replace("50%", "51%"))
    git(tmp_path / "acme", "commit", "--quiet", "--all", "--message", "y")
    shutil.rmtree(cache)
    assert problem(made).code == "library-missing"
    made.update()
    assert made.lock()["acme"].commit == first
    assert compiled(made).plan


def test_what_was_locked_and_is_nowhere_is_not_replaced(project: Make, tmp_path: Path, cache: Path) -> None:
    made = project(acme="../acme")
    library(tmp_path / "acme", "acme")
    made.update()
    before = (made.root / "raptr.lock").read_bytes()
    library(tmp_path / "acme", "acme", text=SMALL.replace("50%", "51%"))
    shutil.rmtree(cache)
    assert refused(made.update).code == "library-changed"
    assert (made.root / "raptr.lock").read_bytes() == before


def test_a_vendored_copy_restores_the_cache_offline(project: Make, tmp_path: Path, cache: Path) -> None:
    repository(library(tmp_path / "acme", "acme"))
    made = project(acme=f"git+file://{tmp_path}/acme@main")
    made.update()
    made.vendor()
    shutil.rmtree(tmp_path / "acme")
    shutil.rmtree(cache)
    made.update()
    assert compiled(made).plan and any(cache.rglob("*"))
