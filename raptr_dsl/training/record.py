"""What a run writes down about itself."""

from pydantic import BaseModel


class Record(BaseModel, frozen=True, extra="forbid"):
    """An immutable value that writes every field, so that a version with other defaults reads what was meant."""
