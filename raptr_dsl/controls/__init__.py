"""Schedules of equal FLOPs to compare one with: dense, of constant size, reversed, decreasing."""

from raptr_dsl.controls.derive import CONTROLS, Control, derive

__all__ = ["CONTROLS", "Control", "derive"]
