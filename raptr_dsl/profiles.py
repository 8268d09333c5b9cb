"""The weights of a profile: how the chance of being off varies over the units of a site (rule 26)."""

from fractions import Fraction
from functools import lru_cache

from raptr_dsl.ir.schedule import Profile
from raptr_dsl.laws import Weights


@lru_cache(maxsize=64)
def weights_of(profile: Profile, n: int, keep: tuple[int, ...]) -> Weights | None:
    """The weights of a site of n units of which `keep` are always on; None for all 1."""
    values = profile_weights(profile, n)
    return None if values is None else Weights(values, keep)


def profile_weights(profile: Profile, n: int) -> tuple[Fraction, ...] | None:
    """The weight w of each of n units; None for all 1. A list is given as it is, whatever its length.

    A curve runs over u/(n − 1), and over 1 where n = 1. Irrational weights are fixed to the nearest multiple of
    2^−256 of the curve, so that everything drawn from them is rational.
    """
    match profile.kind:
        case "uniform":
            return None
        case "linear":
            return tuple(Fraction(unit + 1, n) for unit in range(n))
        case "list":
            return profile.weights
        case "curve":
            if profile.curve is None:
                raise ValueError("a profile of kind 'curve' has a curve")
            rise = profile.stop - profile.start
            places = (Fraction(unit, n - 1) if n > 1 else Fraction(1) for unit in range(n))
            return tuple(profile.start + rise * profile.curve.value(place) for place in places)
