"""Where the data files of the package lie: the grammar and the library of schedules.

A wheel carries them inside the package; in an editable install they stand beside it, in the repository.
"""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_directory(name: str) -> Path:
    """The folder of packaged data called `name` ("grammars" or "schedules").

    Raises FileNotFoundError if the installation lacks it.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        directory = root / name
        if directory.is_dir():
            return directory
    raise FileNotFoundError(f"this installation of raptr_dsl lacks its folder {name!r}; install it again")


def grammar_file() -> Path:
    """The grammar of the language, one commented Lark file."""
    return data_directory("grammars") / "raptr.lark"


def schedule_directory() -> Path:
    """The root of the schedules that come with the package."""
    return data_directory("schedules")
