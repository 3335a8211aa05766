"""Delays of edges: drawn, by distance, by hops on a chip's network, and learnt by a local rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.analysis.delay_learning import learn_delays
from pcsim.engines import open_engine
from pcsim.errors import InputError
from pcsim.graph.edge_delays import delays_by_distance, delays_by_hops, drawn_delays, with_delays
from pcsim.graph.levels import uneven_edges
from pcsim.program.lower import ticks_of
from pcsim.rules import rule


def random_document(seed: int, size: int = 10) -> dict[str, Any]:
    """Return a random graph with skip edges and delays, from each vertex of which an output is reached."""
    rng = np.random.default_rng(seed)
    vertices: dict[str, dict[str, object]] = {"x": {"op": "input", "shape": [3]}}
    names = ["x"]
    for number in range(size):
        pres = [names[int(place)] for place in {*rng.integers(0, len(names), 3), len(names) - 1}]
        inputs = [{"from": pre, "delay": int(rng.integers(0, 3))} for pre in pres]
        vertices[f"s{number}"] = (
            {"op": "add", "inputs": inputs} if len(inputs) > 1 else {"op": "tanh", "inputs": inputs}
        )
        vertices[f"h{number}"] = {"op": "affine", "units": 3, "activation": "tanh", "inputs": [f"s{number}"]}
        names.append(f"h{number}")
    return {"vertices": vertices}


def random_dag(seed: int, size: int = 10) -> pcsim.Scenario:
    data = {"inputs": {"x": {"normal": [0, 1]}}, "targets": {f"h{size - 1}": 0.3}}
    return pcsim.load({"graph": random_document(seed, size), **data, "rule": "zil", "batch": 2, "seed": seed})


@pytest.mark.parametrize("seed", range(4))
def test_the_local_rule_levels_a_graph_and_zil_is_then_backprop(seed) -> None:
    assert_learnt_delays_make_zil_backprop(seed)


def assert_learnt_delays_make_zil_backprop(seed: int) -> None:
    scenario = random_dag(seed)
    assert uneven_edges(scenario.graph)
    found = learn_delays(scenario)
    assert found.settled
    assert not uneven_edges(found.graph)
    for one, other in zip(found.graph.edges, pcsim.level(scenario.graph, "delay").edges, strict=True):
        assert one == other or found.graph.role(one.pre) == "source"
    task = replace(scenario.task(), graph=found.graph)
    task = replace(task, ticks=ticks_of(found.graph, rule("zil")))
    session = open_engine("numpy")(task)
    session.advance(0, task.ticks, last=True)
    wanted, got = backprop(task).gradients, session.updates()
    size = np.sqrt(sum(float((array**2).sum()) for array in wanted.values()))
    assert max(float(np.abs(got[name] - wanted[name]).max()) for name in wanted) < 1e-12 * size


def test_what_cannot_be_learnt_is_refused() -> None:
    document = random_document(0)
    dead = {**document, "outputs": ["h9"]}
    dead["vertices"] = {**dead["vertices"], "lost": {"op": "tanh", "inputs": ["h2"]}}
    data = {"inputs": {"x": 1.0}, "targets": {"h9": 0.3}, "rule": "zil"}
    with pytest.raises(InputError, match="no output can be reached from 'lost'"):
        learn_delays({"graph": dead, **data})
    with pytest.raises(InputError, match="channel"):
        learn_delays({"graph": document, **data, "channels": {"h*->*": {"jitter": 1}}})


def test_delays_are_drawn_by_edge_and_seed() -> None:
    graph = random_dag(1).graph
    found = drawn_delays(graph, {"*->*": {"uniform": [2, 5]}, "h*->*": {"exponential": 3.0}, "h1->*": 7}, seed=3)
    assert found == drawn_delays(graph, {"*->*": {"uniform": [2, 5]}, "h*->*": {"exponential": 3.0}, "h1->*": 7}, 3)
    made = with_delays(graph, found, ("error",))
    assert all(edge.error_delay == found[edge.name] for edge in made.edges)
    assert [edge.value_delay for edge in made.edges] == [edge.value_delay for edge in graph.edges]
    assert {edge.error_delay for edge in made.outgoing["h1"]} == {7}
    assert all(2 <= edge.error_delay <= 5 for edge in made.edges if not edge.pre.startswith("h"))
    for wrong in ({"nothing": 1}, {"*->*": {"uniform": [5, 2]}}, {"*->*": {"gamma": 1}}, {"*->*": 1.5}):
        with pytest.raises(InputError):
            drawn_delays(graph, wrong)


def test_delays_follow_distances_and_hops() -> None:
    graph = random_dag(2, size=4).graph
    places = {name: (number % 3, number // 3) for number, name in enumerate(graph.vertices)}
    straight, wires = (delays_by_distance(graph, places, 2.0, along_axes=along) for along in (False, True))
    hops = delays_by_hops(graph, places, nx.grid_2d_graph(3, 4), 2.0)
    assert hops == wires
    assert all(straight[name] <= wires[name] for name in wires)
    assert with_delays(graph, hops).edges[0].value_delay == hops[graph.edges[0].name]
    with pytest.raises(InputError, match="no node"):
        delays_by_hops(graph, places, nx.path_graph(3))


def test_a_scenario_draws_delays() -> None:
    scenario = random_dag(1)
    given = {"graph": random_document(1), "inputs": {"x": 1.0}, "targets": {"h9": 0.3}, "rule": "il"}
    found = pcsim.load({**given, "delays": {"h*->*": {"uniform": [1, 4]}}, "seed": 5}).levelled
    assert found == with_delays(scenario.graph, drawn_delays(scenario.graph, {"h*->*": {"uniform": [1, 4]}}, 5))
    with pytest.raises(InputError, match="unknown distribution 'gama'"):
        pcsim.simulate(pcsim.load({**given, "delays": {"h*->*": {"gama": [1, 4]}}}))
