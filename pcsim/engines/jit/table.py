"""The table in the making: records one after the other, the arrays that they point to, and what each of them is."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import zeros_in_lines
from pcsim.engines.jit.kernels.native import address_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.engines.jit.kernels.records import Record

WholeNumbers = np.ndarray
"""An array of int64."""

BARRIER = 8
"""The first numbers of a table are for threads that wait for each other."""


@dataclass(frozen=True)
class Entry:
    """Some records of one kind that lie one after the other, and whose they are."""

    record: Record
    location: int
    count: int
    owner: str


@dataclass
class Table:
    """Whole numbers in the making: what lies where."""

    runs: list[WholeNumbers] = field(default_factory=lambda: [np.zeros(BARRIER, np.int64)])
    size: int = BARRIER
    entries: list[Entry] = field(default_factory=list)

    def add(self, numbers: Iterable[int] | WholeNumbers) -> int:
        """Append numbers and return the place of the first."""
        run = np.asarray(numbers if isinstance(numbers, np.ndarray) else list(numbers), np.int64)
        place, self.size = self.size, self.size + len(run)
        self.runs.append(run)
        return place

    def write(self, record: Record, owner: str, **columns: Any) -> int:
        """Append records, given a number or one number each for every field; return the place of the first."""
        rows = record.rows(**columns)
        place = self.add(rows.ravel())
        self.entries.append(Entry(record, place, len(rows), owner))
        return place

    def array(self) -> WholeNumbers:
        """Return all numbers."""
        return np.concatenate(self.runs)


@dataclass
class Memory:
    """The arrays that records point to, by name; what is made here lasts as long as this does."""

    dtype: np.dtype[Any]
    arrays: list[tuple[str, np.ndarray]] = field(default_factory=list)
    alike: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)
    """Rows of the same number, by number and length."""

    def keep(self, name: str, array: np.ndarray) -> np.ndarray:
        """Note an array that records point to, and return it."""
        self.arrays.append((name, array))
        return array

    def new(self, name: str, *shape: int) -> np.ndarray:
        """Return a new array of zeros."""
        return self.keep(name, zeros_in_lines(np, shape, self.dtype))

    def many(self, number: int, count: int) -> int:
        """Return where so many times the same number lie."""
        if (number, count) not in self.alike:
            self.alike[number, count] = self.new(f"all {number}", count)
            self.alike[number, count][...] = number
        return address_of(self.alike[number, count])

    def constant(self, name: str, value: float) -> int:
        """Return where a number lies."""
        array = self.new(name, 1)
        array[0] = value
        return address_of(array)

    def spans(self) -> Spans:
        """Return where all arrays lie."""
        spans = sorted(
            (array.ctypes.data, -array.nbytes, number) for number, (_, array) in enumerate(self.arrays) if array.nbytes
        )
        found: list[tuple[int, int, str, np.ndarray]] = []
        for first, size, number in spans:
            if not found or first >= sum(found[-1][:2]):  # views of what is there already are left out
                found.append((first, -size, *self.arrays[number]))
        empty = {array.ctypes.data for _, array in self.arrays if not array.nbytes}
        return Spans([first for first, *_ in found], found, empty)


@dataclass(frozen=True)
class Spans:
    """Where arrays lie, by their first byte; and where those begin that hold nothing."""

    firsts: list[int]
    arrays: list[tuple[int, int, str, np.ndarray]]
    empty: set[int]

    def holds(self, octet: int) -> bool:
        """Return whether a byte is in some array, or begins one that holds nothing."""
        return octet in self.empty or self.find(octet) is not None

    def find(self, octet: int) -> tuple[str, np.ndarray, int] | None:
        """Return the array that holds a byte: its name, itself, and how many bytes come before; None if none does."""
        index = bisect_right(self.firsts, octet) - 1
        if index < 0:
            return None
        first, size, name, array = self.arrays[index]
        return (name, array, octet - first) if octet < first + size else None
