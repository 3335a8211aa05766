"""The threads that run kernels: which of them share a job, and when those that sleep are woken for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from time import perf_counter_ns

import numpy as np

from pcsim.engines.jit.kernels.jobs import HELPER, HELPERS, JOB, alone, attend, post, share

WORTH_SHARING, WORTH_WAKING = 60_000, 500_000
"""Nanoseconds of work from which on helpers are asked to share a job, and are woken for it."""

DUTY = 0.3
"""Share of the time that jobs take, from which on helpers are woken for small ones too."""


class ThreadPool:
    """Threads that run jobs together: helpers begin when first needed, and look out for more after each job."""

    def __init__(self, threads: int, memory: np.ndarray, table: np.ndarray) -> None:
        self.threads, self.memory, self.table = threads, memory, table
        self.job = np.zeros(JOB.size + HELPER.size * threads, np.int64)
        """The job, and what each thread has of its own."""
        JOB.view(self.job, 0)["threads"] = threads
        self.asleep = HELPER.view(self.job, HELPERS, threads)["asleep"]
        self.asleep[:] = 1
        self.helpers: ThreadPoolExecutor | None = None
        self.alone = self.since = 0
        """Work that the caller has done while helpers slept, and since when."""

    def run(
        self, instructions: np.ndarray, parts: np.ndarray, mode: int, first: int, end: int, *, work: int, in_step: bool
    ) -> None:
        """Run instructions (instructions, numbers) at ticks ``first`` to ``end - 1``, each thread its share.

        Parameters
        ----------
        parts : where the part of each thread lies in the table
        work : about how many nanoseconds it takes on one thread: little is done by the caller alone
        in_step : threads wait for each other where the instructions say so, so that all must take part
        """
        job = self.job, instructions, parts, mode, first, end, in_step
        if self.threads == 1 or not (in_step or self._worth_sharing(work)):
            alone(self.memory, self.table, *job)
            return
        if post(*job):
            self._start_helpers()
        share(self.memory, self.table, self.job)

    def _worth_sharing(self, work: int) -> bool:
        """Return whether a job should be shared; sleepers are spared few small ones: others may need their core."""
        if work < WORTH_SHARING or not self.asleep[1]:
            return work >= WORTH_SHARING
        self.alone += work
        if self.alone < WORTH_WAKING:
            return False
        now = perf_counter_ns()
        busy = work >= WORTH_WAKING or self.alone > DUTY * (now - self.since)
        self.alone, self.since = 0, now
        return busy

    def _start_helpers(self) -> None:
        for thread in range(1, self.threads):
            if self.asleep[thread]:
                self.asleep[thread] = 0
                self._pool().submit(attend, self.memory, self.table, self.job, thread)

    def _pool(self) -> ThreadPoolExecutor:
        if self.helpers is None:
            self.helpers = ThreadPoolExecutor(self.threads - 1, thread_name_prefix="pcsim")
        return self.helpers
