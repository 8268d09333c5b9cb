"""The masks again, in plain Python from docs/sampling.md: integers and fractions, one unit at a time, no NumPy.

Nothing here is shared with the package but the classes that describe a plan.
"""

from fractions import Fraction
from functools import cache
from hashlib import sha256
from math import floor, gcd

from raptr_dsl.axes import AXES
from raptr_dsl.ir.bound import BoundRule, BoundStage
from raptr_dsl.ir.plan import Plan

WORD = 2**64


def philox(key: tuple[int, int], counter: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Philox4x64-10 (Salmon et al., 2011)."""
    k0, k1 = key
    c0, c1, c2, c3 = counter
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (second >> 64) ^ c1 ^ k0, second % WORD, (first >> 64) ^ c3 ^ k1, first % WORD
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % WORD, (k1 + 0xBB67AE8584CAA73B) % WORD
    return c0, c1, c2, c3


def key_of(seed: int, axis: str) -> tuple[int, int]:
    """Rule 18."""
    digest = sha256(b"raptr-mask-1\x00" + seed.to_bytes(8, "little") + axis.encode("ascii")).digest()
    return int.from_bytes(digest[0:8], "little"), int.from_bytes(digest[8:16], "little")


@cache
def words_of_step(seed: int, axis: str, sites: int, units: int, step: int) -> list[int]:
    """Rule 19: the S·n unit words of a step, and the reserved one."""
    count = sites * units + 1
    blocks = (count + 3) // 4
    key = key_of(seed, axis)
    words = [word for block in range(blocks) for word in philox(key, (step * blocks + block + 1, 0, 0, 0))]
    return words[:count]


def below(bound: int, word: int) -> int:
    """Rule 21."""
    return word * bound // WORD


def by_key(units: list[int], words: list[int]) -> list[int]:
    """Rule 21: units in the order of their rank keys; `words` are those of the site."""
    return sorted(units, key=lambda unit: words[unit] // 65536 * 65536 + unit)


def weights_of(rule: BoundRule, n: int) -> list[Fraction]:
    """Rule 26; curves apart, which are tested on their own."""
    profile = rule.profile
    if profile.kind == "linear":
        return [Fraction(unit + 1, n) for unit in range(n)]
    if profile.kind == "list":
        return list(profile.weights)
    if profile.kind == "curve":
        assert profile.curve is not None
        places = [Fraction(unit, n - 1) if n > 1 else Fraction(1) for unit in range(n)]
        return [profile.start + (profile.stop - profile.start) * profile.curve.value(place) for place in places]
    return [Fraction(1)] * n


def chances_of(rule: BoundRule, n: int, value: Fraction) -> list[Fraction]:
    """Rule 26: p of every unit."""
    weights = weights_of(rule, n)
    if rule.measure == "probability":
        delta = 1 - value
    else:
        total = sum(weights[unit] for unit in range(n) if unit not in rule.keep)
        delta = (n - value) / total if n > value else Fraction(0)
    return [Fraction(1) if unit in rule.keep else 1 - weights[unit] * delta for unit in range(n)]


class Rule:
    """What one rule draws in one stage."""

    def __init__(self, plan: Plan, stage: BoundStage, axis: str) -> None:
        space = AXES[axis].space(plan.shape)
        self.seed, self.axis, self.sites, self.n = plan.seed, axis, space.sites, space.units
        self.rule, self.stage, self.layers = stage.axes[axis], stage, plan.shape.layers
        self.every = stage.steps if self.rule.every is None else self.rule.every
        rotates = axis != "depth" and self.rule.law.law == "rotate" and "depth" in stage.axes
        self.depth = Rule(plan, stage, "depth") if rotates and stage.axes["depth"].law.law == "rotate" else None

    def words(self, step: int) -> list[int]:
        return words_of_step(self.seed, self.axis, self.sites, self.n, step)

    def value_at(self, offset: int) -> Fraction:
        """The size, or probability, of the draw that begins `offset` steps into the stage."""
        if self.rule.choices:
            reserved = self.words(self.stage.start + offset)[-1]
            return Fraction(self.rule.choices[below(len(self.rule.choices), reserved)])
        return [border.value for border in self.rule.sizes if border.offset <= offset][-1]

    def draw_at(self, step: int) -> tuple[int, int, int]:
        """The step at which the draw begins, its number in its segment, and where the segment begins (rule 17)."""
        offset = (step - self.stage.start) // self.every * self.every
        first = offset
        while first and self.value_at(first - self.every) == self.value_at(offset):
            first -= self.every
        return self.stage.start + offset, (offset - first) // self.every, self.stage.start + first

    def mask(self, step: int) -> list[list[bool]]:
        """bool[sites][n]: what is on."""
        begin, number, origin = self.draw_at(step)
        value = self.value_at(begin - self.stage.start)
        masks = []
        for site in range(self.sites):
            on = self._select(site, value, begin, number, origin)
            if site % self.layers in self.rule.full:
                on = set(range(self.n))
            masks.append([unit in on or unit in self.rule.keep for unit in range(self.n)])
        return masks

    def round_at(self, step: int) -> int | None:
        """Rule 24: depth's round at a step; None where it is at full size."""
        begin, number, _ = self.draw_at(step)
        k = self.value_at(begin - self.stage.start)
        pool, quota = self.n - len(self.rule.keep), k - len(self.rule.keep)
        return None if k == self.n else number // (pool // gcd(pool, int(quota)))

    def _select(self, site: int, value: Fraction, begin: int, number: int, origin: int) -> set[int]:
        rule, n = self.rule, self.n
        law, pool = rule.law, [unit for unit in range(n) if unit not in rule.keep]

        def words(step: int) -> list[int]:
            return self.words(step)[site * n : site * n + n]

        if not law.exact:
            return self._random(pool, chances_of(rule, n, value), words(begin), self.words(begin)[-1])
        if value == n:
            return set(pool)
        quota = int(value) - len(rule.keep)
        match law.law:
            case "prefix":
                return set(pool[:quota])
            case "suffix":
                return set(pool[len(pool) - quota :])
            case "ranked":
                order = law.order  # pyright: ignore[reportAttributeAccessIssue]
                return set([unit for unit in order if unit in pool][:quota])
            case "fixed":
                return set(by_key(pool, words(begin))[:quota])
            case "stratified":
                groups = law.groups  # pyright: ignore[reportAttributeAccessIssue]
                on = set()
                for group in range(groups):
                    members = range(group * n // groups, (group + 1) * n // groups)
                    kept = sum(unit in rule.keep for unit in members)
                    ranked = by_key([unit for unit in members if unit in pool], words(begin))
                    on |= set(ranked[: int(value) // groups - kept])
                return on
        if not quota:
            return set()
        if law.law == "window":
            offset = below(len(pool), words(begin)[0])
            return {pool[(offset + q) % len(pool)] for q in range(quota)}
        length = len(pool) // gcd(len(pool), quota)
        if law.law == "rotate":
            turn = self.depth.round_at(begin) if self.depth else None
            number = number if turn is None else turn
            return {pool[(number % length * quota + q) % len(pool)] for q in range(quota)}
        assert law.law == "balanced"
        dealt = by_key(pool, words(origin + number // length * length * self.every))
        return {dealt[(number % length * quota + q) % len(pool)] for q in range(quota)}

    def _random(self, pool: list[int], chances: list[Fraction], words: list[int], reserved: int) -> set[int]:
        if self.rule.law.law == "bernoulli":
            return {u for u in pool if chances[u] >= 1 or (chances[u] > 0 and words[u] < floor(chances[u] * WORD))}
        assert self.rule.law.law == "systematic"
        total = Fraction(reserved, WORD)
        on = set()
        for unit in by_key(pool, words):
            before, total = total, total + chances[unit]
            if floor(total) > floor(before):
                on.add(unit)
        return on


def mask(plan: Plan, axis: str, step: int) -> list[list[bool]]:
    """bool[sites][n]: which units of an axis are on in a step."""
    stage = next(stage for stage in plan.stages if stage.start <= step < stage.stop)
    space = AXES[axis].space(plan.shape)
    if axis not in stage.axes:
        return [[True] * space.units for _ in range(space.sites)]
    return Rule(plan, stage, axis).mask(step)
