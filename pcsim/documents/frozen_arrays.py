"""Arrays that never change: equal by content, hashed by a digest of it, described where text is wanted."""

from __future__ import annotations

from array import ArrayType
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Protocol, runtime_checkable

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

MOST_WRITTEN_OUT = 1_000
"""An array of more numbers than this stays an array; a smaller one is plain data like any list."""


@runtime_checkable
class ArrayLike(Protocol):
    """What NumPy can read: a NumPy array, a tensor of PyTorch, a column of pandas."""

    def __array__(self) -> Any: ...


@runtime_checkable
class DLPackLike(Protocol):
    """What NumPy can read by DLPack."""

    def __dlpack__(self) -> Any: ...


def reads_as_array(given: Any) -> bool:
    """Return whether NumPy reads something by a protocol of arrays: ``__array__``, DLPack, a buffer."""
    kinds = (np.ndarray, memoryview, ArrayType, ArrayLike, DLPackLike)  # the slowest to ask come last
    return isinstance(given, kinds) or hasattr(type(given), "__array_interface__")


class FrozenArray:
    """An array that never changes.

    Attributes
    ----------
    array : the numbers, read-only
    """

    __slots__ = ("_digest", "array")

    def __init__(self, array: Array) -> None:
        self.array = read_only(array)
        self._digest = ""

    @property
    def digest(self) -> str:
        """A fingerprint of shape, number format and content."""
        self._digest = self._digest or digest_of({"": self.array})
        return self._digest

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.array, dtype, copy=True) if copy else np.asarray(self.array, dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrozenArray):
            return NotImplemented
        mine, its = self.array, other.array
        return mine is its or (mine.dtype == its.dtype and mine.shape == its.shape and self.digest == other.digest)

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"FrozenArray({list(self.array.shape)}, {self.array.dtype}, {self.digest})"

    def __reduce__(self) -> tuple[type[FrozenArray], tuple[Array]]:
        """Freeze what pickle brings back: it is writeable then."""
        return type(self), (self.array,)


def read_only(array: Array) -> Array:
    """Return the array, or a copy where someone could still change it; it cannot be written to."""
    if not never_changes(array):
        array = array.copy()
        array.setflags(write=False)
    return array


def never_changes(array: Any) -> bool:
    """Return whether neither an array nor what it is a view of can be written to."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return False
        array = array.base
    return array is None or isinstance(array, bytes)


def array_of(given: Any) -> Array:
    """Return numbers as an array, without a copy where NumPy can do without; lists, and what is wider, give float64.

    Raises ValueError for what is no array of numbers, for arrays with masked values, and for what cannot be read.
    """
    if isinstance(given, FrozenArray):
        return given.array
    if isinstance(given, np.ma.MaskedArray):
        given = _unmasked(given)
    try:
        array = np.asarray(given)
        if array.dtype == object and isinstance(given, DLPackLike):
            array = np.from_dlpack(given)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        message = f"cannot be read as an array: {error}" if reads_as_array(given) else _NUMBERS
        raise ValueError(message) from None
    if array.dtype.kind not in "iuf":
        raise ValueError(_NUMBERS)
    own = reads_as_array(given) and array.dtype.itemsize <= 8
    return array if own else array.astype(np.float64)


def _unmasked(given: np.ma.MaskedArray[Any, Any]) -> Array:
    """Return the numbers of a masked array in which none is masked; raises ValueError where one is."""
    if count := int(np.ma.getmaskarray(given).sum()):
        first = np.argwhere(np.ma.getmaskarray(given))[0].tolist()
        where = f"{count:,} of {given.size:,} values" + (f", the first at {first}" if first else "")
        message = f"a masked array has no number where it is masked ({where}); fill these places: array.filled(0.0)"
        raise ValueError(message)
    return np.ma.getdata(given)


_DEEPEST = 32
"""Axes that an array has at most, as NumPy 1 counts them."""

_NUMBERS = "expected finite numbers, lists of equal lengths"


def frozen_numbers(given: Any) -> FrozenArray:
    """Return finite numbers that never change: in float64 where they are few, else in their own number format.

    Raises ValueError for what is no array of finite numbers, and for arrays with masked values.
    """
    array = array_of(given)
    if not np.isfinite(array).all():
        raise ValueError(_NUMBERS)
    if array.size <= MOST_WRITTEN_OUT or array.dtype.kind != "f":
        array = array.astype(np.float64)
    return given if isinstance(given, FrozenArray) and given.array is array else FrozenArray(array)


def digest_of(arrays: Mapping[str, Array]) -> str:
    """Return a fingerprint of arrays by name: of names, shapes, number formats and content (blake2b, 32 hex digits)."""
    found = blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype.str} {arrays[name].shape}\0".encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def as_lists(data: Any) -> Any:
    """Return plain data with every array written out as nested lists."""
    if isinstance(data, FrozenArray):
        return data.array.tolist()
    if isinstance(data, dict):
        return {key: as_lists(value) for key, value in data.items()}
    return [as_lists(item) for item in data] if isinstance(data, list | tuple) else data


def described(data: Any) -> Any:
    """Return plain data as JSON holds it: in place of more than 1,000 numbers stand their shape, format and digest.

    >>> described({"values": FrozenArray(np.zeros(2000)), "scale": (1, 2)})["scale"]
    [1, 2]
    """
    if isinstance(data, Mapping):
        return {key: described(value) for key, value in data.items()}
    if isinstance(data, FrozenArray):
        return _description(data) if data.array.size > MOST_WRITTEN_OUT else data.array.tolist()
    if not isinstance(data, list | tuple):
        return data
    large = large_array(data)
    return [described(item) for item in data] if large is None else _description(large)


def _description(frozen: FrozenArray) -> dict[str, Any]:
    return {"shape": list(frozen.array.shape), "dtype": str(frozen.array.dtype), "digest": frozen.digest}


def check_not_described(data: Any) -> None:
    """Raise ValueError for the description of an array, which stands where the numbers themselves are needed."""
    if isinstance(data, Mapping) and set(data) == {"shape", "dtype", "digest"}:
        message = f"these {data['shape']} numbers were left out where this was written; give the array, or name a file"
        raise ValueError(message)


def large_array(items: Any) -> FrozenArray | None:
    """Return lists of numbers as an array where there are many; None for few, for whole numbers and for anything else.

    Whole numbers may be names.
    """
    if not _begins_with_number(items):
        return None
    try:
        array = np.asarray(items)
    except ValueError:
        return None
    return FrozenArray(array) if array.dtype == np.float64 and array.size > MOST_WRITTEN_OUT else None


def _begins_with_number(items: Any) -> bool:
    for _ in range(_DEEPEST):  # a list may hold itself
        if not (isinstance(items, list | tuple) and items):
            break
        items = items[0]
    return type(items) in (int, float)
