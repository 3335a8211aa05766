"""Both forms of levelling on deep graphs: what they take, told before anything is made, and what is allocated."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc
from dataclasses import replace
from math import prod

import pytest
from strategies import Features, make_task, random_document
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.graph import graph_from
from pcsim.graph.level_forms import levelling
from pcsim.program.lower import lower
from pcsim.rules import rule

GATES = {"f": "sigmoid", "i": "sigmoid", "o": "sigmoid", "g": "tanh"}


def lstm(steps, hidden=4, inputs=3):
    """The LSTM of Millidge et al. 2020, one output a step: the first waits for as long as all others take."""
    shapes = {f"W{gate}": [hidden, hidden + inputs] for gate in GATES} | {"Wy": [2, hidden]}
    start = {"op": "constant", "value": 0.0, "shape": [hidden]}
    vertices = {"h0": start, "c0": start}
    for t in range(1, steps + 1):
        vertices |= {f"x{t}": {"op": "input", "shape": [inputs]}, f"z{t}": vertex("concat", f"h{t - 1}", f"x{t}")}
        for gate, activation in GATES.items():
            vertices[f"{gate}{t}"] = layer(hidden, f"z{t}", f"W{gate}", activation)
        vertices |= {
            f"keep{t}": vertex("multiply", f"f{t}", f"c{t - 1}"), f"new{t}": vertex("multiply", f"i{t}", f"g{t}"),
            f"c{t}": vertex("add", f"keep{t}", f"new{t}"), f"s{t}": vertex("tanh", f"c{t}"),
            f"h{t}": vertex("multiply", f"o{t}", f"s{t}"), f"y{t}": layer(2, f"h{t}", "Wy"),
        }  # fmt: skip
    outputs = [f"y{t}" for t in range(1, steps + 1)]
    return {"parameters": {name: {"shape": s} for name, s in shapes.items()}, "vertices": vertices, "outputs": outputs}


def transformer(layers, width=8, heads=4):
    """Attention and a feedforward part in each layer, each with a skip, and one mask that all layers read."""
    vertices = {"x": {"op": "input", "shape": [5, width]}, "mask": {"op": "input", "shape": [5, 5]}}
    pre = "x"
    for number in range(layers):
        found = [attention(vertices, f"l{number}.h{head}", pre, width // heads) for head in range(heads)]
        name = f"l{number}"
        vertices[f"{name}.heads"] = {**vertex("concat", *found), "axis": 1}
        vertices[f"{name}.mix"] = layer(width, f"{name}.heads")
        vertices[f"{name}.mixed"] = vertex("add", pre, f"{name}.mix")
        vertices[f"{name}.wide"] = layer(4 * width, f"{name}.mixed", activation="gelu")
        vertices[f"{name}.narrow"] = layer(width, f"{name}.wide")
        vertices[f"{name}.out"] = vertex("add", f"{name}.mixed", f"{name}.narrow")
        pre = f"{name}.out"
    return {"vertices": {**vertices, "y": layer(3, pre)}}


def attention(vertices, name, pre, width):
    """Add one head of attention; return its name."""
    vertices |= {f"{name}.{part}": layer(width, pre) for part in "qkv"}
    vertices |= {
        f"{name}.k'": vertex("transpose", f"{name}.k"),
        f"{name}.scores": vertex("matmul", f"{name}.q", f"{name}.k'"),
        f"{name}.masked": vertex("add", f"{name}.scores", "mask"),
        f"{name}.weights": vertex("softmax", f"{name}.masked"),
        name: vertex("matmul", f"{name}.weights", f"{name}.v"),
    }
    return name


def vertex(op, *inputs):
    return {"op": op, "inputs": list(inputs)}


def layer(units, pre, weight=None, activation="none"):
    own = {} if weight is None else {"params": {"weight": weight}, "bias": False}
    return {"op": "affine", "units": units, "activation": activation, "inputs": [pre], **own}


def scenario(document, name="zil", **keys):
    """Return a scenario of constant data for a graph document."""
    sources = [pre for pre, entry in document["vertices"].items() if entry["op"] == "input"]
    outputs = document.get("outputs", ["y"])
    asked = name if name == "zil" else {"name": name, "ticks": 3, "step_size": 0.5}
    data = {"inputs": dict.fromkeys(sources, 0.1), "targets": dict.fromkeys(outputs, 0.2)}
    return {"graph": document, "rule": asked, **data, **keys}


@pytest.mark.parametrize(
    ("document", "vertices", "levels", "identities"),
    [(transformer(12), 459, 145, 3987), (lstm(1000), 12_002, 6001, 3_015_998)],
    ids=["transformer", "lstm"],
)
def test_deep_graphs_are_planned_in_seconds(document, vertices, levels, identities):
    start = time.process_time()
    found = pcsim.plan(scenario(document, level="delay"))
    assert time.process_time() - start < 10
    assert (found["vertices"], found["levels"]) == (vertices, levels)
    sizes = found["levelling"]
    assert found["delay_lines"]["error messages in flight"] > 0
    assert sizes["identity"]["vertices"] == identities
    assert sizes["delay"]["values_in_flight"] + sizes["delay"]["errors_in_flight"] == found["memory"]["in flight"]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_told_is_what_levelling_makes(seed):
    """Also on edges with delays of their own and before dead ends."""
    graph = graph_from(random_document(seed, Features(dead_ends=True)))
    found = levelling(graph, batch=3, dtype="float32")
    for form in ("none", "delay", "identity"):
        made, told = pcsim.level(graph, form), getattr(found, form)
        assert (told.vertices, told.edges) == (len(made.vertices), len(made.edges))
        moving, fixed = (lower(made, rule(name)).memory(3, 4) for name in ("il", "fpa"))
        assert told.errors_in_flight == fixed["in flight"]
        assert told.values_in_flight == moving["in flight"] - fixed["in flight"]
        assert told.values == fixed["values"] + unshaped(made)


def unshaped(graph):
    """Return the bytes of parameter vertices, whose values lie with the parameters."""
    sizes = [row.shape for row in graph.vertices.values() if row.op.role == "parameter"]
    return 12 * sum(map(prod, sizes))


@pytest.mark.parametrize("name", ["il", "fpa"])
def test_delay_lines_take_what_was_planned(numpy_engine, name):
    """Levelled, an unrolled LSTM takes more by what is in flight; clamped sources and constants have no delay lines."""
    graph = graph_from(lstm(60, hidden=8))
    even = pcsim.level(graph, "delay")
    sizes = levelling(graph, batch=3).delay
    more = sizes.errors_in_flight + (sizes.values_in_flight if name == "il" else 0)
    bytes_of(numpy_engine, even, name)  # imports, and what is kept with a graph
    bytes_of(numpy_engine, graph, name)
    grown = bytes_of(numpy_engine, even, name) - bytes_of(numpy_engine, graph, name)
    assert grown == pytest.approx(more, rel=0.1)


def bytes_of(engine, graph, name):
    """Return what a session takes beside its task."""
    task = make_task(graph, rule(name), ticks=2, batch=3, keep_values=False)
    gc.collect()
    tracemalloc.start()
    session = engine(task)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert session.task is task
    return held


def test_an_edge_from_what_never_moves_holds_nothing():
    even = pcsim.level(graph_from(transformer(3)), "delay")
    others = tuple(edge for edge in even.edges if edge.pre != "mask" or not edge.error_delay)
    assert len(others) == len(even.edges) - 8
    told, without = (levelling(graph).none for graph in (even, replace(even, edges=others)))
    assert told.errors_in_flight == without.errors_in_flight > 0
    assert told.values_in_flight == without.values_in_flight > 0


def test_identity_vertices_that_do_not_fit_are_refused_before_one_is_made(monkeypatch):
    monkeypatch.setattr("pcsim.graph.level_forms.available", lambda: 2**28)
    document = lstm(300)
    with pytest.raises(pcsim.RunError, match="puts 271,196 identity vertices on 898 edges") as caught:
        pcsim.plan(scenario(document, level="identity"))
    assert "level: delay adds no vertex and holds 16.6 MiB of messages in flight" in str(caught.value)
    with pytest.raises(pcsim.RunError, match="of memory left; level: delay"):
        pcsim.level(graph_from(document), "identity")


def test_a_run_levelled_by_identity_that_does_not_fit_names_the_other_form(monkeypatch):
    monkeypatch.setattr("pcsim.engines.array.memory.available", lambda: 2**28)
    with pytest.raises(pcsim.RunError, match="a smaller batch takes less, and so does level: delay"):
        pcsim.simulate(scenario(lstm(20), "il", level="identity", batch=20_000))


def test_level_and_plan_tell_both_forms(tmp_path):
    document = lstm(50)
    path = tmp_path / "graph.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    told = CliRunner().invoke(app, ["level", str(path), "--json"])
    found = json.loads(told.stdout)
    sizes = levelling(graph_from(document))
    assert found["forms"]["identity"]["vertices"] == sizes.identity.vertices == 602 + found["identity_vertices_added"]
    text = CliRunner().invoke(app, ["level", str(path)]).stdout
    assert "errors in" in text
    assert len(text.splitlines()) < 200
    path.write_text(json.dumps(scenario(document, level="delay")), encoding="utf-8")
    assert "with level: identity" in CliRunner().invoke(app, ["plan", str(path)]).stdout
