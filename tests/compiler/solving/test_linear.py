"""Small linear programs, beside a search over a grid and cases done by hand."""

from fractions import Fraction
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raptr_dsl.compiler.solving import linear
from raptr_dsl.compiler.solving.linear import Line, best_vertices, line_through

F = Fraction
BOX = [Line(F(0), (F(1), F(0))), Line(F(0), (F(0), F(1))), Line(F(4), (F(-1), F(-1)))]  # x, y ≥ 0, x + y ≤ 4


def test_the_best_corner() -> None:
    assert best_vertices(Line(F(0), (F(2), F(1))), [], BOX) == [(4, 0)]
    edge = best_vertices(Line(F(0), (F(1), F(1))), [], BOX)
    assert edge is not None and sorted(edge) == [(0, 4), (4, 0)]
    assert best_vertices(Line(F(0), (F(2), F(1))), [Line(F(-1), (F(1), F(0)))], BOX) == [(1, 3)]


def test_equations_that_contradict_and_that_repeat_each_other() -> None:
    objective, x_is = Line(F(0), (F(0), F(1))), (lambda value: Line(F(-value), (F(1), F(0))))
    assert best_vertices(objective, [x_is(1), x_is(2)], BOX) == []
    assert best_vertices(objective, [x_is(5)], BOX) == []
    twice = Line(F(-2), (F(2), F(0)))
    assert best_vertices(objective, [x_is(1), twice], BOX) == [(1, 3)]


def test_more_vertices_than_anybody_would_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MAX_VERTICES", 200)
    many = [Line(F(i), tuple(F(i % (j + 2)) for j in range(8))) for i in range(1, 30)]
    assert best_vertices(many[0], [], many) is None


NUMBERS = st.integers(-4, 4)
LINES = st.builds(lambda c, a, b: Line(F(c), (F(a), F(b))), NUMBERS, NUMBERS, NUMBERS)


@settings(max_examples=50)
@given(objective=LINES, others=st.lists(LINES, max_size=3))
def test_no_point_of_a_grid_is_better(objective: Line, others: list[Line]) -> None:
    positives = [*BOX, *others]
    best = best_vertices(objective, [], positives)
    assert best is not None
    grid = [(F(x, 2), F(y, 2)) for x, y in product(range(9), repeat=2)]
    feasible = [point for point in grid if all(line.at(point) >= 0 for line in positives)]
    assert all(line.at(point) >= 0 for point in best for line in positives)
    assert len({objective.at(point) for point in best}) <= 1
    if feasible:
        assert best and objective.at(best[0]) >= max(map(objective.at, feasible))


@given(st.tuples(NUMBERS, NUMBERS), NUMBERS, st.tuples(NUMBERS, NUMBERS))
def test_a_line_has_its_value_where_it_was_drawn(at: tuple[int, int], value: int, slopes: tuple[int, int]) -> None:
    point = tuple(map(F, at))
    assert line_through(point, F(value), tuple(map(F, slopes))).at(point) == value
