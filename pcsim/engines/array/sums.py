"""Sums of messages by receiver, in one fixed order."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.arrays import sparse
from pcsim.engines.array.rows import indices
from pcsim.ops.segment_sums import segment_sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from pcsim.arrays import Array, Namespace
    from pcsim.program.program import Rows


class Sum:
    """Adds up messages by receiver: a sparse matrix of ones times the messages.

    Each receiver's messages are added one after the other in the order given, so that the result does not
    depend on how they were computed.
    """

    def __init__(self, order: np.ndarray, starts: np.ndarray, dtype: Any) -> None:
        shape = (len(starts) - 1, len(order))
        self.matrix = sparse(np).csr_matrix((np.ones(len(order), dtype), order, starts), shape=shape)
        self.cuts: dict[bytes, Any] = {}

    def __call__(self, messages: Array, out: Array, rows: Rows | None = None) -> None:
        """Sum messages (messages, batch, *shape) into ``out`` (receivers, batch, *shape): all, or some rows of it."""
        where = ... if rows is None else rows
        matrix = self.matrix if rows is None else self._cut(rows)
        out[where] = (matrix @ messages.reshape(len(messages), -1)).reshape(-1, *out.shape[1:])

    def _cut(self, rows: Rows) -> Any:
        """Return some rows of the matrix; they are asked for again in the next run."""
        index = indices(rows)
        key = index.tobytes()
        if key not in self.cuts:
            self.cuts[key] = self.matrix[index]
        return self.cuts[key]


class DeviceSum:
    """Adds up messages by receiver on a device, in the order given.

    ``at`` brings rows there; ``order`` and ``starts`` (CSR) are there.
    """

    def __init__(self, xp: Namespace, at: Callable[[Rows], Any], order: Array, starts: Array) -> None:
        self.xp, self.at, self.order = xp, at, order
        self.first, self.after = starts[:-1], starts[1:]

    def __call__(self, messages: Array, out: Array, rows: Rows | None = None) -> None:
        """Sum messages (messages, batch, *shape) into ``out`` (receivers, batch, *shape): all, or some rows of it."""
        where = slice(0, len(self.first)) if rows is None else self.at(rows)
        flat = messages.reshape(len(messages), -1)
        sums = segment_sums(self.xp, self.order, self.first[where], self.after[where], flat)
        out[where] = sums.reshape(-1, *out.shape[1:])
