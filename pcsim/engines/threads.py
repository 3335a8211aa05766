"""How many threads an engine may use."""

from __future__ import annotations

import os

from pcsim.errors import wrong

CROWD = 16
"""Threads for each core that are refused: they would only wait for each other."""


def cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def threads_said() -> int | None:
    """Return how many threads PCSIM_THREADS asks for, None where it does not; raises InputError for nonsense."""
    said = os.environ.get("PCSIM_THREADS", "")
    if not said:
        return None
    if not said.isascii() or not said.isdigit() or int(said) < 1:
        raise wrong("PCSIM_THREADS", f"expected a whole number of at least 1, got {said!r}")
    if int(said) >= CROWD * cores():
        raise wrong("PCSIM_THREADS", f"is {said}, far more than the {cores()} cores of this process")
    return int(said)


def threads_wanted() -> int:
    """Return how many threads to use: PCSIM_THREADS, or the cores of this process; raises InputError for nonsense."""
    return threads_said() or cores()
