"""What every IR value is: frozen, closed, compared by meaning; rationals are `Fraction`s, never floats."""

import re
from fractions import Fraction
from functools import cache
from typing import Annotated, Any, Literal, dataclass_transform, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer

_RATIONAL = re.compile(r"-?[0-9]{1,1000}(/[0-9]{1,1000})?", re.ASCII)


def _read_rational(value: Any) -> Any:
    """Text that is no plain `num/den` is refused before anything expands it (`1e999999999`)."""
    if not isinstance(value, str):
        return value
    if not _RATIONAL.fullmatch(value) or value.rpartition("/")[2].strip("0") == "" != value.partition("/")[1]:
        raise ValueError("should be a fraction such as 6/12")
    return Fraction(value)


Rational = Annotated[Fraction, BeforeValidator(_read_rational)]
"""An exact number; in JSON a string, `"num/den"` or `"num"`."""


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(Field,))
class _FrozenModel(type(BaseModel)):
    """Tells type checkers that every class below `Frozen` is frozen too."""

    __hash__ = type.__hash__


class Frozen(BaseModel, metaclass=_FrozenModel, frozen=True, extra="forbid", defer_build=True):
    """An immutable value without spans. Unknown fields are refused; JSON writes a rational as `"num/den"`.

    What is written leaves out the fields that have their default, but for those whose only value names the kind
    (`law`, `curve`, `kind`, `format`): reading needs them.
    """

    @model_serializer(mode="wrap")
    def _lean(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        defaults = _defaults(type(self))
        return {
            name: value
            for name, value in write(self).items()
            if name not in defaults or getattr(self, name) != defaults[name]
        }


@cache
def _defaults(model: type[Frozen]) -> dict[str, Any]:
    """The defaults that need not be written."""
    return {
        name: field.get_default(call_default_factory=True, validated_data={})
        for name, field in model.model_fields.items()
        if not field.is_required()
        and not (get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1)
    }
