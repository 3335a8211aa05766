"""Any text that shows names a vertex: through documents, networkx, traces, ledgers, figures, checkpoints."""

from __future__ import annotations

import json

import networkx as nx
import numpy as np
import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.documents import plain, read
from pcsim.graph import graph_from, level
from pcsim.view.drawing import drawing

NAMES = (
    "two words", "(0, 1)", "/layer1/conv/Conv_output_0", "a$b", "$x", "$(1 + 1)", "a->b", "a->b#1", "x#1", '"quoted"',
    "h[1]", "h*", "h?", "a,b", "a.b", "5", "a~b", "ü→ß", "h@1", "\\", "'", "{op: x}", "a: b", "# no comment", "- item",
    "*", "null",
)  # fmt: skip


def chain(*names):
    """A chain of scalars, each fed by the one before, twice by way of parallel edges."""
    vertices = {"x": {"op": "input", "shape": [2]}}
    before = "x"
    for name in names:
        vertices[name] = {"op": "affine", "units": 2, "activation": "tanh", "inputs": [before]}
        before = name
    vertices["y"] = {"op": "add", "inputs": [before, before, {"from": names[0], "delay": 2}]}
    return {"pcsim": "graph/1", "vertices": vertices, "outputs": ["y"]}


def scenario(document, **more):
    return {
        "pcsim": "scenario/1", "graph": document,
        "inputs": {"x": {"normal": [0, 1]}}, "targets": {"y": {"normal": [0, 1]}},
        "rule": {"name": "il", "step_size": 0.2, "ticks": 6}, **more,
    }  # fmt: skip


def doubled(document):
    return json.loads(json.dumps(document).replace("$", "$$"))


@pytest.mark.parametrize("name", NAMES)
def test_any_text_names_a_vertex(name, tmp_path):
    document = doubled(chain(name, "h"))
    record = [{"what": ["value", "error", "message"], "vertices": "all"}]
    run = pcsim.simulate(scenario(document, record=record), out=tmp_path / "run")
    opened = pcsim.open_run(tmp_path / "run")
    graph = pcsim.load(opened.manifest["scenario"]).levelled
    assert name in graph.vertices
    plain_names = pcsim.simulate(scenario(chain("same", "h"), record=record))
    assert opened.series("error", name).shape == plain_names.series("error", "same").shape
    for edge in graph.edges:
        if edge.pre == name:
            assert opened.series("message", edge.name, "error").sizes["tick"] == 6
    assert opened.ledger(name, 2).adds_up
    asked = ["trace", str(tmp_path / "run"), "--vertex", name, "--tick", "2"]
    assert CliRunner().invoke(app, asked).exit_code == 0
    assert f"{name}.weight" in run.updates
    drawing(graph)


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_comes_back_from_wherever_it_was(name):
    graph = graph_from(chain(name, "h"))
    there = graph.to_networkx()
    assert pcsim.Graph.from_networkx(there) == graph
    loaded = pcsim.load(scenario(graph))
    assert loaded.graph == graph
    assert pcsim.load(loaded.plain).graph == graph
    assert {edge.name for edge in graph.edges} == {edge.name for edge in loaded.graph.edges}
    for form in ("delay", "identity"):
        levelled = level(graph, form)
        assert len({edge.name for edge in levelled.edges}) == len(levelled.edges)


@pytest.mark.parametrize("name", NAMES)
def test_runs_with_any_names_go_on_and_run_side_by_side(name):
    document = doubled(chain(name, "h"))
    whole = pcsim.simulate(scenario(document))
    paused = pcsim.simulate(scenario(document), until=3)
    np.testing.assert_array_equal(pcsim.simulate(scenario(document), resume=paused).state[name], whole.state[name])
    seeds = [pcsim.load(scenario(document, seed=seed, record=[{"what": "message"}])) for seed in (0, 1)]
    beside = pcsim.simulate_many(seeds)
    np.testing.assert_array_equal(beside[1].state[name], pcsim.simulate(seeds[1]).state[name])


def test_names_that_could_be_taken_for_edges_are_told_apart():
    vertices = {name: {"op": "input", "shape": []} for name in ("a", "a->b", "b->c")}
    vertices |= {"c": {"op": "tanh", "inputs": ["a->b"]}, "d": {"op": "add", "inputs": ["c", "a", "b->c"]}}
    graph = graph_from({"vertices": vertices})
    assert {edge.name for edge in graph.edges} == {'"a->b"->c', "c->d", "a->d", '"b->c"->d'}


def test_a_name_goes_before_a_pattern():
    graph = chain("h*", "h1")
    for pattern, chosen in (("h*", ["h*"]), ("h[*]", ["h*"]), ("h?", ["h*", "h1"]), ("h1", ["h1"])):
        run = pcsim.simulate(scenario(graph, record=[{"what": "error", "vertices": [pattern]}]))
        found = [name for name in ("h*", "h1", "y") if name in run.trace["error/2"]["vertex"].values]
        assert found == chosen


def test_a_number_is_its_digits(tmp_path):
    text = "graph: {vertices: {x: {op: input, shape: []}, 5: {op: tanh, inputs: [x]}, y: {op: tanh, inputs: [5]}}}\n"
    (tmp_path / "s.yaml").write_text(text + "inputs: {x: 1}\ntargets: {y: 0}\nrule: {name: fpa, ticks: 3}\n")
    run = pcsim.simulate(tmp_path / "s.yaml", out=tmp_path / "run")
    assert run.ledger("5", 1).adds_up
    assert list(plain(read(tmp_path / "s.yaml"))["graph"]["vertices"]) == ["x", "5", "y"]
    twice = text.replace("y: {op", '"5": {op: tanh, inputs: [x]}, y: {op')
    (tmp_path / "s.yaml").write_text(twice)
    with pytest.raises(pcsim.InputError, match="5"):
        pcsim.load(tmp_path / "s.yaml")


def test_nodes_of_networkx_that_are_tuples_are_named_by_their_text():
    made = nx.DiGraph()
    made.add_node((0, 0), op="input", shape=[])
    for place in ((0, 1), (1, 1)):
        made.add_node(place, op="tanh")
    made.add_edge((0, 0), (0, 1))
    made.add_edge((0, 1), (1, 1))
    assert list(pcsim.Graph.from_networkx(made).vertices) == ["(0, 0)", "(0, 1)", "(1, 1)"]
    made.add_node("(0, 1)", op="tanh")
    with pytest.raises(pcsim.InputError, match="have one name"):
        pcsim.Graph.from_networkx(made)


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\0b", "\u202eab", "x" * 1001])
def test_what_does_not_show_is_no_name(name):
    with pytest.raises(pcsim.InputError):
        graph_from(chain(name, "h"))
