"""When a run may be called converged, where messages are still on their way.

What an edge carries was sent up to a round trip ago: the value delays of a path, the error delays on the way back, and
the tick in which the value moves. A vertex that has stood still for a shorter time may only be waiting, and one that
turns back every few round trips oscillates. So with delays, windows of several round trips are looked at, and not
ticks: their means must come to rest, and what is left around the means must be small and must not grow. Without delays
a window is one tick, and all of this is the step of that tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pcsim.engines.squares import squares_of
from pcsim.graph.crossings import latest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from pcsim.graph.graph import Edge, Graph

Array = np.ndarray

TRIPS = 4
"""Round trips in a window: a delayed feedback that turns its own effect around oscillates with two to four of them."""

AHEAD = 20
"""Windows for which what is left around the means goes on growing, where it has grown from one to the next."""

HIDDEN = 2
"""So many times as far as its last steps show a mean may have to go: slower modes show late beside faster ones."""

SHRINKS = 0.999
"""A change that is no less than this part of the greatest in the window before may be part of an oscillation."""


def window_of(graph: Graph, *, moving: bool) -> int:
    """Return the ticks of a window."""
    trip = round_trip(graph, moving=moving)
    return 1 if trip == 1 else TRIPS * trip


def round_trip(graph: Graph, *, moving: bool) -> int:
    """Return the longest round trip, in ticks: 1 without delays.

    A value moves, travels down a path, and the errors that it makes come back up: the delays of both add up along
    the path. Values do not travel where predictions are fixed (``moving`` False).
    """
    return 1 + _greatest(
        graph, lambda edge: latest(graph, edge, "error") + (latest(graph, edge, "value") if moving else 0)
    )


def _greatest(graph: Graph, delay: Callable[[Edge], int]) -> int:
    """Return the greatest sum of delays along a path that begins at a free vertex.

    A path through vertices on cycles together passes each of them once: it takes at most the longest edge into each.
    """
    travel: dict[str, int] = {}
    for group in _together(graph):
        into, round_ = 0, 0
        for name in group:
            edges = [edge for edge in graph.incoming[name] if graph.role(edge.pre) == "free"]
            into = max([into, *(travel[edge.pre] + delay(edge) for edge in edges if edge.pre in travel)])
            round_ += max((delay(edge) for edge in edges if edge.pre in group), default=0)
        travel.update(dict.fromkeys(group, into + round_))
    return max(travel.values(), default=0)


def _together(graph: Graph) -> list[Collection[str]]:
    """Return the active vertices, in order; those that lie on cycles of one depth together."""
    groups: dict[object, list[str]] = {}
    for name in graph.active:
        groups.setdefault(graph.depths[name] if name in graph.cyclic else name, []).append(name)
    return list(groups.values())


def value_travel(graph: Graph, *, moving: bool) -> int:
    """Return the greatest sum of value delays along a path: where errors stay the same, values do so after it."""
    return _greatest(graph, lambda edge: latest(graph, edge, "value")) if moving else 0


def memory(graph: Graph, *, moving: bool) -> int:
    """Return for how many ticks errors that stay exactly the same may yet change: until nothing older has an effect.

    Values stay the same after ``value_travel``. A step then depends on errors of an error delay ago, and these on
    values of a value delay before that, of any edge.
    """
    edges = [edge for edge in graph.edges if graph.role(edge.pre) == "free"]
    values = max((latest(graph, edge, "value") for edge in edges), default=0) if moving else 0
    errors = max((latest(graph, edge, "error") for edge in edges), default=0)
    return 1 + value_travel(graph, moving=moving) + values + errors


@dataclass(frozen=True)
class TwoWindows:
    """How far vertices are from rest, as two windows show it; all are norms, (vertices,).

    Attributes
    ----------
    drift, drift_before : how far the mean has moved from the window before, and in the window before
    spread, spread_before : the greatest distance, within the window, from the mean of the window before
    size : the norm of the mean
    window : ticks of a window
    pairs : the greater of the last two drifts, beside the greater of the two before these; 1 where that is not known
    """

    drift: Array
    drift_before: Array
    spread: Array
    spread_before: Array
    size: Array
    window: int
    pairs: Array | float = 1.0

    def left(self, noise: Array | float = 0.0) -> Array:
        """Return the estimated distance of what comes from its limit, relative to its size.

        Without delays, what comes after this tick; else all from the beginning of the window on. A mean whose steps
        shrink by r a window has ``step r / (1 - r)`` to go; r is the ratio of its last two steps, and at most 0.9999.
        With delays ``HIDDEN`` times as much is taken, and the ratio of pairs of steps where the last step is the
        greater one, as it is at times where a mean swings.
        What lies around the mean stays, or grows for ``AHEAD`` windows as it did from the window before. What moves
        within ``noise``, what rounding alone moves, has arrived as far as the number format can resolve.
        """
        with np.errstate(all="ignore"):
            ratio = self.drift / self.drift_before
            if self.window > 1:
                ratio = np.where(ratio < 1, ratio, np.sqrt(self.pairs))
            ratio = np.where(self.drift == 0, 0.0, np.minimum(ratio, 0.9999))
            far = self.drift / self.size * ratio / (1 - ratio)
            if self.window > 1:
                growth = np.maximum(self.growth(), 1.0) ** AHEAD
                far = HIDDEN * far + (self.spread + self.drift) / self.size * growth
            return np.where(self.spread <= noise, 0.0, np.where(np.isnan(far), np.inf, far))

    def growth(self) -> Array:
        """Return what is left around each mean, beside the window before."""
        with np.errstate(all="ignore"):
            return np.asarray(self.spread / self.spread_before)


class Windows:
    """Follows arrays tick by tick, several of them at once, in windows; they are (vertices, numbers) each."""

    def __init__(self, window: int, like: Sequence[Array]) -> None:
        self.window, self.ticks = window, 0
        self.means = [np.zeros_like(array) for array in like]
        self.totals = [np.zeros_like(array) for array in like] if window > 1 else []
        self.work = [np.empty_like(array) for array in like]
        self.spread, self.spread_before, self.drift, self.drift_before = np.zeros((4, sum(map(len, like))))
        self.drifts = np.zeros((4, len(self.drift))) if window > 1 else np.zeros((0, 0))

    def take(self, arrays: Sequence[Array], norms: Array) -> TwoWindows | None:
        """Take the arrays of a tick and their norms, and return what the window shows that ends with it.

        None within a window, and before there are three, as the first begins from nothing.
        """
        self.ticks += 1
        apart = self._apart(arrays)
        if self.window == 1:
            for mean, array in zip(self.means, arrays, strict=True):
                mean[...] = array
            self.drift, self.drift_before = apart, self.drift
            self.spread, self.spread_before = self.drift, self.drift_before
            return self._two(norms)
        self.spread = np.maximum(self.spread, apart)
        for total, array in zip(self.totals, arrays, strict=True):
            total += array
        return self._close() if self.ticks % self.window == 0 else None

    def _two(self, size: Array) -> TwoWindows | None:
        if self.ticks < 3 * self.window:
            return None
        return TwoWindows(
            self.drift, self.drift_before, self.spread, self.spread_before, size, self.window, self._pairs
        )

    @property
    def _pairs(self) -> Array | float:
        if self.window == 1 or self.ticks < 5 * self.window:  # the first drift is that from nothing
            return 1.0
        with np.errstate(all="ignore"):
            return np.asarray(self.drifts[:2].max(axis=0) / self.drifts[2:].max(axis=0))

    def _close(self) -> TwoWindows | None:
        """End a window."""
        for total in self.totals:
            total /= self.window
        self.drift, self.drift_before = self._apart(self.totals), self.drift
        self.drifts = np.concatenate([self.drift[None], self.drifts[:-1]])
        found = self._two(_norms(self.totals))
        self.spread_before, self.spread = self.spread, np.zeros_like(self.spread)
        for mean, total in zip(self.means, self.totals, strict=True):
            mean[...], total[...] = total, 0
        return found

    def _apart(self, arrays: Sequence[Array]) -> Array:
        """Return how far each vertex is from the mean of the window before."""
        triples = zip(arrays, self.means, self.work, strict=True)
        return _norms([np.subtract(array, mean, out=work) for array, mean, work in triples])

    def snapshot(self) -> dict[str, Array]:
        """Return all that is kept, by name; copies."""
        found = {f"means/{number}": mean.copy() for number, mean in enumerate(self.means)}
        found |= {f"totals/{number}": total.copy() for number, total in enumerate(self.totals)}
        return found | {name: getattr(self, name).copy() for name in KEPT} | {"ticks": np.array(self.ticks)}

    def load(self, found: Mapping[str, Array]) -> None:
        """Go on from a snapshot."""
        for arrays, kind in ((self.means, "means"), (self.totals, "totals")):
            for number, array in enumerate(arrays):
                array[...] = found[f"{kind}/{number}"]
        for name in KEPT:
            setattr(self, name, np.array(found[name]))
        self.ticks = int(found["ticks"])


def _norms(arrays: Sequence[Array]) -> Array:
    return np.concatenate([np.sqrt(squares_of(np, array)) for array in arrays])


KEPT = ("spread", "spread_before", "drift", "drift_before", "drifts")
"""What ``Windows`` keeps beside means and totals."""


class Held:
    """A criterion that must hold throughout a window, and shrink where a window is long.

    It must be less than in the window before, and less in the second half than in the first: after a first transient,
    what grows is still less than that was.
    """

    def __init__(self, window: int, runs: int) -> None:
        self.values = np.full((2 * window, runs), np.inf)
        self.taken = 0

    def take(self, now: Array) -> tuple[Array, Array]:
        """Take the criterion at a tick; return the greatest in the window, and whether it shrinks; (runs,) each."""
        ticks, window = len(self.values), len(self.values) // 2
        if window == 1:
            return now, np.ones(len(now), bool)
        self.values[self.taken % ticks] = now
        self.taken += 1
        order, half = np.arange(self.taken, self.taken + ticks) % ticks, window + window // 2
        parts = (order[:window], order[window:half], order[half:])
        before, first, second = (self.values[part].max(0) for part in parts)
        most = np.maximum(first, second)
        return most, (most < SHRINKS * before) & (second < SHRINKS * first)


class Unchanged:
    """Notes since which tick all the errors of each of some runs have been exactly the same.

    Attributes
    ----------
    since : (runs,), the tick
    """

    def __init__(self, like: Sequence[Array], runs: int) -> None:
        self.since = np.zeros(runs, int)
        self.before = [np.zeros_like(array) for array in like]

    def take(self, tick: int, arrays: Sequence[Array], rows: Array) -> None:
        """Take the errors of a tick, (vertices, numbers) each; ``rows`` (runs, vertices) are those of each run."""
        changed = np.concatenate([_differ(now, before) for now, before in zip(arrays, self.before, strict=True)])
        self.since[changed[rows].any(axis=1)] = tick

    def snapshot(self) -> dict[str, Array]:
        """Return all that is kept, by name; copies."""
        return {str(number): array.copy() for number, array in enumerate(self.before)} | {"since": self.since.copy()}

    def load(self, found: Mapping[str, Array]) -> None:
        """Go on from a snapshot."""
        self.since = np.array(found["since"])
        for number, array in enumerate(self.before):
            array[...] = found[str(number)]


def _differ(now: Array, before: Array) -> Array:
    """Return which rows are not the same as before, and remember them for the next time."""
    differ = (now != before).any(axis=1)
    before[...] = now
    return np.asarray(differ)
