"""The axes whose units are weights of a dense model: what every backend runs, by any law."""

from raptr_dsl.axes import AXES

PARTS = tuple(name for name, axis in AXES.items() if axis.has_weights and name != "experts")
