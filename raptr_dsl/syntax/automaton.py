"""The LALR(1) automaton: runs the tokens of one statement through Lark's tables."""

from collections.abc import Callable
from typing import Any

from raptr_dsl.syntax.build import Builder, Parts, gather
from raptr_dsl.syntax.tables import END, Tables
from raptr_dsl.syntax.tokens import Token

_END = Token(END, 0, 0)


class Unexpected(Exception):
    """The token at `index`, or the end of the statement, fits nothing; a terminal of `expected` would."""

    def __init__(self, index: int, expected: frozenset[str]) -> None:
        self.index = index
        self.expected = expected
        super().__init__(index, expected)


class Automaton:
    """Makes nodes with `builder` of statements of its source."""

    def __init__(self, tables: Tables, builder: Builder) -> None:
        self._tables = tables
        self._rows = tables.rows
        self._text = builder.text
        self._rules: list[tuple[int, str, Callable[[Parts], Any] | None]] = [
            (rule.size, rule.origin, None if rule.passes else getattr(builder, rule.name, gather))
            for rule in tables.rules
        ]
        self._settled: dict[tuple[int, str, str], int] = {}

    def run(self, start: str, tokens: list[Token]) -> Any:
        """The node of a statement. Raises `Unexpected`, and what the builder raises."""
        rows, rules, settled = self._rows, self._rules, self._settled
        end = self._tables.ends[start]
        states: list[int] = [self._tables.starts[start]]
        values: Parts = []
        for index, token in enumerate((*tokens, _END)):
            kind = token.kind
            while True:
                action = rows[states[-1]].get(kind)
                if action is None:
                    if kind is END and states[-1] == end:
                        break
                    kind = token.kind = self._keyword(states, token, index)
                    continue
                if action >= 0:
                    states.append(action)
                    values.append(token)
                    break
                size, origin, make = rules[~action]
                if make is None:
                    del states[-1]
                else:
                    parts = values[-size:]
                    del states[-size:], values[-size:]
                    values.append(make(parts))
                below = states[-1]
                state = settled.get((below, origin, kind))
                states.append(self._settle(below, origin, kind) if state is None else state)
        return values[0]

    def _settle(self, below: int, origin: str, kind: str) -> int:
        """The state after a reduction to `origin`, and after those that follow from it and only pass it on."""
        key = below, origin, kind
        while True:
            state = self._rows[below][origin]
            action = self._rows[state].get(kind, 0)
            if action >= 0 or self._rules[~action][2] is not None:
                self._settled[key] = state
                return state
            origin = self._rules[~action][1]

    def _keyword(self, states: list[int], token: Token, index: int) -> str:
        """The keyword that a word is here, where no name may stand. Raises `Unexpected`."""
        terminal = self._tables.keywords.get(self._text[token.start : token.end], "")
        if token.kind == "NAME" and terminal in self._rows[states[-1]]:
            return terminal
        raise Unexpected(index, self._expected(states))

    def _expected(self, states: list[int]) -> frozenset[str]:
        """The terminals that can stand next, END among them: those of the row that come to be shifted."""
        return frozenset(kind for kind in self._rows[states[-1]] if self._accepts(list(states), kind))

    def _accepts(self, states: list[int], kind: str) -> bool:
        if not (kind == END or kind.isupper()):
            return False
        ends = self._tables.ends.values()
        while (action := self._rows[states[-1]].get(kind)) is not None:
            if action >= 0:
                return True
            size, origin, _ = self._rules[~action]
            del states[len(states) - size :]
            states.append(self._rows[states[-1]][origin])
            if kind == END and states[-1] in ends:
                return True
        return False
