"""Graphs to networkx and back."""

from __future__ import annotations

import contextlib
import json

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Features, documents, random_document

import pcsim
from pcsim.errors import InputError
from pcsim.graph import Graph, graph_from, level
from pcsim.graph.initialise import initialise
from pcsim.ops.synapses.synapse import arranged


def back(graph):
    return Graph.from_networkx(graph.to_networkx())


def refused(graph, *fragments):
    with pytest.raises(InputError) as caught:
        Graph.from_networkx(graph)
    text = str(caught.value)
    assert len(caught.value.problems) == len(fragments), text
    for fragment in fragments:
        assert fragment in text


@given(documents(max_size=9), st.sampled_from(["none", "delay", "identity"]))
def test_random_graphs_come_back_equal(document, form):
    graph = level(graph_from(document), form)
    again = back(graph)
    assert again == graph
    assert list(again.vertices) == list(graph.vertices)
    for name, value in initialise(graph, 3).items():
        assert np.array_equal(value, initialise(again, 3)[name])


SKIP = {
    "title": "t",
    "source": "s",
    "vertices": {
        "x": {"op": "input", "shape": [2]},
        "c": {"op": "constant", "value": [1, 2]},
        "h": {
            "op": "add",
            "inputs": ["x", {"from": "x", "delay": {"value": 2, "error": 1}}, "c", "x"],
            "precision": [1, 2],
        },
        "k": {"op": "tanh", "inputs": ["h"]},
        "y": {"op": "add", "inputs": ["k", "h", "h"]},
    },
    "outputs": ["k", "y"],
}


@pytest.mark.parametrize("form", ["none", "delay", "identity"])
def test_parallel_edges_observed_outputs_and_levels(form):
    graph = level(graph_from(SKIP), form)
    assert "k.observed" in graph.vertices
    again = back(graph)
    assert again == graph
    assert again.outputs == ("k.observed", "y")
    assert [edge.key for edge in again.outgoing["x"]] == [edge.key for edge in graph.outgoing["x"]]
    if form == "identity":
        assert "h~y#1~1" in again.vertices


def test_formula():
    graph = graph_from(
        {"formula": "tan(sqrt(theta * x)) + sin(x**2) - 3 * theta", "parameters": {"theta": {"init": {"constant": 2}}}}
    )
    assert back(graph) == graph


@pytest.mark.parametrize(
    "init",
    [
        {"values": [[1, 2], [3, 4]]},
        {"constant": 0.5},
        {"normal": [0, 1]},
        {"uniform": [-1, 1]},
        {"glorot": {}},
        {"he": {}},
        {"orthogonal": {}},
        {"uniform_fan_in": {}},
        {"file": "w.npz", "key": "a"},
        {"file": "w.npz"},
    ],
)
def test_inits_and_shared_parameters(init):
    graph = graph_from(
        {
            "parameters": {"W": {"shape": [2, 2], "init": init}},
            "vertices": {
                "x": {"op": "input", "shape": [2]},
                "a": {
                    "op": "affine",
                    "units": 2,
                    "params": {"weight": "W"},
                    "inputs": ["x"],
                    "init": {"bias": {"constant": 1}},
                },
                "b": {"op": "affine", "units": 2, "params": {"weight": "W"}, "bias": False, "inputs": ["a"]},
            },
        }
    )
    assert back(graph) == graph
    hash(tuple(graph.parameters.values()))


def test_is_plain_data_in_canonical_order():
    graph = graph_from(SKIP)
    made = graph.to_networkx()
    assert list(made.nodes) == list(graph.vertices)
    assert made.edges["x", "h", 1] == {"slot": 1, "value_delay": 2, "error_delay": 1}
    assert made.nodes["x"] == {
        "op": "input",
        "shape": [2],
        "attributes": {"shape": [2]},
        "params": {},
        "precision": 1.0,
    }
    assert made.nodes["h"]["precision"] == [1.0, 2.0]
    assert made.graph["outputs"] == ["k.observed", "y"]
    assert nx.is_directed_acyclic_graph(made)
    json.dumps(nx.node_link_data(made, edges="edges"))


