"""The order of things: natural names, topological depth, cycles."""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@lru_cache(maxsize=1 << 18)
def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a sort key in which h2 comes before h10.

    >>> sorted(["h10", "h2", "a"], key=natural)
    ['a', 'h2', 'h10']
    """
    parts = (part for part in re.split(r"(\d+)", name) if part)
    return tuple((part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts)


def topological_depths(names: Iterable[str], edges: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the longest distance of each name from a name without incoming edges.

    Names on a cycle, and names behind one, are left out.
    """
    waiting = dict.fromkeys(names, 0)
    follow: dict[str, list[str]] = {name: [] for name in waiting}
    for pre, post in edges:
        follow[pre].append(post)
        waiting[post] += 1
    depths = {name: 0 for name, count in waiting.items() if count == 0}
    ready = deque(depths)
    reached = dict.fromkeys(waiting, 0)
    while ready:
        name = ready.popleft()
        for post in follow[name]:
            reached[post] = max(reached[post], depths[name] + 1)
            waiting[post] -= 1
            if waiting[post] == 0:
                depths[post] = reached[post]
                ready.append(post)
    return depths


def find_cycle(inputs: dict[str, Sequence[str]], depths: dict[str, int]) -> list[str]:
    """Return the names along one cycle, each feeding the next, given names not in ``depths`` exist."""
    name = next(name for name in inputs if name not in depths)
    seen: list[str] = []
    while name not in seen:
        seen.append(name)
        name = next(pre for pre in inputs[name] if pre in inputs and pre not in depths)
    return [name, *reversed(seen[seen.index(name) :])]
