"""The parse tables that Lark makes of the grammar, saved in the user's cache.

Lark is imported only to make them: with the tables at hand a file is parsed without it, which saves a third of
the time that `raptr check` takes to start. They are saved as JSON under a name that holds a digest of the grammar.
A file that cannot be read, or is not whole, is as good as none; one that cannot be written is not missed.
"""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from raptr_dsl.resources import grammar_file

END = "$END"  # the kind of the token after the last
FORMAT = 1  # of the saved tables; raise it when `Tables` changes


@dataclass(frozen=True, slots=True)
class Rule:
    """A production `origin → symbols`; `name` says what to build of it, and `passes` that there is nothing to build."""

    name: str
    origin: str
    size: int
    passes: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """An LALR(1) automaton and the patterns of its words.

    Attributes:
        rows: for each state and symbol what to do: go to state n ≥ 0, or reduce by rule ~n where n < 0.
        rules: the productions that `rows` speaks of.
        starts: the first state for each start symbol.
        ends: the state in which that symbol is complete.
        terminals: the pattern of each terminal that is no keyword.
        ignored: those of them that separate words and mean nothing.
        keywords: the terminal of each keyword, by its text.
    """

    rows: list[dict[str, int]]
    rules: list[Rule]
    starts: dict[str, int]
    ends: dict[str, int]
    terminals: dict[str, str]
    ignored: list[str]
    keywords: dict[str, str]

    @property
    def statement_words(self) -> list[str]:
        """The words that a statement may begin with."""
        first = self.rows[self.starts["statement"]]
        return [word for word, terminal in self.keywords.items() if terminal in first]


@cache
def load_tables() -> Tables:
    """The tables of the grammar in this installation."""
    grammar = grammar_file().read_text("utf-8")
    path = _cache_file(grammar)
    tables = _read(path) if path else None
    if tables is None:
        tables = make_tables(grammar)
        if path:
            _write(path, tables)
    return tables


def make_tables(grammar: str) -> Tables:
    """Has Lark make the tables of a grammar with the start symbols `statement` and `repeat_head`."""
    from lark import Lark
    from lark.parsers.lalr_analysis import Shift

    lark = Lark(grammar, parser="lalr", start=["statement", "repeat_head"])
    table = lark.parser.parser._parse_table  # pyright: ignore[reportAttributeAccessIssue]
    states = {state: number for number, state in enumerate(table.states)}
    rules = {rule: number for number, rule in enumerate(lark.rules)}
    patterns = {terminal.name: terminal.pattern.to_regexp() for terminal in lark.terminals}
    keywords = {name: pattern.removesuffix(r"(?!\w)") for name, pattern in patterns.items()}
    keywords = {name: word for name, word in keywords.items() if word.isalpha()}
    return Tables(
        rows=[
            {symbol: states[target] if action is Shift else ~rules[target] for symbol, (action, target) in row.items()}
            for row in table.states.values()
        ],
        rules=[
            Rule(
                rule.alias or rule.origin.name,
                rule.origin.name,
                len(rule.expansion),
                bool(rule.options.expand1 and len(rule.expansion) == 1 and not rule.alias),
            )
            for rule in lark.rules
        ],
        starts={name: states[state] for name, state in table.start_states.items()},
        ends={name: states[state] for name, state in table.end_states.items()},
        terminals={name: pattern for name, pattern in patterns.items() if name not in keywords},
        ignored=list(lark.ignore_tokens),
        keywords={word: name for name, word in keywords.items()},
    )


def _cache_file(grammar: str) -> Path | None:
    """Where the tables of a grammar are kept, or None where there is no home directory."""
    with suppress(RuntimeError):
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        key = f"{FORMAT}\0{sys.version_info[:2]}\0{grammar}"
        digest = hashlib.sha256(key.encode()).hexdigest()
        return Path(root, "raptr_dsl", f"grammar-{digest[:32]}.json")
    return None


def _read(path: Path) -> Tables | None:
    """The tables saved at `path`, None unless they are whole."""
    try:
        checksum, body = path.read_bytes().split(b"\n", 1)
        if hashlib.sha256(body).hexdigest().encode() != checksum:
            return None
        saved = json.loads(body)
        return Tables(**saved | {"rules": [Rule(*rule) for rule in saved["rules"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(path: Path, tables: Tables) -> None:
    """Saves tables, under another name first, so that nobody ever reads half of them."""
    import tempfile  # slow to import, and hardly ever needed

    rules = [[rule.name, rule.origin, rule.size, rule.passes] for rule in tables.rules]
    fields = {name: getattr(tables, name) for name in Tables.__dataclass_fields__}
    body = json.dumps(fields | {"rules": rules}, separators=(",", ":")).encode()
    checksum = hashlib.sha256(body).hexdigest().encode()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(checksum + b"\n" + body)
            os.replace(draft, path)
        except OSError:
            os.unlink(draft)
