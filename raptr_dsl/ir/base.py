"""What every IR value is: frozen, closed, compared by meaning; rationals are `Fraction`s, never floats."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable value without spans. Unknown fields are refused; JSON writes a rational as `"num/den"`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
