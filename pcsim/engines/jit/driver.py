"""Plays lists of kernels, tick after tick, on one thread of a crew."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pcsim.engines.jit.compiled import jit
from pcsim.engines.jit.native import invoke, pointer, wait_for_all

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY, AT, RANGES = range(3)
"""Of an instruction: where its kernel begins (0: all threads wait for each other); its operands; then for each thread the range of rows
that it plays, low and high."""


@jit
def play(
    memory: Any, table: Any, script: Any, thread: int, threads: int, part: int, mode: int, first: int, end: int
) -> None:
    """Play a script (instructions, 2 + 2 threads) at each tick from ``first`` to ``end - 1``; ``memory`` lends its format only."""
    base, ints = pointer(0, memory), pointer(table.ctypes.data, table)
    for tick in range(first, end):
        for number in range(len(script)):
            entry = script[number, ENTRY]
            low, high = script[number, RANGES + 2 * thread], script[number, RANGES + 2 * thread + 1]
            if entry == 0:
                wait_for_all(ints, 0, threads)
            elif low < high:
                invoke(entry, base, ints, script[number, AT], low, high, part, mode, tick)


class Crew:
    """Threads that play together; a crew of one is the caller alone. Threads begin when they are first needed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.helpers: ThreadPoolExecutor | None = None

    def __call__(self, work: Callable[[int], None]) -> None:
        """Call ``work`` with the number of each thread, all at once."""
        if self.threads == 1:
            work(0)
            return
        if self.helpers is None:
            self.helpers = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="pcsim")
        others = [self.helpers.submit(work, number) for number in range(1, self.threads)]
        work(0)
        for other in others:
            other.result()
