"""What this machine has left, what of its files can be read, and how what is missing is installed."""

from __future__ import annotations

import os
import stat
from importlib import import_module
from pathlib import Path
from typing import Any

from pcsim.errors import wrong

ALWAYS_THERE = 1 << 28
"""Bytes that are taken without asking whether they are left."""


def mebibytes(count: float) -> str:
    """Return bytes as messages have them.

    >>> mebibytes(3 * 2**29)
    '1,536.0 MiB'
    """
    return f"{count / 2**20:,.1f} MiB"


def available() -> int | None:
    """Return the bytes that this process can still have: of the machine, its container and its own limit.

    None where nothing says.
    """
    known = [free for free in (_of_machine(), _of_container(), _of_process()) if free is not None]
    return max(0, min(known)) if known else None


def _of_machine() -> int | None:
    free = [kilos for name, kilos in _table(Path("/proc/meminfo")).items() if name in ("MemAvailable:", "SwapFree:")]
    return 1024 * sum(free) if free else None


def _of_container() -> int | None:
    """Return what a control group of its own leaves; files that are only cached are no loss."""
    group = Path("/sys/fs/cgroup")
    most, held = (_fields(group / name) for name in ("memory.max", "memory.current"))
    if not (most and held and most[0].isdecimal()):
        return None
    return int(most[0]) - int(held[0]) + _table(group / "memory.stat").get("inactive_file", 0)


def _of_process() -> int | None:
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit
    except ImportError:  # no such limits on this system
        return None
    most, pages = getrlimit(RLIMIT_AS)[0], _fields(Path("/proc/self/statm"))
    return None if most == RLIM_INFINITY or not pages else most - int(pages[0]) * os.sysconf("SC_PAGE_SIZE")


def _fields(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except OSError:
        return []


def _table(path: Path) -> dict[str, int]:
    """Return a table of the system: a name and a number a line."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def install(extra: str) -> str:
    """Return the command that brings what an extra of pcsim needs: from the checkout that it runs from, else by name.

    >>> install("numba").startswith("pip install ")
    True
    """
    root = Path(__file__).parents[1]
    if (root / "pyproject.toml").is_file():
        return f"pip install '{'.' if root == Path.cwd() else root}[{extra}]'"
    needed = [row.split(";")[0].strip() for row in _requirements() if f'extra == "{extra}"' in row.replace("'", '"')]
    return "pip install " + " ".join(f"'{row}'" for row in needed)


def library(module: str, what: str, name: str, extra: str) -> Any:
    """Return an optional module; raises InputError that says what needs it, and how it is installed."""
    try:
        return import_module(module)
    except ImportError:
        raise wrong("file", f"{what} need {name}: {install(extra)}") from None


def _requirements() -> list[str]:
    from importlib.metadata import PackageNotFoundError, requires

    try:
        return requires("pcsim") or []
    except PackageNotFoundError:
        return []


def check_file(path: Path) -> None:
    """Raise InputError where a path is no plain file: a pipe would wait for ever, a device never ends."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise wrong("file", f"cannot read {path}: no such file") from None
    except (OSError, ValueError) as error:  # a NUL in the name
        raise wrong("file", f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise wrong("file", f"cannot read {path}: it is {what}, not a file")


def check_room(path: Path, size: int) -> None:
    """Raise InputError where so many bytes of a file are more than this machine has memory left for."""
    free = available()
    if free is not None and size > free:
        there = f"this machine has {mebibytes(free)} of memory left"
        raise wrong("file", f"{path} holds {mebibytes(size)}, and {there}")
