"""Records: rows of whole numbers with named fields, which Python lays out in a table and compiled code reads.

Each record is defined once, as a :class:`Record`. Python writes it by ``rows``; in compiled code ``one`` and ``each``
give functions that return the record at a place of the table, a NumPy structured scalar: to read a field is one load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pcsim.engines.jit.kernels.compiled import IR, NUMBA, TYPES, intrinsic

Kind = Literal["address", "codes", "location", "number", "whole"]


@dataclass(frozen=True)
class Field:
    """What a field of a record holds.

    Attributes
    ----------
    kind : ``address`` (where numbers lie in memory, counted in elements of the run's format, -1: nowhere), ``codes``
        (the same, counted in 4 bytes), ``location`` (where in the table), ``number`` (a vertex, or something else that
        is noted to have changed, -1: none), ``whole`` (a count, a size, a switch)
    text : what it means
    """

    kind: Kind
    text: str


def address(text: str) -> Field:
    """Return a field that holds where numbers lie in memory."""
    return Field("address", text)


def codes(text: str) -> Field:
    """Return a field that holds where whole numbers of 4 bytes lie in memory."""
    return Field("codes", text)


def location(text: str) -> Field:
    """Return a field that holds where in the table something lies."""
    return Field("location", text)


def number(text: str) -> Field:
    """Return a field that holds the number of a vertex."""
    return Field("number", text)


def whole(text: str) -> Field:
    """Return a field that holds a whole number."""
    return Field("whole", text)


class Record:
    """One kind of record: its name and its fields, in the order in which they lie."""

    def __init__(self, name: str, **fields: Field) -> None:
        self.name, self.fields, self.size = name, fields, len(fields)
        self.dtype = np.dtype([(field, np.int64) for field in fields], align=True)

    def rows(self, **columns: Any) -> np.ndarray:
        """Return records (count, fields), given a number or (count,) numbers for each field.

        >>> Record("pair", low=whole("first"), high=whole("last + 1")).rows(low=0, high=[3, 4])
        array([[0, 3],
               [0, 4]])
        """
        if set(columns) != set(self.fields):
            wrong = sorted(set(columns) ^ set(self.fields))
            message = f"fields of a record {self.name!r} that are missing or unknown: {', '.join(wrong)}"
            raise TypeError(message)
        found = np.broadcast_arrays(*(np.atleast_1d(np.asarray(columns[name], np.int64)) for name in self.fields))
        return np.stack(found, axis=1)

    def offset(self, field: str) -> int:
        """Return how many numbers lie before a field."""
        return list(self.fields).index(field)

    def view(self, table: np.ndarray, place: int, count: int = 1) -> Any:
        """Return records of a table as a structured array (count,), which may be written to."""
        return table[place : place + count * self.size].view(self.dtype)

    def one(self) -> Any:
        """Return a function of compiled code: (table, place) -> the record there."""
        kind = NUMBA.from_dtype(self.dtype)

        def at(typing: Any, table: Any, place: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                return builder.bitcast(builder.gep(arguments[0], [arguments[1]]), context.get_value_type(kind))

            return kind(table, TYPES.intp), generate

        return intrinsic(at)

    def each(self) -> Any:
        """Return a function of compiled code: (table, place, n) -> the n-th of the records that begin there."""
        kind, size = NUMBA.from_dtype(self.dtype), self.size

        def at(typing: Any, table: Any, place: Any, n: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                behind = builder.mul(arguments[2], IR.Constant(IR.IntType(64), size))
                where = builder.gep(arguments[0], [builder.add(arguments[1], behind)])
                return builder.bitcast(where, context.get_value_type(kind))

            return kind(table, TYPES.intp, TYPES.intp), generate

        return intrinsic(at)
