"""Pickles read as data: lists, dicts, text, bytes, numbers and arrays of numbers; nothing in them is run."""

from __future__ import annotations

import pickle
import pickletools
from io import BytesIO
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.graph.array_files import BROKEN, reason
from pcsim.resources import check_file, check_room

if TYPE_CHECKING:
    from pathlib import Path


def read_pickle(path: Path) -> Any:
    """Return what a pickle holds; raises InputError where it is damaged, or holds more than plain data."""
    check_file(path)
    check_room(path, 2 * path.stat().st_size)
    try:
        raw = path.read_bytes()
        _check_places(raw)
        return _plain(_Reader(BytesIO(raw), encoding="bytes").load())
    except (*BROKEN, pickle.UnpicklingError, AttributeError, IndexError) as error:
        raise wrong("file", f"cannot read {path}: {reason(error)}") from None


def _check_places(raw: bytes) -> None:
    """Refuse a place for an object that lies beyond the file's length: memory is taken up to that place."""
    for instruction, place, _ in pickletools.genops(raw):
        if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(place or 0) > len(raw):
            message = f"it keeps an object at place {place}, more than it has bytes"
            raise pickle.UnpicklingError(message)


class _Reader(pickle.Unpickler):
    """Knows a few names alone, and puts plain stand-ins of its own in their place."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            message = f"it holds {module}.{name}, expected plain data and arrays of numbers"
            raise pickle.UnpicklingError(message)
        return _KNOWN[module, name]


class _Format:
    """Stands for ``numpy.dtype``."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code, self.order = _text(code), "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        found = np.dtype(self.code).newbyteorder(self.order if self.order in "<>" else "=")  # type: ignore[arg-type]
        if found.kind not in "biuf":
            message = f"it holds an array of {found}, expected numbers"
            raise ValueError(message)
        return found


class _Array:
    """Stands for an array."""

    def __init__(self, *_: Any) -> None:
        self.array: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_column, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw
        if not isinstance(kind, _Format) or prod(shape) * kind.dtype.itemsize != len(raw):
            raise ValueError("an array in it has not as many bytes as its shape says")
        self.array = np.frombuffer(raw, kind.dtype).reshape(shape, order="F" if by_column else "C")


def _of_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> _Array:
    found = _Array()
    found.__setstate__((1, shape, kind, _text(order) == "F", raw))
    return found


def _encode(text: Any, encoding: Any) -> bytes:
    if _text(encoding) != "latin1":
        raise ValueError("expected bytes as latin1")
    return str(text).encode("latin1")


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _plain(data: Any) -> Any:
    """Return the data with arrays in place of what stands for them."""
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return data.array if isinstance(data, _Array) else data


_KNOWN: dict[tuple[str, str], Any] = {("numpy", "dtype"): _Format, ("numpy", "ndarray"): _Array}
_KNOWN |= {(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")}
_KNOWN |= {(f"numpy.{core}.numeric", "_frombuffer"): _of_buffer for core in ("core", "_core")}
_KNOWN |= {("_codecs", "encode"): _encode}
