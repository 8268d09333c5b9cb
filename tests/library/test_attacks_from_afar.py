"""What a hostile repository or installed package tries, each refused: with a code, before anything is written."""

from pathlib import Path

import pytest

from raptr_dsl.library import tree as trees
from raptr_dsl.library.packages import read_package
from tests.library.conftest import SMALL, Make, code, git, library, repository, used, write


def test_a_repository_with_a_link(project: Make, tmp_path: Path) -> None:
    folder = library(tmp_path / "acme", "acme")
    (folder / "x.raptr").symlink_to("/etc/passwd")
    repository(folder)
    assert code(project(acme=f"git+file://{folder}").update) == "library-file"


def test_a_repository_with_a_huge_file(project: Make, tmp_path: Path) -> None:
    folder = library(tmp_path / "acme", "acme")
    (folder / "x.raptr").write_bytes(b"#" * (trees.FILE_BYTES + 1))
    repository(folder)
    assert code(project(acme=f"git+file://{folder}").update) == "library-limit"


def test_a_repository_whose_hooks_and_filters_would_run(project: Make, tmp_path: Path) -> None:
    folder, marker = library(tmp_path / "acme", "acme"), tmp_path / "ran"
    write(folder, {".gitattributes": "*.raptr filter=evil\n"})
    repository(folder)
    for hook in ("post-checkout", "post-upload-pack", "pre-receive", "reference-transaction"):
        write(folder / ".git" / "hooks", {hook: f"#!/bin/sh\ntouch {marker}\n"})
        (folder / ".git" / "hooks" / hook).chmod(0o755)
    git(folder, "config", "filter.evil.smudge", f"touch {marker}")
    project(acme=f"git+file://{folder}").update()
    assert not marker.exists()


def test_a_repository_that_needs_a_folder_of_this_machine(project: Make, tmp_path: Path) -> None:
    folder = library(tmp_path / "acme", "acme", other="../private")
    library(tmp_path / "private", "other")
    repository(folder)
    assert code(project(acme=f"git+file://{folder}").update) == "library-address"


@pytest.mark.parametrize("reference", ["nowhere", "0" * 40])
def test_a_reference_that_is_not_there(project: Make, tmp_path: Path, reference: str) -> None:
    folder = library(tmp_path / "acme", "acme")
    repository(folder)
    assert code(project(acme=f"git+file://{folder}@{reference}").update) == "library-fetch"


def distribution(site: Path, value: str = "acme_schedules", records: tuple[str, ...] = ()) -> None:
    """An installed package as its installer leaves it; importing it would leave a mark."""
    library(site / "acme_schedules", "acme")
    write(site, {"acme_schedules/__init__.py": f"open({str(site / 'ran')!r}, 'w')\n", "outside.raptr": SMALL})
    lines = ["acme_schedules/raptr.toml,,", "acme_schedules/small.raptr,,", "acme_schedules/__init__.py,,", *records]
    info = {
        "METADATA": "Metadata-Version: 2.1\nName: acme-schedules\nVersion: 1.0\n",
        "entry_points.txt": f"[raptr_dsl.libraries]\nacme = {value}\n",
        "RECORD": "\n".join(lines) + "\n",
    }
    write(site / "acme_schedules-1.0.dist-info", info)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return folder


def test_a_package_that_would_run_code_on_import(project: Make, site: Path) -> None:
    distribution(site)
    made = project(acme="package:acme-schedules")
    made.update()
    assert not used(made)
    assert not (site / "ran").exists()
    write(site, {"acme_schedules/small.raptr": SMALL.replace("50%", "51%")})
    assert used(made) == ["library-changed"]


@pytest.mark.parametrize("value", ["../x", "os:system", "acme_schedules:x", "acme-schedules", ""])
def test_an_entry_point_that_is_no_folder(site: Path, value: str) -> None:
    distribution(site, value)
    assert code(lambda: read_package("acme-schedules", "acme")) == "library-package"


@pytest.mark.parametrize("record", ["acme_schedules/../outside.raptr,,", "acme_schedules/a b.raptr,,"])
def test_a_record_that_leads_elsewhere(site: Path, record: str) -> None:
    distribution(site, records=(record,))
    assert code(lambda: read_package("acme-schedules", "acme")) == "library-path"


def test_a_package_whose_file_is_a_link(site: Path) -> None:
    distribution(site, records=("acme_schedules/x.raptr,,",))
    (site / "acme_schedules" / "x.raptr").symlink_to("../outside.raptr")
    assert code(lambda: read_package("acme-schedules", "acme")) == "library-file"


def test_a_package_that_is_not_there_or_provides_another(site: Path) -> None:
    distribution(site)
    assert code(lambda: read_package("no-such-package", "acme")) == "library-package"
    assert code(lambda: read_package("acme-schedules", "other")) == "library-package"
