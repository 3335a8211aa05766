"""Sums of messages by receiver, in one fixed order."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pcsim.arrays import Array, Namespace


class Sum:
    """Adds up messages by receiver: a sparse matrix of ones times the messages.

    Each receiver's messages are added one after the other in the order given, so that the result does not
    depend on how they were computed.
    """

    def __init__(self, xp: Namespace, order: Any, starts: Any, dtype: Any) -> None:
        sparse = import_module("scipy.sparse" if xp.__name__ == "numpy" else "cupyx.scipy.sparse")
        ones = xp.ones(len(order), dtype)
        self.matrix = sparse.csr_matrix(
            (ones, xp.asarray(order), xp.asarray(starts)), shape=(len(starts) - 1, len(order))
        )

    def __call__(self, messages: Array, out: Array) -> None:
        """Sum messages (messages, batch, *shape) into ``out`` (receivers, batch, *shape)."""
        out[...] = (self.matrix @ messages.reshape(len(messages), -1)).reshape(out.shape)
