"""Ctrl-C as a question that is asked where it suits: between ticks, or after what cannot take it; SIGTERM likewise."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a question; the second one is itself again."""
    asked = threading.Event()
    if _Asked.pending:
        asked.set()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(_number: int, _frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Hold the first Ctrl-C back until the end: code that foreign code calls back loses what is raised in it."""
    with interrupts() as asked:
        yield
    if asked():
        signal.raise_signal(signal.SIGINT)


class _Asked:
    """What has asked this command to end."""

    signal = signal.SIGINT
    pending = False


def take_signals() -> None:
    """Let Ctrl-C raise KeyboardInterrupt, and SIGTERM do what Ctrl-C does, in the whole process.

    What is raised while modules are imported can be lost in them, with a traceback that nobody asked for: none is
    printed, and a run that begins nevertheless ends at once.
    """
    unraisable = sys.unraisablehook

    def interrupt(_number: int, _frame: Any) -> None:
        _Asked.pending = True
        raise KeyboardInterrupt

    def terminate(_number: int, _frame: Any) -> None:
        _Asked.signal = signal.SIGTERM
        signal.raise_signal(signal.SIGINT)

    def lose(lost: Any) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            unraisable(lost)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    sys.unraisablehook = lose


def exit_code() -> int:
    """Return what a command that was interrupted exits with: 130 after Ctrl-C, 143 after SIGTERM, as shells count."""
    return 128 + _Asked.signal
