"""Where an array engine keeps its arrays: with the host, or on a device, where every look from the host is a wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from weakref import finalize

import numpy as np

from pcsim.engines.array.sums import DeviceSum, Sum
from pcsim.errors import RunError
from pcsim.ops.segment_sums import segment_sums
from pcsim.resources import ALWAYS_THERE, mebibytes
from pcsim.resources import available as available

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pcsim.arrays import Array, Namespace
    from pcsim.program.program import DelayBuffer, Rows


class Memory(Protocol):
    """What differs between the host and a device; ``xp`` is the array namespace."""

    xp: Namespace

    def admit(self, needs: Mapping[str, int]) -> None:
        """Raise RunError where arrays of these bytes do not fit; called before anything is allocated."""

    def at(self, rows: Rows) -> Any:
        """Return rows as what indexes arrays here; what lasts is brought over once."""

    def delay_buffer(self, delay_buffer: DelayBuffer) -> DelayBuffer:
        """Return a delay_buffer whose rows index arrays here."""

    def host(self, array: Array) -> np.ndarray:
        """Return an array on the host."""

    def sum(self, order: np.ndarray, starts: np.ndarray, dtype: np.dtype[Any], /) -> Callable[..., None]:
        """Return what sums messages by receiver."""

    def add_at(self, array: Array, places: np.ndarray, more: Array) -> None:
        """Add rows to rows of an array, in the order given; places may occur twice."""

    def finite(self, array: Array) -> bool:
        """Return whether all numbers are finite; True where looking is put off."""

    def put_off(self) -> None:
        """Begin ticks that no one looks into: what is not finite may be noticed in the end."""

    def looked_well(self) -> bool:
        """Return whether everything was finite since looking was put off; from now on look at once."""

    def watch(self, *, closely: bool) -> None:
        """Say whether looking may be put off."""


class HostMemory:
    """Arrays of NumPy."""

    xp: Namespace = np

    def admit(self, needs: Mapping[str, int]) -> None:
        """Raise RunError where the arrays that last for a session take more than this machine has left."""
        if (wanted := sum(needs.values())) < ALWAYS_THERE:
            return
        free = available()
        if free is not None and wanted > free:
            there = f"this machine has {mebibytes(free)} of memory left"
            raise _too_much(there, needs)

    def at(self, rows: Rows) -> Any:
        """Return the rows."""
        return rows

    def delay_buffer(self, delay_buffer: DelayBuffer) -> DelayBuffer:
        """Return the delay_buffer."""
        return delay_buffer

    def host(self, array: Array) -> np.ndarray:
        """Return the array."""
        here: np.ndarray = array
        return here

    def sum(self, order: np.ndarray, starts: np.ndarray, dtype: np.dtype[Any], /) -> Sum:
        """Return a sparse product."""
        return Sum(order, starts, dtype)

    def add_at(self, array: Array, places: np.ndarray, more: Array) -> None:
        """Add row by row."""
        np.add.at(array, places, more)

    def finite(self, array: Array) -> bool:
        """One pass over memory: NaN and infinity survive a sum, but a sum may overflow: hence the second look."""
        with np.errstate(all="ignore"):
            return bool(np.isfinite(np.sum(array))) or bool(np.isfinite(array).all())

    def put_off(self) -> None:
        """Go on looking: it costs next to nothing."""

    def looked_well(self) -> bool:
        """Return True: what was not finite has been named already."""
        return True

    def watch(self, *, closely: bool) -> None:
        """Look at once, always."""


class DeviceMemory:
    """Arrays of CuPy, or of a namespace like it.

    Index arrays are brought over once, as long as they live; whether numbers are finite is noted on the device, and
    read after many ticks.
    """

    def __init__(self, xp: Namespace) -> None:
        self.xp = xp
        self.copies: dict[int, Array] = {}
        self.groups: dict[bytes, tuple[Array, ...]] = {}
        self.fine: Array = None
        """() bool on the device while looking is put off."""
        self.closely = False

    def admit(self, needs: Mapping[str, int]) -> None:
        """Raise RunError where the arrays that last for a session take more than is free; ticks need more on top."""
        unused, size = self.xp.cuda.runtime.memGetInfo()
        free = unused + self.xp.get_default_memory_pool().free_bytes()
        if sum(needs.values()) > free:
            there = f"the device has {mebibytes(free)} free of {mebibytes(size)}"
            raise _too_much(there, needs)

    def at(self, rows: Rows) -> Any:
        """Return a slice as it is, an index array as a copy on the device."""
        if isinstance(rows, slice):
            return rows
        key = id(rows)
        if key not in self.copies:
            self.copies[key] = self.xp.asarray(rows)
            finalize(rows, self.copies.pop, key, None)
        return self.copies[key]

    def delay_buffer(self, delay_buffer: DelayBuffer) -> DelayBuffer:
        """Return the delay_buffer with its offsets and lengths on the device, where rows are then worked out."""
        return type(delay_buffer)(self.at(delay_buffer.offset), self.at(delay_buffer.length))

    def host(self, array: Array) -> np.ndarray:
        """Return a copy on the host, once everything before it has been done."""
        here: np.ndarray = self.xp.asnumpy(array)
        return here

    def sum(self, order: np.ndarray, starts: np.ndarray, _dtype: np.dtype[Any], /) -> DeviceSum:
        """Return sums by segment."""
        return DeviceSum(self.xp, self.at, self.xp.asarray(order), self.xp.asarray(starts))

    def add_at(self, array: Array, places: np.ndarray, more: Array) -> None:
        """Add up the rows for each place in their order, then add the sums: no atomic operations."""
        key = places.tobytes()
        if key not in self.groups:
            order = np.argsort(places, kind="stable")
            found, first = np.unique(places[order], return_index=True)
            after = np.append(first[1:], len(order))
            self.groups[key] = tuple(map(self.xp.asarray, (found, order, first, after)))
        found, order, first, after = self.groups[key]
        sums = segment_sums(self.xp, order, first, after, more.reshape(len(places), -1))
        array[found] += sums.reshape(-1, *array.shape[1:])

    def finite(self, array: Array) -> bool:
        """Return whether all numbers are finite, or note it."""
        fine = self.xp.isfinite(array).all()
        if self.fine is None:
            return bool(fine)
        self.xp.logical_and(self.fine, fine, out=self.fine)
        return True

    def put_off(self) -> None:
        """Note from now on, instead of waiting for the device to say."""
        self.fine = None if self.closely else self.xp.ones((), bool)

    def looked_well(self) -> bool:
        """Wait for what was noted."""
        fine, self.fine = self.fine, None
        return fine is None or bool(fine)

    def watch(self, *, closely: bool) -> None:
        """Say whether looking may be put off."""
        self.closely = closely


def _too_much(there: str, needs: Mapping[str, int]) -> RunError:
    parts = ", ".join(f"{name} {mebibytes(count)}" for name, count in needs.items() if count)
    wanted = mebibytes(sum(needs.values()))
    return RunError(f"{there}, and the run needs at least {wanted} ({parts}); a smaller batch takes less")
