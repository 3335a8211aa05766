"""Plays lists of kernels, tick after tick, on one thread of a crew or on all."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.engines.jit.compiled import jit
from pcsim.engines.jit.native import count_up, give_way, invoke, look, pointer, swap, wait_for_all

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRY, AT, RANGES = range(3)
"""Of an instruction: where its kernel begins (0: all threads wait for each other); its operands; then for each thread
the range of rows that it plays, low and high."""

POSTED, DONE, SCRIPT, LINES, THREADS, TOGETHER, MODE, FIRST, END, HELPERS = range(10)
"""On the desk of a crew: jobs posted; jobs done, by all helpers together; the job: where its script lies, instructions,
threads, whether they wait for each other, mode, first tick, last tick + 1; then what each helper has."""

SEEN, ASLEEP, PART = range(3)
"""Of a helper: jobs that it has seen, whether it sleeps, its part. The caller has the same, first of all."""

WORTH_SHARING, WORTH_WAKING = 60_000, 500_000
"""Nanoseconds of work from which on helpers are asked to share a job, and are woken for it."""

DUTY = 0.3
"""Share of the time that jobs take, from which on helpers are woken for small ones too."""

PATIENCE = 20_000
"""Looks at the desk, about a millisecond, after which a helper goes to sleep."""


@jit
def play(memory: Any, table: Any, desk: Any, thread: int) -> None:
    """Play a thread's share of the job on the desk; ``memory`` lends its format only."""
    base, ints, script = pointer(0, memory), pointer(table.ctypes.data, table), pointer(desk[SCRIPT], table)
    width, mode, part = RANGES + 2 * desk[THREADS], desk[MODE], desk[HELPERS + 3 * thread + PART]
    for tick in range(desk[FIRST], desk[END]):
        for number in range(desk[LINES]):
            line = number * width
            low, high = script[line + RANGES + 2 * thread], script[line + RANGES + 2 * thread + 1]
            if script[line + ENTRY] == 0:
                if desk[TOGETHER]:
                    wait_for_all(ints, 0, desk[THREADS])
            elif low < high:
                invoke(script[line + ENTRY], base, ints, script[line + AT], low, high, part, mode, tick)


@jit
def attend(memory: Any, table: Any, desk: Any, thread: int) -> None:
    """Play a helper's share of each job that is posted, until none has been for a while."""
    ints, mine = pointer(desk.ctypes.data, desk), HELPERS + 3 * thread
    looks = 0
    while True:
        if looks > PATIENCE:
            swap(ints, mine + ASLEEP, 1)  # a job posted from here on wakes this helper; one posted before is seen now
        if look(ints, POSTED) != desk[mine + SEEN]:
            swap(ints, mine + ASLEEP, 0)
            desk[mine + SEEN] += 1
            play(memory, table, desk, thread)
            count_up(ints, DONE)
            looks = 0
        elif looks > PATIENCE:
            return
        looks += 1
        if looks % 32 == 0:
            give_way()


@jit
def put_down(desk: Any, script: Any, parts: Any, mode: int, first: int, end: int, together: bool) -> None:
    """Put a job on the desk."""
    desk[SCRIPT], desk[LINES], desk[TOGETHER] = script.ctypes.data, len(script), together
    desk[MODE], desk[FIRST], desk[END] = mode, first, end
    for thread in range(desk[THREADS]):
        desk[HELPERS + 3 * thread + PART] = parts[thread]


@jit
def post(desk: Any, script: Any, parts: Any, mode: int, first: int, end: int, together: bool) -> bool:
    """Let the helpers begin a job; return whether one of them sleeps."""
    put_down(desk, script, parts, mode, first, end, together)
    ints = pointer(desk.ctypes.data, desk)
    count_up(ints, POSTED)
    asleep = 0
    for thread in range(1, desk[THREADS]):
        asleep += look(ints, HELPERS + 3 * thread + ASLEEP)
    return asleep > 0


@jit
def share(memory: Any, table: Any, desk: Any) -> None:
    """Play the caller's share of the job, and wait for the helpers."""
    play(memory, table, desk, 0)
    ints = pointer(desk.ctypes.data, desk)
    looks = 0
    while look(ints, DONE) < desk[POSTED] * (desk[THREADS] - 1):
        looks += 1
        if looks % 32 == 0:
            give_way()


@jit
def alone(
    memory: Any, table: Any, desk: Any, script: Any, parts: Any, mode: int, first: int, end: int, together: bool
) -> None:
    """Play the shares of all threads, one after the other."""
    put_down(desk, script, parts, mode, first, end, together)
    for thread in range(desk[THREADS]):
        play(memory, table, desk, thread)


class Crew:
    """Threads that play together: helpers begin when first needed, and look out for more after each job."""

    def __init__(self, threads: int, memory: np.ndarray, table: np.ndarray) -> None:
        self.threads, self.memory, self.table = threads, memory, table
        self.desk = np.zeros(HELPERS + 3 * threads, np.int64)
        self.desk[THREADS] = threads
        self.desk[HELPERS + ASLEEP :: 3] = 1
        self.helpers: ThreadPoolExecutor | None = None
        self.alone = self.since = 0
        """Work that the caller has done while helpers slept, and since when."""

    def play(
        self, script: np.ndarray, parts: np.ndarray, mode: int, first: int, end: int, *, work: int, together: bool
    ) -> None:
        """Play a script (instructions, RANGES + 2 threads) at ticks ``first`` to ``end - 1``, each thread its part.

        Parameters
        ----------
        parts : where the part of each thread lies in the table
        work : about how many nanoseconds it takes on one thread: little is played by the caller alone
        together : threads wait for each other where the script says so, so that all must play
        """
        job = self.desk, script, parts, mode, first, end, together
        if self.threads == 1 or not (together or self._worth_sharing(work)):
            alone(self.memory, self.table, *job)
            return
        if post(*job):
            self._wake()
        share(self.memory, self.table, self.desk)

    def __call__(self, work: Callable[[int], None]) -> None:
        """Call ``work`` with the number of each thread, all at once."""
        others = [self._pool().submit(work, thread) for thread in range(1, self.threads)]
        work(0)
        for other in others:
            other.result()

    def _worth_sharing(self, work: int) -> bool:
        """Return whether a job should be shared; sleepers are spared few small ones: others may need their core."""
        if work < WORTH_SHARING or not self.desk[HELPERS + 3 + ASLEEP]:
            return work >= WORTH_SHARING
        self.alone += work
        if self.alone < WORTH_WAKING:
            return False
        now = perf_counter_ns()
        busy = work >= WORTH_WAKING or self.alone > DUTY * (now - self.since)
        self.alone, self.since = 0, now
        return busy

    def _wake(self) -> None:
        for thread in range(1, self.threads):
            asleep = HELPERS + 3 * thread + ASLEEP
            if self.desk[asleep]:
                self.desk[asleep] = 0
                self._pool().submit(attend, self.memory, self.table, self.desk, thread)

    def _pool(self) -> ThreadPoolExecutor:
        if self.helpers is None:
            self.helpers = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="pcsim")
        return self.helpers
