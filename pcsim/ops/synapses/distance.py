"""Distances between neurons on grids, and connections whose probability falls with them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import ceil, pi, prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import wrong
from pcsim.ops.attributes import SIZE, boolean, index, listed, number, positive, takes
from pcsim.ops.op import Attribute
from pcsim.ops.synapses.sampling import Wanted, chosen, joined

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from pcsim.ops.settings import Settings
    from pcsim.ops.synapses.edge_files import SynapseList

Whole = np.ndarray
"""An array of whole numbers."""

MOST_OFFSETS = 100_000
"""Up to so many offsets between equal grids, pairs are drawn offset by offset."""

PROFILES: Mapping[str, tuple[Callable[[Any], Any], float, tuple[float, float, float]]] = {
    "gaussian": (lambda d: np.exp(-0.5 * d * d), 4.0, (sqrt(2 * pi), 2 * pi, (2 * pi) ** 1.5)),
    "exponential": (lambda d: np.exp(-d), 7.0, (2.0, 2 * pi, 8 * pi)),
}
"""Profile by distance over scale, where it is cut off, and its integral over one, two and three axes."""


@takes(type="number", exclusiveMinimum=0)
def above_zero(value: Any) -> float:
    """Return a number above 0."""
    if (found := number(value)) <= 0:
        raise ValueError("expected a number above 0")
    return found


@takes(type="array", items=SIZE, minItems=1, maxItems=3)
def extents(value: Any) -> tuple[int, ...]:
    """Return the extents of a grid of neurons."""
    found = tuple(map(positive, listed(value, "expected the extents of a grid, such as [40, 25]")))
    if not 1 <= len(found) <= 3:
        raise ValueError("expected one to three extents, such as [40, 25]")
    return found


@takes(type="integer", minimum=1, maximum=3)
def axes(value: Any) -> int:
    """Return a number of axes."""
    if not 1 <= (found := index(value)) <= 3:
        raise ValueError("expected 1, 2 or 3")
    return found


GRID_KEYS = {
    "dimensions": Attribute(axes, 1, summary="axes of the grids: 1, 2 or 3"),
    "before": Attribute(extents, summary="extents of the grid of the population before"),
    "after": Attribute(extents, summary="extents of the grid of the population after"),
    "periodic": Attribute(boolean, True, summary="whether opposite edges meet: a ring, a torus"),
}
"""What places neurons: by default a line, a square or a cube of as many neurons along each axis."""


@dataclass(frozen=True)
class Grids:
    """Two populations on grids that fill the same unit line, square or cube, each neuron amid its cell.

    Attributes
    ----------
    before, after : extents of the grids; the last axis runs fastest
    periodic : whether opposite edges meet
    """

    before: tuple[int, ...]
    after: tuple[int, ...]
    periodic: bool

    def positions(self, side: str, neurons: Whole) -> tuple[NDArray[np.float64], ...]:
        """Return the coordinate of neurons ``before`` or ``after`` along each axis, as a share of the extent."""
        grid: tuple[int, ...] = getattr(self, side)
        return tuple((at + 0.5) / n for at, n in zip(np.unravel_index(neurons, grid), grid, strict=True))

    def distances(self, pre: Whole, post: Whole) -> NDArray[np.float64]:
        """Return how far apart the neurons of each pair are: (pairs,), where 1 is the extent.

        Pairs that are equally far apart along each axis get equal numbers: the steps are whole until the last division.
        """
        square = np.zeros(len(pre))
        here, there = np.unravel_index(pre, self.before), np.unravel_index(post, self.after)
        for n, m, k, j in zip(self.before, self.after, here, there, strict=True):
            apart = np.abs((2 * k.astype(np.int64) + 1) * m - (2 * j.astype(np.int64) + 1) * n)
            apart = np.minimum(apart, 2 * n * m - apart) if self.periodic else apart
            square += (apart / (2 * n * m)) ** 2
        return np.sqrt(square)


@dataclass(frozen=True)
class _Space(Grids):
    """Two populations on grids, and how likely a synapse is by distance."""

    scale: float
    cutoff: float
    chance: float
    profile: str

    @property
    def window(self) -> tuple[int, ...]:
        """Neurons before, along each axis, that a neuron after may reach."""
        return tuple(min(n, 2 * ceil(self.cutoff * self.scale * n) + 1) for n in self.before)

    def probability(self, distance: Any) -> Any:
        """Return the probability of a synapse over a distance, a share of the extent."""
        inside = distance <= self.cutoff * self.scale
        return inside * self.chance * PROFILES[self.profile][0](distance / self.scale)


def _space(given: Settings, wanted: Wanted) -> _Space:
    profile = given.get("profile", "gaussian")
    on = grids(given, wanted.before, wanted.after)
    cutoff, chance = given.get("cutoff", PROFILES[profile][1]), given.get("probability", 1.0)
    return _Space(on.before, on.after, on.periodic, given["scale"], cutoff, chance, profile)


def grids(given: Settings, neurons_before: int, neurons_after: int) -> Grids:
    """Return the grids that settings place two populations on; raises InputError where they do not fit."""
    before, after = _grid(given, "before", neurons_before), _grid(given, "after", neurons_after)
    if len(before) != len(after):
        raise wrong("before", f"the grids have {len(before)} and {len(after)} axes, expected as many")
    return Grids(before, after, given.get("periodic", True))


def _grid(given: Settings, side: str, neurons: int) -> tuple[int, ...]:
    """Return the extents of a population's grid."""
    if side in given:
        if prod(given[side]) != neurons:
            raise wrong(side, f"{list(given[side])} holds {prod(given[side])} neurons, expected {neurons}")
        found: tuple[int, ...] = given[side]
        return found
    axes: int = given.get("dimensions", 1)
    edge: int = round(neurons ** (1 / axes))
    if edge**axes != neurons:
        raise wrong("dimensions", f"{neurons} neurons fill no grid of {axes} equal axes: give its extents as '{side}'")
    return (edge,) * axes


