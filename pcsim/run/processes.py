"""Pieces of work shared out among processes, of which this one is the first."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from pcsim.engines.threads import cores
from pcsim.errors import RunError

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from pcsim.run.loop import Progress

Piece = TypeVar("Piece")
Result = TypeVar("Result")

Work = Callable[[Piece, "Progress | None"], Result]
"""Does a piece of work, and calls back now and then while it does."""

LOOK_EVERY = 0.02
"""Seconds, at least, between two looks at what other processes have done; each has a piece more than it works on."""


def share_out(
    work: Work[Piece, Result], pieces: Sequence[Piece], processes: int, keep: Callable[[int, Result], None]
) -> None:
    """Do pieces of work in several processes; ``keep`` gets the number and the result of each as it is done.

    The first piece is done in this process, which is there already, while the others start; so is any piece that no
    other process has begun when this one is free again. ``keep`` is always called here, from the thread of the caller.

    Raises
    ------
    RunError
        If a process ends by itself.
    """
    if processes == 1:
        for number, piece in enumerate(pieces):
            keep(number, work(piece, None))
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import active_children, get_context

    before = set(active_children())
    with _fewer_threads(processes):
        pool = ProcessPoolExecutor(processes - 1, get_context("spawn"), _depend)
        try:
            _take_turns(work, pieces, pool, processes, keep)
        except BrokenProcessPool:
            message = "a worker process ended by itself, perhaps for want of memory; fewer --workers take less"
            raise RunError(message) from None
        except BaseException:  # Ctrl-C, here or where results are kept: nobody waits for the rest
            manager = getattr(pool, "_executor_manager_thread", None)
            pool.shutdown(wait=False, cancel_futures=True)  # first: else its thread takes their end for a fault
            for process in set(active_children()) - before:
                process.kill()
                process.join()
            if manager is not None:  # it may be the one that notes their end
                manager.join()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _take_turns(
    work: Work[Piece, Result],
    pieces: Sequence[Piece],
    pool: Executor,
    at_once: int,
    keep: Callable[[int, Result], None],
) -> None:
    """Hand out pieces in order, ``at_once`` of them elsewhere at any time, and do one here whenever this is free."""
    from concurrent.futures import FIRST_COMPLETED, wait

    waiting = deque(range(len(pieces)))
    elsewhere: dict[Future[Result], int] = {}
    looked = time.monotonic()

    def look() -> None:
        nonlocal looked
        looked = time.monotonic()
        for done in [future for future in elsewhere if future.done()]:
            keep(elsewhere.pop(done), done.result())
        with _interrupts_held():
            while waiting and len(elsewhere) < at_once:
                number = waiting.popleft()
                elsewhere[pool.submit(work, pieces[number], None)] = number

    def look_seldom(_ticks: int, _horizon: int) -> None:
        if time.monotonic() - looked >= LOOK_EVERY:
            look()

    while waiting or elsewhere:
        if not waiting:
            wait(elsewhere, return_when=FIRST_COMPLETED)
            look()
            continue
        number = waiting.popleft()
        look()
        result = work(pieces[number], look_seldom)
        look()  # first: what is done elsewhere is kept even if this was interrupted
        keep(number, result)


@contextmanager
def _fewer_threads(processes: int) -> Iterator[None]:
    """Leave the other cores to the other processes, which inherit this."""
    before = os.environ.get("PCSIM_THREADS")
    os.environ.setdefault("PCSIM_THREADS", str(max(1, cores() // processes)))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PCSIM_THREADS"]


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C and SIGTERM back for a moment: processes that are started meanwhile never get them.

    A terminal sends Ctrl-C to all; who starts processes ends them.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing.resource_tracker import ensure_running

    ensure_running()  # which would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _depend() -> None:
    """Leave Ctrl-C to the process that started this one, and end when it ends, however it does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_outlive_nobody, daemon=True).start()


def _outlive_nobody() -> None:
    from multiprocessing import parent_process

    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
