"""The order of things: natural names, topological depth, cycles."""

from __future__ import annotations

import re
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_DIGITS = re.compile(r"(\d+)")


@lru_cache(maxsize=1 << 18)
def natural(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a sort key in which h2 comes before h10.

    >>> sorted(["h10", "h2", "a"], key=natural)
    ['a', 'h2', 'h10']
    """
    parts = _DIGITS.split(name)  # text and digits by turns
    return tuple([(place % 2 == 1, int(part) if place % 2 else 0, part) for place, part in enumerate(parts) if part])


def topological_depths(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the longest distance of each name from a name without inputs, given the inputs of each name.

    Names on a cycle, and names behind one, are left out.
    """
    depths: dict[str, int] = {}
    try:  # documents mostly name what they have named before, and one pass does
        for name, pres in inputs.items():
            depths[name] = 1 + max([depths[pre] for pre in pres]) if pres else 0
    except KeyError:
        return _depths_in_any_order(inputs)
    return depths


def _depths_in_any_order(inputs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    waiting = {name: len(pres) for name, pres in inputs.items()}
    follow: dict[str, list[str]] = {name: [] for name in inputs}
    for name, pres in inputs.items():
        for pre in pres:
            follow[pre].append(name)
    ready = deque(name for name, count in waiting.items() if count == 0)
    reached = dict.fromkeys(inputs, 0)
    depths: dict[str, int] = {}
    while ready:
        name = ready.popleft()
        depths[name] = depth = reached[name]
        for post in follow[name]:
            reached[post] = max(reached[post], depth + 1)
            waiting[post] -= 1
            if waiting[post] == 0:
                ready.append(post)
    return depths


def depths_and_cycles(inputs: Mapping[str, Sequence[str]]) -> tuple[dict[str, int], frozenset[str]]:
    """Return the depth of each name, and the names that lie on a cycle: they reach themselves.

    Names that reach each other are as deep as each other. Where there is no cycle depths are ``topological_depths``;
    else the longest distance, in edges, where names that reach each other count as one.
    """
    depths = topological_depths(inputs)
    if len(depths) == len(inputs):
        return depths, frozenset()
    together = components(inputs)
    place = {name: str(number) for number, names in enumerate(together) for name in names}
    apart: dict[str, list[str]] = {number: [] for number in place.values()}
    for name, pres in inputs.items():
        apart[place[name]] += [place[pre] for pre in pres if place[pre] != place[name]]
    found = topological_depths(apart)
    cyclic = (name for names in together for name in names if len(names) > 1 or name in inputs[name])
    return {name: found[place[name]] for name in inputs}, frozenset(cyclic)


def components(inputs: Mapping[str, Sequence[str]]) -> list[set[str]]:
    """Return the strongly connected components: names that reach each other, most of them one name alone."""
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph([(pre, name) for name, pres in inputs.items() for pre in pres])
    graph.add_nodes_from(inputs)
    return list(nx.strongly_connected_components(graph))


def find_cycle(inputs: Mapping[str, Sequence[str]], depths: Mapping[str, int]) -> list[str]:
    """Return the names along one cycle, each feeding the next, given names not in ``depths`` exist."""
    name = next(name for name in inputs if name not in depths)
    seen: dict[str, int] = {}
    while name not in seen:
        seen[name] = len(seen)
        name = next(pre for pre in inputs[name] if pre in inputs and pre not in depths)
    return [name, *reversed(list(seen)[seen[name] :])]