def expected(given: Settings, wanted: Wanted) -> float:
    """Return about how many synapses there will be; raises InputError where the grids do not fit."""
    space = _space(given, wanted)
    share = PROFILES[space.profile][2][len(space.before) - 1] * space.scale ** len(space.before)
    return space.chance * wanted.pairs * min(1.0, share)


def draw(given: Settings, wanted: Wanted) -> SynapseList:
    """Return the synapses: each pair by itself, as the profile says of its distance, none beyond the cutoff."""
    space = _space(given, wanted)
    alike = space.before == space.after and prod(space.window) <= MOST_OFFSETS
    return joined(list((_by_offset if alike else _by_thinning)(space, wanted.draw)))


def _by_offset(space: _Space, rng: np.random.Generator) -> Iterator[tuple[Whole, Whole]]:
    """Yield the pairs at each offset between equal grids: these have one distance, so one probability."""
    ranges = [_offsets(n, w, space.periodic) for n, w in zip(space.before, space.window, strict=True)]
    for offset in product(*ranges):
        steps = (_apart(o / n, space) for o, n in zip(offset, space.before, strict=True))
        chance = space.probability(sqrt(sum(step * step for step in steps)))
        for post in chosen(rng, prod(space.after), chance):
            pre, inside = np.zeros_like(post), np.ones(len(post), bool)
            for n, o, at in zip(space.before, offset, np.unravel_index(post, space.after), strict=True):
                there = at + o
                inside &= space.periodic | ((there >= 0) & (there < n))
                pre = pre * n + there % n
            yield pre[inside].astype(np.int32), post[inside].astype(np.int32)


def _offsets(extent: int, window: int, periodic: bool) -> range:
    """Return the offsets along an axis, each neuron once where the axis is a ring."""
    if window < extent:
        return range(-(window // 2), window // 2 + 1)
    return range(extent) if periodic else range(1 - extent, extent)


def _apart(distance: Any, space: _Space) -> Any:
    """Return a distance along one axis, on a ring the shorter way round."""
    apart = np.abs(distance)
    return np.minimum(apart, np.abs(1 - apart)) if space.periodic else apart


def _by_thinning(space: _Space, rng: np.random.Generator) -> Iterator[tuple[Whole, Whole]]:
    """Yield pairs chosen within reach with the highest probability, less those that the profile leaves out."""
    for places in chosen(rng, prod(space.after) * prod(space.window), space.chance):
        pre, post, distance = _neighbours(space, places)
        keep = (rng.random(len(distance)) * space.chance < space.probability(distance)) & (pre >= 0)
        yield pre[keep].astype(np.int32), post[keep].astype(np.int32)


def _neighbours(space: _Space, places: Whole) -> tuple[Whole, Whole, NDArray[np.float64]]:
    """Return neuron before (-1: outside), neuron after and their distance, for places in the windows of all."""
    post, inside = np.divmod(places, prod(space.window))
    offsets, here = np.unravel_index(inside, space.window), np.unravel_index(post, space.after)
    pre, square, outside = np.zeros_like(post), np.zeros(len(post)), np.zeros(len(post), bool)
    for n, w, m, offset, at in zip(space.before, space.window, space.after, offsets, here, strict=True):
        middle = (2 * at + 1) * n // (2 * m)
        there = offset + (middle - w // 2 if w < n else 0)
        apart = _apart((there + 0.5) / n - (at + 0.5) / m, space)
        outside |= ((there < 0) | (there >= n)) & (not space.periodic)
        pre = pre * n + there % n
        square += apart * apart
    pre[outside] = -1
    return pre, post, np.sqrt(square)