# ---- graphs made elsewhere


def chain():
    graph = nx.DiGraph(name="chain")
    graph.add_node(0, op="input", shape=(np.int64(3),))
    graph.add_node(1, op="affine", units=4, activation="tanh")
    graph.add_node(2, op="affine", units=2, init={"weight": {"values": np.ones((2, 4))}})
    graph.add_edge(0, 1)
    graph.add_edge(1, 2, delay=3)
    return graph


def test_made_elsewhere():
    graph = Graph.from_networkx(chain())
    assert list(graph.vertices) == ["0", "1", "2"]
    assert graph.title == "chain"
    assert graph.outputs == ("2",)
    edge = graph.edge("1->2")
    assert (edge.value_delay, edge.error_delay) == (3, 3)
    assert np.array_equal(initialise(graph, 0)["2.weight"], np.ones((2, 4)))
    assert back(graph) == graph


def test_slots_follow_insertion_or_say_so():
    graph = nx.MultiDiGraph()
    for name in "abc":
        graph.add_node(name, op="input", shape=[2])
    graph.add_node("y", op="concat", axis=0)
    for name in "cab":
        graph.add_edge(name, "y")
    assert [edge.pre for edge in Graph.from_networkx(graph).incoming["y"]] == ["c", "a", "b"]
    for (_, _, data), slot in zip(graph.edges(data=True), (1, 0, 2), strict=True):
        data["slot"] = slot
    slots = {pre: data["slot"] for pre, _, data in graph.edges(data=True)}
    assert {edge.pre: edge.slot for edge in Graph.from_networkx(graph).incoming["y"]} == slots


def test_refusals():
    refused(nx.Graph(), "expected a networkx DiGraph or MultiDiGraph, got a Graph")
    refused("graph", "got a str")
    refused(nx.DiGraph(), "at least one")

    graph = chain()
    graph.add_node("1", op="input", shape=[2])
    refused(graph, "vertices.1: nodes 1 and '1' have one name")

    graph = chain()
    del graph.nodes[1]["op"]
    graph.nodes[0]["op"] = 3
    refused(graph, "vertices.0.op: each node needs an op, got 3", "vertices.1.op: each node needs an op, got None")

    graph = chain()
    graph.nodes[1]["op"] = "afine"
    refused(graph, "vertices.1.op: unknown op 'afine'; did you mean 'affine'?")

    graph = chain()
    graph.edges[1, 2]["value_delay"] = 1
    refused(graph, "vertices.2.inputs[0]: an edge has either delay, or value_delay and error_delay")

    graph = chain()
    graph.edges[1, 2]["delay"] = -1
    refused(graph, "vertices.2.inputs[0].delay: a delay is a whole number of ticks, 0 or more, got -1")

    graph = chain()
    graph.edges[1, 2]["slot"] = 1
    refused(graph, "vertices.2.inputs: the edges have slots [1], expected each of 0 to 0 once")

    graph = chain()
    graph.nodes[1]["shape"] = [5]
    refused(graph, "vertices.1.shape: is [5], but [4] follows")

    graph = chain()
    graph.add_edge(2, 1)
    refused(graph, "vertices.1.inputs: op 'affine' got 2 inputs, expected 1", "the shapes along its cycle")

    graph = chain()
    graph.add_node("z", op="add")
    graph.add_edge(1, "z", slot=0)
    graph.add_edge(2, "z")
    refused(graph, "vertices.z.inputs: some edges have a slot and some have none")

    graph = chain()
    graph.edges[0, 1]["part_of"] = "x"
    refused(graph, "vertices.1.inputs[0].part_of: expected [vertex, slot]")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("dealy", "unknown key 'dealy'; did you mean 'delay'?"),
        ("Delay", "unknown key 'Delay'; did you mean 'delay'?"),
        ("value_dealy", "unknown key 'value_dealy'; did you mean 'value_delay'?"),
        ("SLOT", "unknown key 'SLOT'; did you mean 'slot'?"),
        ("weight", "unknown key 'weight'; weights are parameters of the vertex that an edge leads to"),
        ("capacity", "unknown key 'capacity'; known: delay, error_delay, jitter, loss, part_of"),
    ],
)
def test_unknown_attributes_of_edges_are_refused_by_name(key, message):
    graph = chain()
    graph.edges[1, 2][key] = 3
    refused(graph, f"vertices.2.inputs[0].{key}: {message}")


