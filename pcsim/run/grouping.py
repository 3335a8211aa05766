"""Which scenarios are run side by side: small ones of one graph under one rule, as many as memory allows."""

from __future__ import annotations

import json
from collections import defaultdict
from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pcsim.scenario.scenario import Scenario

MOST_TOGETHER = 256 * 2**20
"""Bytes that runs side by side take, at most."""

SMALL_RUN = 8 * 2**20
"""Bytes up to which a run leaves a machine idle and gains by others beside it."""


def groups(scenarios: Sequence[Scenario], engine: str | None) -> list[list[int]]:
    """Return the places of scenarios that are run side by side, in the order of the first of each group."""
    found: dict[str, list[list[int]]] = defaultdict(list)
    for place, scenario in enumerate(scenarios):
        size = state_bytes(scenario)
        known = found[_kind(scenario, engine or scenario.document.engine)]
        apart = size > SMALL_RUN or scenario.document.solve != "simulate" or scenario.rule.sweeps
        if not known or apart or (len(known[-1]) + 1) * size > MOST_TOGETHER:
            known.append([])
        known[-1].append(place)
    return sorted(group for kind in found.values() for group in kind)


def _kind(scenario: Scenario, engine: str) -> str:
    """Return what scenarios that can run side by side have in common."""
    own = {"seed", "inputs", "targets", "sweep", "title", "source", "about", "notes", "graph", "engine"}
    document = scenario.document.model_dump(exclude=own)
    document["rule"].pop("step_size")
    return json.dumps([engine, document, scenario.plain["graph"]], sort_keys=True, default=str)


def state_bytes(scenario: Scenario, *, in_flight: bool = True) -> int:
    """Return roughly what a run takes while it ticks: values, errors and messages, parameters and what they learn.

    ``in_flight``: with what is on its way over edges with delays.
    """
    graph = scenario.levelled
    sizes = {name: prod(vertex.shape) for name, vertex in graph.vertices.items()}
    flying = sum((2 + in_flight * (edge.value_delay + edge.error_delay)) * sizes[edge.pre] for edge in graph.edges)
    numbers = scenario.document.batch * (8 * sum(sizes.values()) + flying)
    return scenario.dtype.itemsize * (numbers + 3 * sum(prod(row.shape) for row in graph.parameters.values()))
