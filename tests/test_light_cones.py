"""How far a change travels: the cone that is measured is the distance map, on every engine; no bit lies outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import VALUE_RULES, documents, make_task

import pcsim
from pcsim.analysis.light_cones import Cone, changed_kind, measured_cone
from pcsim.engines import open_engine, sweeps
from pcsim.errors import InputError, RunError
from pcsim.graph import graph_from
from pcsim.graph.graph import number_format
from pcsim.rules import RULES


def random_graph(seed, *, delays=True, vertices=9):
    """Return a graph of curved vertices, so that no slope is zero, with delays of 0 to 3 ticks each way."""
    rng = np.random.default_rng(seed)
    found = {name: {"op": "input", "shape": [3]} for name in ("x0", "x1")}
    for k in range(vertices):
        names = list(found)
        pres = ["x0"] if k == 0 else rng.choice(names, min(len(names), int(rng.integers(1, 4))), replace=False)
        inputs = [_line(rng, str(pre), delays) for pre in pres]
        layer = {"op": "affine", "units": 3} if len(pres) == 1 else {"op": "weighted_sum"}
        found[f"h{k}"] = {**layer, "activation": "tanh", "inputs": inputs}
    return {"vertices": found, "outputs": [f"h{vertices - 1}"]}


def _line(rng, pre, delays):
    value, error = (int(ticks) for ticks in rng.integers(0, 4, 2))
    return {"from": pre, "delay": {"value": value, "error": error}} if delays and rng.random() < 0.7 else pre


def random_task(seed, rule, *, delays=True):
    row = RULES[rule]
    step = {} if row.exact_step or row.keeps_multipliers else {"step_size": 0.5}
    graph = random_graph(seed, delays=delays)
    document = {
        "graph": graph, "inputs": {name: {"normal": [0, 1]} for name in ("x0", "x1")},
        "targets": {name: {"normal": [0, 1]} for name in pcsim.load_graph(graph).outputs},
        "batch": 2, "rule": {"name": rule, **step}, "seed": seed,
    }  # fmt: skip
    return pcsim.load(document).task()


def assert_cone_is_the_distance_map(task, start):
    for vertex in (*task.graph.active, "x0"):
        cone = measured_cone(task, start, vertex)
        assert cone.outside == [], (vertex, cone.outside)
        assert cone.late == [], (vertex, [(name, cone.distance[name], cone.arrival[name]) for name in cone.late])


@pytest.mark.parametrize("rule", ["il", "fpa", "zil", "incremental"])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_measured_cone_is_the_distance_map(engine, rule, seed):
    assert_cone_is_the_distance_map(random_task(seed, rule), engine)


@pytest.mark.parametrize("rule", [row.name for row in RULES.values() if row.dynamics != "values"])
def test_it_is_so_for_rules_that_keep_more(rule):
    swept = RULES[rule].sweeps
    start = sweeps.start if swept else open_engine("numpy")
    for seed in range(3):
        assert_cone_is_the_distance_map(random_task(seed, rule, delays=not swept), start)


@given(st.integers(10, 10_000), st.sampled_from(sorted(VALUE_RULES)))
def test_no_bit_lies_outside_on_numpy(seed, rule):
    task = random_task(seed, rule)
    cone = measured_cone(task, open_engine("numpy"), task.graph.active[seed % len(task.graph.active)])
    assert cone.outside == []
    assert cone.late == []


@given(documents(delays=True), st.sampled_from(sorted(VALUE_RULES)), st.integers(0, 10**6))
def test_no_bit_lies_outside_whatever_the_ops_and_losses(document, rule, seed):
    graph = graph_from(document)
    task = make_task(graph, RULES[rule], seed=seed)
    names = [name for name in (*graph.active, *task.inputs) if number_format(graph.vertices[name]) == "float"]
    try:
        cone = measured_cone(task, open_engine("numpy"), names[seed % len(names)])
    except RunError:
        return  # a value left its op's domain, or grew beyond the number format
    assert cone.outside == []


def test_a_hand_made_map():
    """The chain x -> a -> b -> y with a value delay of 2 into b and an error delay of 1 back from y, b changed."""
    graph = {"vertices": {
        "x": {"op": "input", "shape": [2]},
        "a": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["x"]},
        "b": {"op": "affine", "units": 2, "activation": "tanh",
              "inputs": [{"from": "a", "delay": {"value": 2, "error": 0}}]},
        "y": {"op": "affine", "units": 2, "inputs": [{"from": "b", "delay": {"value": 0, "error": 1}}]},
    }, "outputs": ["y"]}  # fmt: skip
    document = {"graph": graph, "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": {"normal": [0, 1]}},
                "rule": {"name": "il", "step_size": 0.5, "ticks": 9}}  # fmt: skip
    task = pcsim.load(document).task()
    for vertex, wanted in {"b": {"a": 1, "b": 0, "y": 0}, "a": {"a": 0, "b": 2, "y": 3},
                           "y": {"a": 3, "b": 2, "y": 0}, "x": {"a": 0, "b": 0, "y": 0}}.items():  # fmt: skip
        cone = measured_cone(task, open_engine("actors"), vertex)
        assert (dict(cone.distance), cone.arrival) == (wanted, wanted), vertex


def test_what_lies_outside_is_told():
    differs = np.array([[True, False, True], [True, True, True]])
    cone = Cone("a", "value", ("a", "b", "c"), {"a": 0, "b": 2, "c": None}, differs)
    assert cone.outside == [("c", 0), ("b", 1), ("c", 1)]


def test_what_cannot_be_changed_is_refused():
    graph = {"vertices": {
        "k": {"op": "parameter", "shape": []}, "i": {"op": "input", "shape": [], "format": "whole"},
        "e": {"op": "embedding", "entries": 3, "units": 2, "inputs": ["i"]},
        "y": {"op": "add", "inputs": ["e", "k"]},
    }, "outputs": ["y"]}  # fmt: skip
    task = pcsim.load({"graph": graph, "inputs": {"i": 1}, "targets": {"y": 0.0}, "rule": "il"}).task()
    for vertex, text in {"k": "no data", "i": "whole numbers", "z": "unknown vertex"}.items():
        with pytest.raises(InputError, match=text):
            changed_kind(task, vertex)
