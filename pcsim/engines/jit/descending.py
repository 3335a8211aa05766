"""Parameters follow an optimiser by kernels: each thread of a session moves its share of the numbers."""

from __future__ import annotations

from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.kernels.descent import CONSTANTS, DESCENT, DESCENTS
from pcsim.engines.jit.kernels.native import address_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pcsim.engines.jit.parts import Parts
    from pcsim.engines.jit.pool import ThreadPool
    from pcsim.engines.jit.segments import Sharing

Array = np.ndarray


def same(arrays: Sequence[Array], others: Sequence[Array]) -> bool:
    """Return whether these are the same arrays, not only equal ones."""
    return len(arrays) == len(others) and all(map(is_, arrays, others))


ALONE = 2**13
"""Numbers of a parameter up to which one thread has all of them."""


class Descending:
    """Moves parameters in place, with the bits that NumPy gives."""

    def __init__(self, sharing: Sharing, pool: ThreadPool, parts: Parts) -> None:
        self.sharing, self.pool, self.parts = sharing, pool, parts
        self.constants = np.zeros(CONSTANTS, sharing.dtype)
        self.known: tuple[Any, list[Array]] = None, []
        """The formula and the arrays that the lines are for."""
        self.records = np.zeros(0, np.int64)
        self.lines = self.records
        self.work = 0

    def move(self, formula: Callable[..., Any], moves: Sequence[Sequence[Array]], constants: Sequence[float]) -> bool:
        """Move parameters by a formula of ``pcsim.optimisers``; return whether there is a kernel for it.

        Parameters
        ----------
        moves : of each parameter its array, what was learnt of it, and what the optimiser keeps of it
        constants : what the formula takes beside arrays
        """
        arrays = [array for each in moves for array in each]
        if formula is not self.known[0] or not same(arrays, self.known[1]):
            dtype = self.sharing.dtype
            if formula not in DESCENTS or not all(one.flags.c_contiguous and one.dtype == dtype for one in arrays):
                return False
            self.known = formula, arrays
            self._lay_out(DESCENTS[formula], moves)
        self.constants[: len(constants)] = constants
        self.pool.run(self.lines, self.parts.whole, 0, 0, 1, work=self.work, in_step=False)
        return True

    def _lay_out(self, kernel: Any, moves: Sequence[Sequence[Array]]) -> None:
        """Write where everything lies, and who moves what."""
        places, sizes = [list(map(address_of, arrays)) for arrays in moves], [arrays[0].size for arrays in moves]
        filled = np.array([[*line, -1, -1][:4] for line in places], np.int64)
        theta, u, first, second = filled.T
        records = DESCENT.rows(theta=theta, u=u, first=first, second=second, constants=address_of(self.constants))
        self.records = np.ascontiguousarray(records)
        begin = address_of(self.records) - address_of(self.pool.table)  # places count from the table's first number
        lines = [
            self.sharing.between(kernel, begin + number * DESCENT.size, self._ends(size))
            for number, size in enumerate(sizes)
        ]
        self.lines, self.work = self.sharing.compiled(lines).numbers, sum(sizes)

    def _ends(self, size: int) -> Array:
        ends: Array = np.linspace(0, size, self.sharing.threads + 1).astype(np.int64)
        if size <= ALONE:
            ends[1:] = size
        return ends