def test_unknown_attributes_of_nodes_and_slips_of_the_graph_are_refused_by_name():
    graph = chain()
    graph.nodes[1]["unit"] = 4
    refused(graph, "vertices.1.unit: unknown key 'unit' of op 'affine'; did you mean 'units'?")
    graph = chain()
    graph.nodes[1]["inputs"] = [0]
    refused(graph, "vertices.1.inputs: the inputs of a node are the edges into it; remove these")
    graph = chain()
    graph.graph |= {"output": ["1"], "creator": "someone"}
    refused(graph, "output: unknown key 'output'; did you mean 'outputs'?")
    graph = chain()
    graph.graph["outputs"] = "12"
    refused(graph, "outputs: expected a list of nodes, got '12'")


def test_all_faults_are_said_at_once():
    graph = chain()
    graph.edges[0, 1].update(dealy=1, weight=2.0)
    graph.edges[1, 2].update(delay=-1)
    graph.nodes[2]["activation"] = "tahn"
    graph.add_node("z", op="adn")
    graph.add_edge(0, "z")
    graph.add_node("w", op=None)
    graph.add_node("v", op="add", slot=1)
    graph.add_edge(0, "v", slot=3)
    graph.graph["outptus"] = []
    refused(
        graph,
        "outptus: unknown key",
        "vertices.1.inputs[0].dealy: unknown key",
        "vertices.1.inputs[0].weight: unknown key",
        "vertices.w.op: each node needs an op",
        "vertices.v.inputs: the edges have slots [3]",
        "vertices.2.inputs[0].delay: a delay is a whole number",
        "vertices.z.op: unknown op 'adn'",
    )


def test_files_that_other_programs_draw_come_in(tmp_path):
    """Labels, positions and colours are left out; so are the ids that files give nodes and edges."""
    graph = nx.DiGraph(creator="someone", node_default={})
    graph.add_node("x", op="constant", value=1.0, label="stimulus", pos=(0, 1), color="red")
    graph.add_node("y", op="tanh", viz={"size": 3})
    graph.add_edge("x", "y", delay=1, label="first", style="dashed", id=7)
    plain = nx.DiGraph()
    plain.add_node("x", op="constant", value=1.0)
    plain.add_node("y", op="tanh")
    plain.add_edge("x", "y", delay=1)
    assert Graph.from_networkx(graph) == Graph.from_networkx(plain)
    for name in ("gexf", "graphml", "gml"):
        getattr(nx, f"write_{name}")(plain, tmp_path / name)
        assert Graph.from_networkx(getattr(nx, f"read_{name}")(tmp_path / name)) == Graph.from_networkx(plain)


@pytest.mark.parametrize("kind", ["graphml", "gml"])
@pytest.mark.parametrize("seed", range(6))
def test_a_graph_goes_through_the_files_of_networkx(tmp_path, kind, seed):
    graph = graph_from(random_document(seed, Features(precision=True)))
    getattr(nx, f"write_{kind}")(graph.to_networkx(text=True), tmp_path / kind)
    assert Graph.from_networkx(getattr(nx, f"read_{kind}")(tmp_path / kind)) == graph


def test_text_that_is_no_list_is_refused_as_what_it_is():
    graph = (
        chain().to_networkx(text=True)
        if isinstance(chain(), Graph)
        else Graph.from_networkx(chain()).to_networkx(text=True)
    )
    graph.graph["outputs"] = "[1, 2"
    refused(graph, "outputs: expected a list of nodes, got '[1, 2'")


