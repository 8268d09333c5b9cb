"""Backends by entry point: what is installed is read from metadata; a package is imported when it is needed.

A package registers its backend object in the group `raptr_dsl.backends`, under the name that users write. If
its distribution has an extra of that name, the extra is what the backend needs to run.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, distribution, entry_points

from raptr_dsl.backend import Backend
from raptr_dsl.diagnostics import did_you_mean, fail

GROUP = "raptr_dsl.backends"


@dataclass(frozen=True, slots=True)
class Installed:
    """A backend that some installed distribution declares.

    Attributes:
        distribution, version: of the distribution that declares it.
        missing: what it needs to run and is not installed, as requirements (`torch>=2.6`).
    """

    name: str
    distribution: str
    version: str
    missing: tuple[str, ...]
    entry: EntryPoint

    @property
    def install(self) -> str:
        """The command that installs what is missing."""
        return f'pip install "{self.distribution}[{self.name}]"'


def installed() -> dict[str, Installed]:
    """Every declared backend, by name, without importing any.

    Raises:
        RaptrError: `backend-ambiguous`, where two distributions declare one name.
    """
    names = sorted({entry.name for entry in entry_points(group=GROUP)})
    return {name: find(name) for name in names}


def find(name: str) -> Installed:
    """The declared backend of a name, not imported.

    Raises:
        RaptrError: `backend-unknown`, `backend-ambiguous`.
    """
    entries = list(entry_points(group=GROUP, name=name))
    if not entries:
        known = sorted({entry.name for entry in entry_points(group=GROUP)})
        nearest = did_you_mean(name, known)
        raise fail(
            "backend-unknown",
            f"no installed package provides a backend called {name!r}",
            help=f"did you mean {nearest}?" if nearest else f"installed are {', '.join(known) or 'none'}",
            subject="--backend",
        )
    if len(entries) > 1:
        owners = " and ".join(f"{_owner(entry)} ({entry.value})" for entry in entries)
        raise fail(
            "backend-ambiguous",
            f"{len(entries)} installed packages provide a backend called {name!r}: {owners}",
            help="uninstall all but one of them",
            subject=name,
        )
    entry = entries[0]
    if entry.dist is None:
        return Installed(name, entry.module, "unknown", (), entry)
    return Installed(name, entry.dist.name, entry.dist.version, tuple(_missing(entry.dist.requires or (), name)), entry)


def load(name: str) -> Backend:
    """The backend of a name, imported: enough to read its capabilities, even without its framework.

    Raises:
        RaptrError: `backend-unknown`, `backend-ambiguous`, `backend-not-installed`, `backend-broken`.
    """
    declared = find(name)
    try:
        backend = declared.entry.load()
    except Exception as error:  # a third party's import can fail in any way
        if isinstance(error, ImportError) and declared.missing:
            raise not_installed(declared) from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise _broken(declared, f"cannot be imported: {reason}") from error
    if not isinstance(backend, Backend):
        lacking = [word for word in _PARTS if not hasattr(backend, word)]
        raise _broken(declared, f"is no backend: {declared.entry.value} lacks {', '.join(lacking)}")
    if backend.name != name:
        raise _broken(declared, f"calls itself {backend.name!r}")
    return backend


def load_to_run(name: str) -> Backend:
    """The backend of a name, with everything that it needs to run.

    Raises:
        RaptrError: as `load`; `backend-not-installed` where its framework is missing.
    """
    declared = find(name)
    if declared.missing:
        raise not_installed(declared)
    return load(name)


def not_installed(declared: Installed):
    """The error that says what to install."""
    return fail(
        "backend-not-installed",
        f"the {declared.name} backend needs {', '.join(declared.missing)}, not installed here",
        help=declared.install,
        subject=declared.name,
    )


_PARTS = ("name", "capabilities", "shape", "attach", "trainer")


def _broken(declared: Installed, what: str):
    return fail(
        "backend-broken",
        f"the backend {declared.name!r} of {declared.distribution} {declared.version} {what}",
        subject=declared.name,
    )


def _owner(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.module


def _missing(requirements: Iterable[str], extra: str) -> Iterable[str]:
    """The requirements of an extra whose distributions are not installed (`torch>=2.6; extra == "torch"`)."""
    for requirement in requirements:
        wanted, _, marker = requirement.partition(";")
        named = re.search(r"""extra\s*==\s*['"]([^'"]+)['"]""", marker)
        if named is None or named[1] != extra:
            continue
        name = re.match(r"[A-Za-z0-9._-]+", wanted.strip())
        try:
            distribution(name[0] if name else wanted)
        except PackageNotFoundError:
            yield wanted.strip()
