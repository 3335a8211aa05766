"""What a prompt shows of each public noun fits a screen, however large the thing is."""

import time
from typing import Any

import numpy as np
import pytest

import pcsim
from pcsim.ops import OPS

WIDE = 20_000


def large() -> pcsim.Scenario:
    """A scenario with many vertices and a long title."""
    names = [f"v{n}" for n in range(WIDE)]
    vertices: dict[str, Any] = {"x": {"op": "input", "shape": []}}
    vertices |= {name: {"op": "identity", "inputs": ["x"]} for name in names}
    graph = {"vertices": vertices, "outputs": names}
    return pcsim.load({"title": "t" * 5000, "graph": graph, "inputs": {"x": 1.0}, "targets": dict.fromkeys(names, 1.0),
                       "rule": {"name": "il", "ticks": 2}, "measure": []})  # fmt: skip


def fits(noun: Any) -> None:
    began = time.perf_counter()
    text = repr(noun)
    assert time.perf_counter() - began < 0.1
    assert len(text) <= 2000, type(noun)
    assert text.count("\n") < 20


@pytest.fixture(scope="module")
def scenario() -> pcsim.Scenario:
    return large()


def test_a_scenario_and_its_graph(scenario):
    graph = scenario.graph
    for noun in (scenario, graph, graph.vertices["v1"], graph.edges[0], scenario.rule):
        fits(noun)


def test_a_run_and_its_checkpoint():
    layers = {"x": {"op": "input", "shape": [300]}, "y": {"op": "affine", "units": 200, "inputs": ["x"]}}
    found = pcsim.load({"graph": {"vertices": layers, "outputs": ["y"]}, "inputs": {"x": np.full(300, 0.1)},
                        "targets": {"y": [0.1] * 200}, "rule": {"name": "il", "ticks": 3}})  # fmt: skip
    run = pcsim.simulate(found, until=2)
    for noun in (found, found.graph.vertices["y"], run, run.checkpoint(), run.checkpoint().state):
        fits(noun)


def test_rules_ops_sweeps_and_comparisons():
    for noun in (*pcsim.RULES.values(), *OPS.values()):
        fits(noun)
    rows = tuple({"rule.ticks": n} for n in range(10_000))
    fits(pcsim.Sweep("title", tuple(f"rule.key{n}" for n in range(100)), rows, 10_000, rows))


def test_functions_and_the_package():
    for name in set(pcsim.__all__) - {"RULES"}:
        fits(getattr(pcsim, name))
    assert {"validate", "plan", "simulate", "compare", "plot"} <= set(str(pcsim.__doc__).replace("`", "").split())