def test_values_are_whatever_numpy_reads():
    torch = pytest.importorskip("torch")
    weight = np.arange(8.0).reshape(2, 4) / 7
    for values in (weight, torch.from_numpy(weight), weight.tolist(), np.ma.masked_array(weight)):
        graph = chain()
        graph.nodes[2]["init"] = {"weight": {"values": values}}
        graph.add_node("c", op="constant", value=torch.ones(2000, dtype=torch.float64))
        graph.add_node("s", op="sum")
        graph.add_edge("c", "s")
        graph.edges[1, 2]["delay"] = np.int64(3)
        made = Graph.from_networkx(graph)
        assert np.array_equal(initialise(made, 0)["2.weight"], weight)
        assert made.vertices["c"].shape == (2000,)
    graph.nodes[2]["init"] = {"weight": {"values": np.ma.masked_equal(weight, 0)}}
    refused(graph, "vertices.2.init.weight.values: networkx: a masked array")


def test_whatever_an_attribute_holds_is_taken_or_refused():
    endless_list, endless_dict = [], {}
    endless_list.append(endless_list)
    endless_dict["a"] = endless_dict
    odd = [
        None, True, -1, float("nan"), "x", b"y", [[1], [2, 3]], {1: 2}, {"value": 1, "error": "x"}, {1, 2}, object(),
        np.array("a"), np.int64(2), np.ma.masked, complex(1, 2), 10**30, nx.DiGraph(), endless_list, endless_dict,
    ]  # fmt: skip
    for value in odd:
        for key in ("op", "shape", "units", "attributes", "params", "precision", "init", "foo", 3, ("a",), None):
            graph = chain()
            graph.nodes[1][key] = value
            with contextlib.suppress(InputError):
                Graph.from_networkx(graph)
        for key in ("delay", "slot", "value_delay", "part_of", "foo", 3, None):
            graph = chain()
            graph.edges[0, 1][key] = value
            with contextlib.suppress(InputError):
                Graph.from_networkx(graph)
        for key in ("title", "source", "outputs", "parameters", 3, None):
            graph = chain()
            graph.graph[key] = value
            with contextlib.suppress(InputError):
                Graph.from_networkx(graph)


@pytest.mark.parametrize("form", ["none", "delay", "identity"])
def test_graph_objects_can_be_simulated(form):
    """A graph of pcsim or networkx in place of a document gives the run that the document gives."""
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "h": {"op": "affine", "units": 2, "activation": "tanh", "inputs": ["x"]},
        "m": {"op": "tanh", "inputs": ["h"]},
        "y": {"op": "add", "inputs": ["m", {"from": "h", "delay": {"value": 1, "error": 0}}]},
    }
    rest = {"inputs": {"x": [0.5, -1.0]}, "targets": {"y": [1.0, 0.0]}, "rule": "fpa"}
    graph = pcsim.level(pcsim.load({"graph": {"vertices": vertices}, **rest}).graph, form)
    runs = [pcsim.simulate({"graph": given, **rest}) for given in (graph, graph.to_networkx())]
    if form != "identity":  # an edge that was split keeps its place in sums through networkx alone
        assert pcsim.load({"graph": graph, **rest}).graph == graph
    wanted = pcsim.simulate({"graph": {"vertices": vertices}, "level": form, **rest})
    for run in runs:
        for name, update in wanted.updates.items():
            np.testing.assert_allclose(run.updates[name], update, rtol=1e-12)


def test_wrong_graph_objects_are_refused():
    with pytest.raises(pcsim.InputError, match="expected a networkx DiGraph"):
        pcsim.load({"graph": object(), "rule": "fpa"})


@pytest.mark.parametrize("kind", [float, np.int64, np.float64])
def test_slots_are_whole_numbers_however_written(kind):
    graph = nx.DiGraph(outputs=["y"])
    graph.add_nodes_from(
        [("a", {"op": "input", "shape": [2]}), ("b", {"op": "input", "shape": [2]}), ("y", {"op": "add"})]
    )
    graph.add_edge("a", "y", slot=kind(1))
    graph.add_edge("b", "y", slot=kind(0))
    assert {edge.pre: edge.slot for edge in Graph.from_networkx(graph).incoming["y"]} == {"a": 1, "b": 0}
    for bad, shown in [(0.5, "0.5"), (True, "True"), ("1", "'1'")]:
        graph.edges["a", "y"]["slot"] = bad
        refused(graph, f"vertices.y.inputs: the edges have slots [{shown}, 0], expected each of 0 to 1 once")


