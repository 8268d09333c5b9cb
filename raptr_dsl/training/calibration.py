"""What a step of each size takes on a machine: the file that `raptr train --calibrate` writes."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from raptr_dsl.diagnostics import fail
from raptr_dsl.flops import block_cost, head_cost, head_share
from raptr_dsl.ir.model import ModelShape
from raptr_dsl.training.record import Record


class SizeTime(Record, frozen=True):
    """One size and its time.

    Attributes:
        active: by axis, the units that are on at each site; those left out run in full.
        flops: of a step, blocks and head, convention `matmul`. seconds: of the fastest step.
    """

    active: dict[str, int]
    flops: int
    seconds: float = Field(gt=0)


class Calibration(Record, frozen=True):
    """What was measured, and on what; the full network is the size without `active`."""

    format: Literal["raptr-calibration-1"] = "raptr-calibration-1"
    backend: str
    dtype: str
    micro_batches: int
    threads: int | None = None
    rounds: int
    shape: ModelShape
    sizes: tuple[SizeTime, ...] = Field(min_length=1)

    @property
    def full(self) -> SizeTime:
        return next(size for size in self.sizes if not size.active)

    def realised(self, size: SizeTime) -> float:
        """The speed-up of a step over one of the full network."""
        return self.full.seconds / size.seconds

    def ideal(self, size: SizeTime) -> float:
        """The speed-up that FLOPs allow."""
        return float(Fraction(self.full.flops, size.flops))


def step_flops(shape: ModelShape, shares: Mapping[str, Fraction]) -> Fraction:
    """FLOPs of a step, blocks and head, in which such shares of the units of axes run; convention `matmul`."""
    blocks = (block_cost(shape, shares, stack=stack) for stack in range(shape.stacks))
    return shape.layers * sum(blocks, Fraction(0)) + head_cost(shape) * head_share(shares)


def load_calibration(path: str | Path) -> Calibration:
    """Reads what `raptr train --calibrate` wrote. Raises RaptrError (`calibration-unreadable`)."""
    try:
        calibration = Calibration.model_validate_json(Path(path).read_bytes())
        if any(not size.active for size in calibration.sizes):
            return calibration
        problem = "the full network was not measured"
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
    except ValidationError as error:
        is_json = error.errors()[0]["type"] != "json_invalid"
        problem = f"{error.error_count()} of its entries are not what raptr writes" if is_json else "it is not JSON"
    raise fail(
        "calibration-unreadable",
        f"this is no calibration: {problem}",
        subject=str(path),
        help="measure one: raptr train FILE --calibrate --out CALIBRATION.json",
    )
