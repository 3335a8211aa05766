"""Scalars that take the same inputs: one matrix product for all, and the same numbers as each by itself."""

from __future__ import annotations

import numpy as np
import pytest
from strategies import make_task

from pcsim.engines import open_engine
from pcsim.graph import graph_from

session = pytest.importorskip("pcsim.engines.jit.session", reason="engine 'numba' needs: pip install '.[numba]'")


def net(widths, *, delay=0, alone=3):
    """Return layers of scalar units, each with its inputs in an order of its own; some units skip the first input."""
    rng = np.random.default_rng(7)
    vertices = {f"u0_{place}": {"op": "input", "shape": []} for place in range(widths[0])}
    before = list(vertices)
    for number, width in enumerate(widths[1:], 1):
        here = [f"u{number}_{place}" for place in range(width)]
        for place, name in enumerate(here):
            pres = [before[n] for n in rng.permutation(len(before))] + before[1:2]
            pres = pres[:-3] if place < alone else pres
            vertices[name] = {"op": "weighted_sum", "activation": "tanh", "inputs": pres}
        if delay:
            vertices[here[-1]]["inputs"][0] = {"from": vertices[here[-1]]["inputs"][0], "delay": delay}
        before = here
    return graph_from({"vertices": vertices, "outputs": before})


def state(task, engine, *, at_once):
    played = open_engine(engine)(task)
    if at_once:
        played.advance(0, 6, last=True)
    else:
        for tick in range(6):
            played.advance(tick, tick + 1, last=tick == 5)
    names = list(task.graph.active)
    return played, np.array(played.reader("error", names)()), played.updates()


@pytest.mark.parametrize("rule", ["il", "fpa"])
@pytest.mark.parametrize("batch", [1, 3, 37])
@pytest.mark.parametrize("widths", [(9, 7, 5, 8), (5, 300, 40, 6)])
def test_units_with_the_same_inputs_are_what_each_is_alone(rule, batch, widths):
    task = make_task(net(widths), rule, batch=batch)
    played, error, updates = state(task, "numba", at_once=True)
    assert len(played.laid_out.bundles) >= len(widths) - 2
    oracle, expected, lessons = state(task, "numpy", at_once=False)
    np.testing.assert_allclose(error, expected, rtol=0, atol=1e-12 * np.abs(expected).max())
    for name, lesson in lessons.items():
        np.testing.assert_allclose(updates[name], lesson, rtol=0, atol=1e-12 * max(np.abs(lesson).max(), 1))
    again, stepped, _ = state(task, "numba", at_once=False)
    assert error.tobytes() == stepped.tobytes()
    assert oracle is not again


def test_a_late_edge_keeps_its_unit_out_of_a_bundle():
    task = make_task(net((9, 8, 9), delay=2), "il", batch=4)
    played, error, _ = state(task, "numba", at_once=True)
    together = {
        name for one in played.laid_out.bundles for name in one.step.names[one.first : one.first + len(one.columns)]
    }
    assert {"u2_3", "u2_7"} <= together
    assert "u2_8" not in together  # it hears u1 late; a source never changes, so that u1_7 hears nothing late
    _, expected, _ = state(task, "numpy", at_once=False)
    np.testing.assert_allclose(error, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_a_bias_of_two_weights_and_a_weight_of_two_layers_lose_no_lesson(threads, monkeypatch):
    monkeypatch.setenv("PCSIM_THREADS", threads)
    shared = {"op": "affine", "units": 64, "activation": "tanh"}
    vertices = {
        "x": {"op": "input", "shape": [64]},
        "a": {**shared, "inputs": ["x"], "params": {"weight": "V", "bias": "b"}},
        "b": {**shared, "inputs": ["a"], "params": {"weight": "W", "bias": "b"}},
        "c": {**shared, "activation": "none", "inputs": ["b"], "params": {"weight": "W", "bias": "b"}},
        "d": {**shared, "inputs": ["c"], "params": {"weight": "V", "bias": "b"}},
    }
    parameters = {"V": {"shape": [64, 64]}, "W": {"shape": [64, 64]}, "b": {"shape": [64]}}
    task = make_task(graph_from({"vertices": vertices, "parameters": parameters}), "fpa", batch=64)
    expected = state(task, "numpy", at_once=False)[2]
    for _ in range(20):
        updates = state(task, "numba", at_once=True)[2]
        for name, lesson in expected.items():
            np.testing.assert_allclose(updates[name], lesson, rtol=0, atol=1e-12 * np.abs(lesson).max())
