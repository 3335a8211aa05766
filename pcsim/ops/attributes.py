"""Checks that turn what a document says into the hashable value that an op keeps.

Each raises ``ValueError("expected ...")``; ``parse_attributes`` puts what was got in front of it. Each also says as a
JSON Schema what it takes: the reference and the schemas of documents are made of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite, prod
from numbers import Real
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from pcsim import errors
from pcsim.documents.frozen_arrays import MOST_WRITTEN_OUT, FrozenArray
from pcsim.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.arrays import Shape

MAX_ELEMENTS = 10**9
"""No vertex and no parameter may hold more elements than this."""

MAX_RANK = 16
"""No vertex may have more axes than this."""

MOST_TICKS = 1_000_000
"""The longest delay that a document may ask for, in ticks."""

Parse = Callable[[Any], Any]
T = TypeVar("T")
Schema = Mapping[str, Any]

SIZE = {"type": "integer", "minimum": 1, "maximum": MAX_ELEMENTS}


@dataclass(frozen=True)
class Check(Generic[T]):
    """A check that says what it takes, as a JSON Schema, which is asked for late: tables may grow."""

    parse: Callable[[Any], T]
    schema: Callable[[], Schema]

    def __call__(self, value: Any) -> T:
        """Return the value that an op keeps, or raise ValueError."""
        return self.parse(value)


def takes(*forms: Schema, **schema: Any) -> Callable[[Callable[[Any], T]], Check[T]]:
    """Return the decorator of a check: the JSON Schema of what it takes, or several of which one holds."""
    whole_schema = {"anyOf": forms} if forms else schema
    return lambda parse: Check(parse, lambda: whole_schema)


def schema_of(parse: Parse) -> dict[str, Any]:
    """Return the JSON Schema of what a check takes; of a plain function it is not known: anything."""
    return dict(parse.schema()) if isinstance(parse, Check) else {}


@takes(type="number")
def number(value: Any) -> float:
    """Return a finite number; truth values and text are none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError("expected a number")
    try:
        result = float(value)
    except OverflowError:
        result = inf
    if not isfinite(result):
        raise ValueError("expected a finite number")
    return result


whole = takes(type="integer")(errors.whole)


@takes(**SIZE)
def positive(value: Any) -> int:
    """Return a whole number from 1 up to the largest size allowed."""
    found = whole(value)
    if not 1 <= found <= MAX_ELEMENTS:
        raise ValueError("expected a positive whole number, at most 10^9")
    return found


@takes(type="integer", minimum=0, maximum=MAX_ELEMENTS)
def count(value: Any) -> int:
    """Return a whole number from 0 up to the largest size allowed."""
    found = whole(value)
    if not 0 <= found <= MAX_ELEMENTS:
        raise ValueError("expected a whole number from 0 to 10^9")
    return found


@takes(type="integer")
def index(value: Any) -> int:
    """Return a whole number of either sign that can count elements or axes."""
    place = whole(value)
    if abs(place) > MAX_ELEMENTS:
        raise ValueError("expected a whole number, at most 10^9")
    return place


@takes(type="integer", minimum=0)
def natural(value: Any) -> int:
    """Return a whole number of at least 0 that can count elements or axes."""
    if (count := index(value)) < 0:
        raise ValueError("expected a whole number of at least 0")
    return count


@takes(type="number", minimum=0)
def non_negative(value: Any) -> float:
    """Return a finite number of at least 0."""
    if (result := number(value)) < 0:
        raise ValueError("expected a number of at least 0")
    return result


@takes(type="number", exclusiveMinimum=0)
def above_zero(value: Any) -> float:
    """Return a finite number above 0."""
    if (result := number(value)) <= 0:
        raise ValueError("expected a number above 0")
    return result


@takes(type="number", minimum=0, exclusiveMaximum=1)
def fraction(value: Any) -> float:
    """Return a number from 0 up to, but not including, 1."""
    if not 0 <= (result := number(value)) < 1:
        raise ValueError("expected a number from 0 up to, but not including, 1")
    return result


@takes(type="boolean")
def boolean(value: Any) -> bool:
    """Return true or false; 0 and 1 are neither."""
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def optional(parse: Parse) -> Check[Any]:
    """Return the same check, which lets null through."""
    return Check(
        lambda value: None if value is None else parse(value),
        lambda: {"anyOf": [schema_of(parse), {"type": "null"}]},
    )


