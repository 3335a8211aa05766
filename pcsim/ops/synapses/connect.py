"""Which neuron feeds which: the connection rules of a projection, as rows of a table.

Every rule draws what its definition says, exactly: a rule without ``multiple`` connects no pair twice; with
``multiple: true`` each synapse is drawn by itself, so that a pair may have several. Work and memory grow with
the synapses, not with the pairs of neurons.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from pcsim.errors import InputError, nearest, wrong
from pcsim.ops.attributes import MAX_ELEMENTS, Check, boolean, choice, number, positive, takes
from pcsim.ops.op import Attribute
from pcsim.ops.settings import Settings, keys_schema, settings
from pcsim.ops.synapses import distance
from pcsim.ops.synapses.distance import GRID_KEYS, PROFILES, Grids, above_zero, grids
from pcsim.ops.synapses.edge_files import SynapseList, read_edges
from pcsim.ops.synapses.sampling import Wanted, chosen, distinct, distinct_places, joined, pairs

Whole = np.ndarray
"""An array of whole numbers."""


@dataclass(frozen=True)
class Connection:
    """One connection rule.

    Attributes
    ----------
    keys : what a document gives, beside the rule's name
    count : (settings, wanted) -> synapses to expect, before any is drawn; raises InputError where settings do not
        fit the populations
    synapses : (settings, wanted) -> the synapses, in any order
    on_grids : whether its settings place the neurons on grids
    """

    name: str
    summary: str
    count: Callable[[Settings, Wanted], float]
    synapses: Callable[[Settings, Wanted], SynapseList]
    keys: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    on_grids: bool = False


def _connection(value: Any) -> Settings:
    """Return the settings of a connection rule; raises InputError with every problem."""
    if not isinstance(value, Mapping) or "rule" not in value:
        raise ValueError("expected a rule such as {rule: fixed_in_degree, degree: 10}")
    name = value["rule"]
    if not isinstance(name, str) or name not in CONNECTIONS:
        raise wrong("rule", f"unknown connection rule {name!r}" + nearest(name, CONNECTIONS))
    given = {key: inner for key, inner in value.items() if key != "rule"}
    return Settings((("rule", name), *settings(f"rule {name!r}", given, CONNECTIONS[name].keys).pairs))


def _schema() -> dict[str, Any]:
    rules = [(row, {"const": name, "description": row.summary}) for name, row in CONNECTIONS.items()]
    return {"anyOf": [keys_schema(row.keys, rule=rule) for row, rule in rules]}


connection = Check(_connection, _schema)
"""The check of a connection rule with its keys."""


def connect(given: Settings, wanted: Wanted) -> SynapseList:
    """Return the synapses of a rule, in any order.

    Raises
    ------
    InputError
        Where settings do not fit the populations, or there would be none or more than 10^9 synapses.
    """
    row = CONNECTIONS[given["rule"]]
    if (expected := row.count(given, wanted)) > MAX_ELEMENTS:
        raise wrong((), f"makes about {expected:.1e} synapses, expected at most 10^9")
    found = row.synapses(given, wanted)
    if not len(found.pre):
        raise wrong((), "makes no synapse")
    return found


def grids_of(connection: Settings | None, delays: Any, before: int, after: int) -> Grids | None:
    """Return the grids that the neurons of two populations are on; None where nothing places them.

    A rule of connection may place them, else delays by distance do.
    """
    by_distance = delays.get("distance") if isinstance(delays, Settings) else None
    on_grids = connection is not None and CONNECTIONS[connection["rule"]].on_grids
    if connection is not None and on_grids:
        if by_distance is not None and (twice := sorted(set(by_distance) & set(GRID_KEYS))):
            raise wrong(("delays", "distance", twice[0]), f"rule {connection['rule']!r} places the neurons already")
        return grids(connection, before, after)
    if by_distance is None:
        return None
    try:
        return grids(by_distance, before, after)
    except InputError as error:
        raise error.map(lambda problem: problem.under("delays", "distance")) from None


@takes(type="number", minimum=0, maximum=1)
def probability(value: Any) -> float:
    """Return a number from 0 to 1."""
    found = number(value)
    if not 0 <= found <= 1:
        raise ValueError("expected a probability from 0 to 1")
    return found


@takes(type="string")
def text(value: Any) -> str:
    """Return text."""
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def names(value: Any) -> tuple[str, ...]:
    """Return a list of names."""
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError("expected a list of names, such as [model_template]")
    return tuple(value)


# -- one to one, all to all ----------------------------------------------------------------------------------


def _same_size(given: Settings, wanted: Wanted) -> float:
    if wanted.before != wanted.after:
        raise wrong("rule", f"one_to_one needs populations of one size, got {wanted.before} and {wanted.after} neurons")
    return wanted.after


def _one_to_one(given: Settings, wanted: Wanted) -> SynapseList:
    numbers = np.arange(wanted.after, dtype=np.int32)
    return SynapseList(numbers, numbers)


def _all_to_all(given: Settings, wanted: Wanted) -> SynapseList:
    return SynapseList(*pairs(np.arange(wanted.pairs), wanted))


# -- degrees -------------------------------------------------------------------------------------------------


def _degree(side: str) -> Callable[[Settings, Wanted], float]:
    """Return the count of a rule with a degree; ``side`` is the population that partners are drawn from."""

    def count(given: Settings, wanted: Wanted) -> float:
        partners, others = (getattr(wanted, name) for name in (side, "after" if side == "before" else "before"))
        if not _multiple(given) and given["degree"] > partners:
            message = f"is {given['degree']}, but the population {side} has {partners} neurons; or say multiple: true"
            raise wrong("degree", message)
        return float(given["degree"] * others)

    return count


def _multiple(given: Settings) -> bool:
    return bool(given.get("multiple", False))


def _in_degree(given: Settings, wanted: Wanted) -> SynapseList:
    return SynapseList(*_partners(wanted.draw, wanted.after, wanted.before, given))


def _out_degree(given: Settings, wanted: Wanted) -> SynapseList:
    post, pre = _partners(wanted.draw, wanted.before, wanted.after, given)
    return SynapseList(pre, post)


def _partners(rng: np.random.Generator, rows: int, partners: int, given: Settings) -> tuple[Whole, Whole]:
    """Return (partner, row): as many partners for each row as the degree says."""
    degree = given["degree"]
    row = np.repeat(np.arange(rows, dtype=np.int32), degree)
    if _multiple(given):
        return rng.integers(0, partners, rows * degree, dtype=np.int32), row
    if 2 * degree <= partners:
        return distinct(rng, rows, partners, degree).ravel(), row
    # more than half of all: those left out are fewer
    kept = np.ones((rows, partners), bool)
    np.put_along_axis(kept, distinct(rng, rows, partners, partners - degree), False, axis=1)
    return np.nonzero(kept)[1].astype(np.int32), row


# -- total number, probability -------------------------------------------------------------------------------


def _total(given: Settings, wanted: Wanted) -> float:
    if not _multiple(given) and given["number"] > wanted.pairs:
        message = f"is {given['number']}, but there are {wanted.pairs} pairs of neurons; or say multiple: true"
        raise wrong("number", message)
    return float(given["number"])


def _total_number(given: Settings, wanted: Wanted) -> SynapseList:
    rng, many, places = wanted.draw, given["number"], wanted.pairs
    if _multiple(given):
        return SynapseList(*pairs(rng.integers(0, places, many), wanted))
    if 2 * many <= places:
        return SynapseList(*pairs(distinct_places(rng, places, many), wanted))
    kept = np.ones(places, bool)
    kept[distinct_places(rng, places, places - many)] = False
    return SynapseList(*pairs(np.flatnonzero(kept), wanted))


def _probability(given: Settings, wanted: Wanted) -> SynapseList:
    parts = [pairs(places, wanted) for places in chosen(wanted.draw, wanted.pairs, given["probability"])]
    return joined(parts)


# -- the table -----------------------------------------------------------------------------------------------

_MULTIPLE = {"multiple": Attribute(boolean, False, summary="whether a pair may be connected more than once")}

ROWS = (
    Connection("one_to_one", "neuron i to neuron i", _same_size, _one_to_one),
    Connection("all_to_all", "every pair", lambda given, wanted: wanted.pairs, _all_to_all),
    Connection(
        "fixed_probability",
        "each pair by itself, with one probability (NEST: pairwise_bernoulli)",
        lambda given, wanted: given["probability"] * wanted.pairs,
        _probability,
        {"probability": Attribute(probability, required=True, summary="with which a pair is connected")},
    ),
    Connection(
        "fixed_in_degree",
        "as many synapses to each neuron after, from partners drawn at random",
        _degree("before"),
        _in_degree,
        {"degree": Attribute(positive, required=True, summary="synapses of each neuron after"), **_MULTIPLE},
    ),
    Connection(
        "fixed_out_degree",
        "as many synapses from each neuron before, to partners drawn at random",
        _degree("after"),
        _out_degree,
        {"degree": Attribute(positive, required=True, summary="synapses of each neuron before"), **_MULTIPLE},
    ),
    Connection(
        "fixed_total_number",
        "as many synapses in all, between pairs drawn at random",
        _total,
        _total_number,
        {"number": Attribute(positive, required=True, summary="synapses in all"), **_MULTIPLE},
    ),
    Connection(
        "distance_dependent",
        "each pair by itself, with a probability that falls with distance on a unit line, square or cube",
        distance.expected,
        distance.draw,
        {
            "scale": Attribute(above_zero, required=True, summary="share of the extent over which probability falls"),
            "profile": Attribute(choice("a profile", PROFILES), "gaussian", summary="how probability falls"),
            "probability": Attribute(probability, 1.0, summary="with which a pair at distance 0 is connected"),
            **GRID_KEYS,
            "cutoff": Attribute(above_zero, summary="distance, in scales, beyond which there are no synapses"),
        },
        on_grids=True,
    ),
    Connection(
        "from_file",
        "SciPy .npz (weights, neurons after by before), .parquet (pre, post, delay, weight) or SONATA .h5",
        lambda given, wanted: 0,
        lambda given, wanted: read_edges(given, wanted.folder, wanted.before, wanted.after),
        {
            "file": Attribute(text, required=True, summary="path of the file"),
            "edges": Attribute(text, summary="of a SONATA file that holds several: the name under /edges"),
            "types": Attribute(text, summary="path of the table of edge types (.csv) of a SONATA file"),
            "ignore": Attribute(names, summary="columns and attributes of the file that are left out on purpose"),
            "tick": Attribute(above_zero, 1.0, summary="length of a tick in the unit of the file's delays"),
        },
    ),
)  # fmt: skip


CONNECTIONS = {row.name: row for row in ROWS}
