"""The array namespace (NumPy or CuPy), passed as an argument and never kept globally."""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from math import prod
from typing import Any

import numpy as np

Array = Any
"""An array of the namespace in use."""

Namespace = Any
"""The module that makes arrays: ``numpy`` or ``cupy``; always an argument named ``xp``."""

Shape = tuple[int, ...]
"""The shape of a vertex or a parameter, without any leading axis."""

LEAD = 2
"""Leading axes of every array an op sees: the stack of equal vertices, then the batch."""


LINE = 128
"""Bytes of two cache lines: cores that fetch one may fetch its neighbour too."""


def zeros_in_lines(xp: Namespace, shape: Shape, dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin with a cache line, so that threads which have whole lines of each row share none."""
    if xp is not np:
        return xp.zeros(shape, dtype)
    size = prod(shape) * dtype.itemsize
    octets = np.zeros(size + LINE, np.uint8)
    first = -octets.ctypes.data % LINE
    return octets[first : first + size].view(dtype).reshape(shape)


@cache
def keep_freed_memory() -> None:
    """Let the C library keep what arrays leave behind for the next ones.

    glibc may give freed arrays of more than 128 KiB back to the system, and a new one then costs a page fault for every
    4 KiB: up to a seventh of the time of ticks with arrays of 1 MiB (570,000 faults in 1,600 ticks; 30 with this). Once
    an array of nearly 32 MiB has been freed, it keeps 64 MiB. Nothing is written to this one: it takes no memory.
    """
    np.empty(31 * 2**20, np.uint8)


class Copies:
    """Copies for a caller, in memory of former copies that no one holds any more.

    New memory of the system costs a page fault for every 4 KiB or so: for 45 MB up to ten times what copying does. At
    most ``MOST`` bytes are kept.
    """

    MOST = 2**28

    def __init__(self) -> None:
        self.kept: list[np.ndarray] = []

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return a copy that only the caller, and views of it, will see as long as one of them lasts."""
        copy = self._free(array)
        if copy is None:
            copy = np.array(array)
            if copy.nbytes + sum(kept.nbytes for kept in self.kept) <= self.MOST:
                self.kept.append(copy)
        else:
            np.copyto(copy, array)
        return copy

    def _free(self, array: np.ndarray) -> np.ndarray | None:
        """Return a former copy like an array that no one holds."""
        alike = [(kept.shape, kept.dtype) == (array.shape, array.dtype) for kept in self.kept]
        free = [place for place, fits in enumerate(alike) if fits and holders(self.kept, place) == UNHELD]
        return self.kept[free[0]] if free else None


def holders(arrays: list[np.ndarray], place: int) -> int:
    """Return how many references there are to an array in a list; each view of it is one."""
    return sys.getrefcount(arrays[place])


UNHELD = holders([np.empty(0)], 0)
"""Of an array that only a list holds."""


def special(xp: Namespace) -> Any:
    """Return the special functions (erf and others) that belong to an array namespace."""
    return import_module("scipy.special" if xp.__name__ == "numpy" else "cupyx.scipy.special")


def sparse(xp: Namespace) -> Any:
    """Return the sparse matrices that belong to an array namespace."""
    return import_module("scipy.sparse" if xp.__name__ == "numpy" else "cupyx.scipy.sparse")


def unbroadcast(xp: Namespace, array: Array, shape: Shape) -> Array:
    """Sum ``array`` down to ``shape``: the transpose of broadcasting ``shape`` up.

    Both have the same number of axes; axes of extent 1 in ``shape`` are summed.
    """
    axes = tuple(axis for axis, (have, want) in enumerate(zip(array.shape, shape, strict=True)) if want == 1 != have)
    return xp.sum(array, axis=axes, keepdims=True) if axes else array


def align(array: Array, rank: int) -> Array:
    """Insert axes after the leading ones, so that vertex shapes broadcast as NumPy shapes do.

    ``array`` has shape (stack, batch, *shape); the result has ``rank`` axes behind the leading two.
    """
    missing = rank - (array.ndim - LEAD)
    return array.reshape(array.shape[:LEAD] + (1,) * missing + array.shape[LEAD:]) if missing else array