# ---- nodes of other kinds, parallel edges, and text


def test_nodes_may_be_numbers_and_tuples():
    """A grid: each node is fed by those before it in both directions."""
    graph = nx.grid_2d_graph(3, 3, create_using=nx.DiGraph)
    graph.remove_edges_from([(a, b) for a, b in graph.edges if a > b])
    for node in graph.nodes:
        graph.nodes[node].update({"op": "add"} if graph.in_degree(node) > 1 else {"op": "tanh"})
    graph.nodes[0, 0].update(op="input", shape=[2])
    made = Graph.from_networkx(graph)
    assert made.outputs == ("(2, 2)",)
    assert [edge.pre for edge in made.incoming["(1, 1)"]] == ["(0, 1)", "(1, 0)"]
    spiced = nx.relabel_nodes(graph, {node: tuple(map(np.int64, node)) for node in graph.nodes})
    assert Graph.from_networkx(spiced) == made
    assert back(made) == made
    counted = nx.convert_node_labels_to_integers(graph)
    assert Graph.from_networkx(counted).outputs == ("8",)
    counted.add_node("8", op="input", shape=[1])
    refused(counted, "vertices.8: nodes 8 and '8' have one name; rename one of them")


def test_outputs_may_be_named_as_nodes_are():
    graph = nx.DiGraph(outputs=[("y", 1)])
    graph.add_node(("x", 0), op="input", shape=[2])
    graph.add_node(("y", np.int64(1)), op="tanh")
    graph.add_edge(("x", 0), ("y", 1))
    assert Graph.from_networkx(graph).outputs == ("('y', 1)",)


@pytest.mark.parametrize("keys", [(0, 1, 2), (2, 0, 1), ("b", "a", "c")])
def test_parallel_edges_keep_the_order_in_which_they_were_added(keys):
    graph = nx.MultiDiGraph()
    graph.add_node("x", op="input", shape=[2])
    graph.add_node("y", op="add")
    for delay, key in enumerate(keys):
        graph.add_edge("x", "y", key=key, delay=delay)
    made = Graph.from_networkx(graph)
    assert [edge.value_delay for edge in made.incoming["y"]] == [0, 1, 2]
    assert [edge.name for edge in made.incoming["y"]] == ["x->y", "x->y#1", "x->y#2"]
    assert back(made) == made


@given(documents(max_size=9), st.sampled_from(["none", "delay", "identity"]), st.booleans())
def test_random_graphs_come_back_from_node_link_text(document, form, text):
    graph = level(graph_from(document), form)
    data = json.dumps(nx.node_link_data(graph.to_networkx(text=text), edges="edges"))
    assert Graph.from_networkx(nx.node_link_graph(json.loads(data), edges="edges")) == graph


def test_large_arrays_are_text_too():
    value = np.arange(1200.0)
    vertices = {"c": {"op": "constant", "value": value}, "y": {"op": "sum", "inputs": ["c"]}}
    graph = pcsim.load_graph({"vertices": vertices})
    data = json.dumps(nx.node_link_data(graph.to_networkx(text=True), edges="edges"))
    assert Graph.from_networkx(nx.node_link_graph(json.loads(data), edges="edges")) == graph


def test_what_only_python_can_say_is_refused_as_text():
    synapses = arranged(np.array([0, 1]), np.array([0, 0]), 1, fan_out=2, units=1)
    vertices = {
        "x": {"op": "input", "shape": [2]},
        "y": {"op": "projection", "units": 1, "synapses": synapses, "inputs": ["x"]},
    }
    graph = graph_from({"vertices": vertices})
    assert back(graph) == graph
    with pytest.raises(InputError, match="was made in Python: text cannot say it"):
        graph.to_networkx(text=True)