def choice(kind: str, names: Iterable[str]) -> Check[str]:
    """Return the check that a value is one of some names; ``kind`` says what they name."""
    legal = tuple(names)

    @takes(type="string", enum=list(legal))
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in legal:
            message = f"expected {kind}{nearest(value, legal)}"
            raise ValueError(message)
        return value

    return parse


@takes(type="array", items=SIZE, maxItems=MAX_RANK)
def shape(value: Any) -> Shape:
    """Return the shape of a vertex; [] is a scalar."""
    extents = tuple(map(positive, listed(value, "expected a shape, a list such as [28, 28]")))
    return small(extents)


@takes(type="array", items={"type": "integer"}, maxItems=MAX_RANK)
def partial_shape(value: Any) -> Shape:
    """Return a shape in which one extent may be -1, to be worked out."""
    extents = tuple(map(whole, listed(value, "expected a shape, a list such as [4, -1]")))
    if extents.count(-1) > 1:
        raise ValueError("expected at most one -1")
    small(tuple(positive(extent) for extent in extents if extent != -1))
    return extents


@takes({"type": "integer"}, {"type": "array", "items": {"type": "integer"}, "maxItems": MAX_RANK})
def axes(value: Any) -> tuple[int, ...]:
    """Return axes of a vertex, from one axis or a list of axes."""
    if isinstance(value, list | tuple):
        return tuple(map(index, listed(value, "expected a list of axes")))
    return (index(value),)


FROM_FILE = {
    "type": "object",
    "properties": {
        "file": {"type": "string", "description": "a file of arrays: .npz, .npy or .safetensors"},
        "key": {"type": "string", "description": "the name of the array in it"},
    },
    "required": ["file"],
    "additionalProperties": False,
}


@takes({"type": "number"}, {"type": "array"}, FROM_FILE)
def numbers(value: Any) -> FrozenArray:
    """Return a number, or lists of numbers of equal lengths at each depth: int64 if all are written as whole numbers.

    An array keeps its number format where it has many numbers.
    """
    if isinstance(value, Mapping):
        raise ValueError("expected numbers, or {file: w.npz, key: name} where the graph comes from a document")
    array = value.array if isinstance(value, FrozenArray) else np.array(_nested(value, MAX_RANK))
    if array.dtype.kind in "biu":
        return FrozenArray(array.astype(np.int64))
    if not array.size or array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError("expected finite numbers")
    return FrozenArray(array if array.size > MOST_WRITTEN_OUT else array.astype(np.float64))


@takes({"type": "integer"}, {"type": "array"}, FROM_FILE)
def whole_numbers(value: Any) -> FrozenArray:
    """Return a whole number, or lists of them, as int64."""
    found = numbers(value)
    if not is_whole(found.array):
        raise ValueError("expected whole numbers")
    return FrozenArray(found.array.astype(np.int64))


def is_whole(array: np.ndarray[Any, Any]) -> bool:
    """Return whether all numbers of an array are whole and small enough for 64 bits."""
    return array.dtype.kind == "i" or bool((array == np.floor(array)).all() and (abs(array) < 2.0**63).all())


def _nested(value: Any, depth: int) -> Any:
    if not isinstance(value, list | tuple):
        return _exact(value)
    if not value or not depth:
        message = f"expected numbers in lists at most {MAX_RANK} deep, none of them empty"
        raise ValueError(message)
    items = tuple(_nested(item, depth - 1) for item in value)
    if len(set(map(_nested_shape, items))) > 1:
        raise ValueError("expected lists of equal lengths")
    return items


def _exact(value: Any) -> float | int:
    """Return a finite number; whole ones do not pass through floating point."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    return number(value)


def _nested_shape(value: Any) -> Shape:
    return (len(value), *_nested_shape(value[0])) if isinstance(value, tuple) else ()


def listed(value: Any, message: str) -> tuple[Any, ...]:
    """Return the items of a list that is not absurdly long."""
    if not isinstance(value, list | tuple) or len(value) > MAX_RANK:
        raise ValueError(message)
    return tuple(value)


def small(extents: Shape) -> Shape:
    """Return a shape that is not absurdly large."""
    if prod(extents) > MAX_ELEMENTS:
        raise ValueError("expected at most 10^9 elements")
    return extents
