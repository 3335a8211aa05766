"""Delays of synapses: one for all, drawn for each, or by distance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import InputError, wrong
from pcsim.ops.attributes import MOST_TICKS, Check, listed, number, takes, whole
from pcsim.ops.op import Attribute
from pcsim.ops.settings import Settings, keys_schema, settings
from pcsim.ops.synapses.distance import GRID_KEYS, above_zero

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pcsim.ops.synapses.distance import Grids
    from pcsim.ops.synapses.edge_files import SynapseList


_TICKS = {"type": "integer", "minimum": 0, "maximum": MOST_TICKS}


@takes(**_TICKS)
def ticks(value: Any) -> int:
    """Return a delay in ticks."""
    found = whole(value)
    if not 0 <= found <= MOST_TICKS:
        raise ValueError("expected a whole number of ticks, 0 or more")
    return found


@takes(type="array", prefixItems=[_TICKS, _TICKS], minItems=2, maxItems=2)
def _interval(value: Any) -> tuple[int, int]:
    low, high = _pair(value, "expected [shortest, longest], whole numbers of ticks")
    if ticks(low) > ticks(high):
        raise ValueError("expected [shortest, longest], the second no less than the first")
    return ticks(low), ticks(high)


@takes(type="array", prefixItems=2 * [{"type": "number", "minimum": 0}], minItems=2, maxItems=2)
def _normal(value: Any) -> tuple[float, float]:
    mean, spread = map(number, _pair(value, "expected [mean, standard deviation], in ticks"))
    if mean < 0 or spread < 0:
        raise ValueError("expected [mean, standard deviation], both 0 or more")
    return mean, spread


def _pair(value: Any, message: str) -> tuple[Any, ...]:
    if len(found := listed(value, message)) != 2:
        raise ValueError(message)
    return found


@takes(type="array", items=_TICKS, minItems=1)
def _several(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError("expected a list of delays")
    return tuple(map(ticks, value))


DISTANCE = {
    "speed": Attribute(above_zero, required=True, summary="extents of the grids that a message travels in a tick"),
    "least": Attribute(ticks, 0, summary="ticks at distance 0"),
    **GRID_KEYS,
}
"""The keys of delays by distance."""


def _by_distance(value: Any) -> Settings:
    if not isinstance(value, Mapping):
        raise ValueError("expected a speed in extents per tick, such as {speed: 0.1, least: 1}")
    try:
        return settings("delays by distance", value, DISTANCE)
    except InputError as error:
        raise error.map(lambda problem: problem.under("distance")) from None


DELAYS: dict[str, Attribute] = {
    "uniform": Attribute(_interval, summary="[shortest, longest], every whole number between them equally likely"),
    "normal": Attribute(_normal, summary="[mean, standard deviation], rounded to whole ticks, 0 or more"),
    "values": Attribute(_several, summary="delays, each equally likely"),
    "distance": Attribute(
        Check(_by_distance, lambda: keys_schema(DISTANCE)),
        summary="{speed: 0.1, least: 1}: least + distance / speed, rounded to whole ticks; distance 1 is the extent",
    ),
}
"""How delays of synapses are drawn."""


def _delays(value: Any) -> int | Settings:
    """Return one delay for all synapses, or how each is drawn."""
    if not isinstance(value, Mapping):
        return ticks(value)
    found = settings("delays", value, DELAYS)
    if len(found) != 1:
        message = f"expected a number of ticks, or exactly one of {', '.join(DELAYS)}"
        raise ValueError(message)
    return found


def _schema() -> dict[str, Any]:
    drawn_ones = [keys_schema({name: replace(row, required=True)}) for name, row in DELAYS.items()]
    return {"anyOf": [_TICKS, *drawn_ones]}


delays = Check(_delays, _schema)
"""The check of the delays of synapses."""


def drawn(
    wish: int | Settings, synapses: SynapseList, grids: Grids | None, rng: np.random.Generator
) -> int | NDArray[np.int32]:
    """Return the delay of each synapse, or one for all; raises InputError where a distance takes too long."""
    if isinstance(wish, int):
        return wish
    ((kind, argument),) = wish.items()
    count = len(synapses.pre)
    if kind == "uniform":
        return rng.integers(argument[0], argument[1] + 1, count, dtype=np.int32)
    if kind == "values":
        several: NDArray[np.int32] = np.array(argument, np.int32)
        return several[rng.integers(0, len(argument), count, dtype=np.int32)]
    if kind == "distance":
        assert grids is not None
        return _travelled(grids.distances(synapses.pre, synapses.post), argument)
    mean, spread = argument
    return np.clip(np.rint(rng.normal(mean, spread, count)), 0, MOST_TICKS).astype(np.int32)


def _travelled(distances: NDArray[np.float64], given: Settings) -> NDArray[np.int32]:
    """Return the ticks that distances take."""
    found = np.rint(distances / given["speed"]) + given.get("least", 0)
    if (longest := found.max(initial=0)) > MOST_TICKS:
        message = f"the longest of these distances would take {longest:.3g} ticks, expected at most {MOST_TICKS:,}"
        raise wrong(("delays", "distance", "speed"), message)
    whole_ticks: NDArray[np.int32] = found.astype(np.int32)
    return whole_ticks
