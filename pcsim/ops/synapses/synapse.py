"""Synapses of a projection as data: one delay each, in one canonical order, with the index arrays that sums need.

>>> found = arranged(np.array([1, 0, 2]), np.array([1, 1, 0]), np.array([0, 3, 0]), fan_out=3, units=2)
>>> found
Synapses(3 from 3 to 2 neurons, delays 0, 3)
>>> found.pre.tolist(), found.post.tolist(), found.delay.tolist()
([2, 1, 0], [0, 1, 1], [0, 0, 3])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import sparse
from pcsim.ops.attributes import MAX_ELEMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcsim.arrays import Array, Namespace

Whole = np.ndarray
"""An array of whole numbers."""

MOST_DELAYS = 1000
"""The most distinct delays of one projection: each is an edge of its own."""


@dataclass(frozen=True, eq=False, repr=False)
class Synapses:
    """The synapses of one projection, sorted by neuron after, delay, neuron before; arrays are read-only.

    Two are equal where they have the same synapses. ``arranged`` makes them from synapses in any order.

    Attributes
    ----------
    pre, post, delay : (synapses,) int32, neuron before, neuron after, ticks
    fan_out : neurons of the population before
    units : neurons of the population after
    weight : (synapses,) float64 that a file gave, None if none did
    notes : what to know of that file: what of it is left out
    """

    pre: NDArray[np.int32]
    post: NDArray[np.int32]
    delay: NDArray[np.int32]
    fan_out: int
    units: int
    weight: NDArray[np.float64] | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for array in (self.pre, self.post, self.delay, self.weight):
            if array is not None:
                array.flags.writeable = False

    def __len__(self) -> int:
        return len(self.pre)

    def __repr__(self) -> str:
        some = [*map(str, self.delays[:4]), *(["..."] if len(self.delays) > 4 else [])]
        delays = f"delay{'s' if len(self.delays) > 1 else ''} {', '.join(some)}"
        return f"Synapses({len(self):,} from {self.fan_out:,} to {self.units:,} neurons, {delays})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Synapses):
            return NotImplemented
        return self is other or (
            (self.fan_out, self.units) == (other.fan_out, other.units)
            and np.array_equal(self.pre, other.pre)
            and np.array_equal(self.post, other.post)
            and np.array_equal(self.delay, other.delay)
        )

    def __hash__(self) -> int:
        return hash((len(self), self.fan_out, self.units))

    @cached_property
    def delays(self) -> tuple[int, ...]:
        """The distinct delays, ascending: one input of the op for each."""
        return tuple(np.flatnonzero(np.bincount(self.delay)).tolist())

    @cached_property
    def starts(self) -> Whole:
        """(units + 1,), where the synapses of each neuron after begin."""
        return _starts(self.post, self.units)

    @cached_property
    def columns(self) -> Whole:
        """(synapses,), the row that each synapse reads of the inputs laid end to end, one input per delay."""
        if len(self.delays) == 1:
            return self.pre
        first = np.zeros(self.delays[-1] + 1, _kind(self.width))
        first[list(self.delays)] = np.arange(len(self.delays)) * self.fan_out
        found = first[self.delay]
        found += self.pre
        return found

    @property
    def width(self) -> int:
        """Rows of the inputs laid end to end."""
        return len(self.delays) * self.fan_out

    @cached_property
    def order(self) -> Whole:
        """(synapses,), the synapses by column; those of one column by neuron after."""
        numbers = np.arange(len(self), dtype=_kind(max(len(self), self.width)))
        shape = (self.units, self.width)
        found: Whole = sparse(np).csr_matrix((numbers, self.columns, self.starts), shape=shape).tocsc().data
        return found

    @cached_property
    def column_starts(self) -> Whole:
        """(width + 1,), where the synapses of each column begin in ``order``."""
        return _starts(self.columns, self.width)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays that a run holds: synapses, columns and where neurons begin, worked out or not."""
        given = sum(array.nbytes for array in (self.pre, self.post, self.delay, self.weight) if array is not None)
        columns = 0 if len(self.delays) == 1 else len(self) * np.dtype(_kind(self.width)).itemsize
        return given + columns + (self.units + 1) * np.dtype(_kind(len(self))).itemsize

    @cached_property
    def fan_in(self) -> int:
        """Synapses of a neuron after, on average, at least 1."""
        return max(1, round(len(self) / self.units))

    @cached_property
    def mean_fan_out(self) -> int:
        """Synapses of a neuron before, on average, at least 1."""
        return max(1, round(len(self) / self.fan_out))

    def on(self, xp: Namespace, name: str) -> Array:
        """Return one of the index arrays where an array library works: copied there once."""
        if xp is np:
            return getattr(self, name)
        key = (xp.__name__, name)
        if key not in self._copies:
            self._copies[key] = xp.asarray(getattr(self, name))
        return self._copies[key]

    @cached_property
    def _copies(self) -> dict[tuple[str, str], Any]:
        return {}


def arranged(
    pre: Whole, post: Whole, delay: Whole | int, *, fan_out: int, units: int, weight: Whole | None = None
) -> Synapses:
    """Return synapses given in any order; a single delay stands for all.

    Raises ValueError where the inputs, one for each distinct delay, would be absurdly large.
    """
    delays, kinds = _classes(delay)
    width = len(delays) * fan_out
    if width > MAX_ELEMENTS or len(delays) > MOST_DELAYS:
        message = f"{len(delays)} distinct delays of {fan_out:,} neurons, expected at most {MOST_DELAYS}, 10^9 in all"
        raise ValueError(message)
    keys = post.astype(np.int64)  # width and units are at most 10^9, so a synapse's place fits
    keys *= width
    keys += pre
    if kinds is not None:
        keys += kinds * fan_out
    if weight is None:
        keys = keys if (keys[1:] >= keys[:-1]).all() else np.sort(keys)
    else:
        order = np.argsort(keys, kind="stable")
        keys, weight = keys[order], np.asarray(weight, np.float64)[order]
    return _unpacked(keys, delays, fan_out, units, weight)


def _classes(delay: Whole | int) -> tuple[NDArray[np.int32], NDArray[np.int64] | None]:
    """Return the distinct delays, ascending, and which of them each synapse has; None where there is but one."""
    if isinstance(delay, int):
        return np.array([delay], np.int32), None
    count = np.bincount(delay)
    delays = np.flatnonzero(count).astype(np.int32)
    number = np.cumsum(count > 0, dtype=np.int64) - 1
    return delays, number[delay] if len(delays) > 1 else None


def _unpacked(
    keys: NDArray[np.int64], delays: NDArray[np.int32], fan_out: int, units: int, weight: Whole | None
) -> Synapses:
    """Take keys apart: ((neuron after) * delays + number of the delay) * fan_out + neuron before."""
    rows = keys // fan_out
    keys -= rows * fan_out
    pre = keys.astype(np.int32)
    if len(delays) == 1:
        return Synapses(pre, rows.astype(np.int32), np.full(len(pre), delays[0]), fan_out, units, weight)
    post = rows // len(delays)
    rows -= post * len(delays)
    return Synapses(pre, post.astype(np.int32), delays[rows], fan_out, units, weight)


def _starts(rows: Whole, count: int) -> Whole:
    """Return where each of ``count`` rows begins once a list is sorted by row."""
    starts = np.zeros(count + 1, _kind(len(rows)))
    np.cumsum(np.bincount(rows, minlength=count), out=starts[1:])
    return starts


def _kind(most: int) -> type[np.int32] | type[np.int64]:
    """Return the smallest type that sparse products take for indices up to ``most``."""
    return np.int32 if most < 2**31 else np.int64
