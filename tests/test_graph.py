"""Random graphs reach everything; graphs do not depend on the order of their document."""

from __future__ import annotations

import sys
import time
from collections import Counter

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from strategies import SEPARATE, Features, documents, make_task, permuted, random_document

from pcsim.analysis.backprop import backprop
from pcsim.errors import InputError
from pcsim.graph import Graph, graph_from, level, vertex_levels
from pcsim.graph.graph_document import GraphDocument
from pcsim.graph.initialise import initialise
from pcsim.graph.problems import problems_of
from pcsim.ops import LOSSES

RICH = Features(size=8, dead_ends=True, precision=True)


def features_of(document):
    """Name what a document and its graph hold."""
    graph = graph_from(document)
    edges = [edge for edge in graph.edges if graph.role(edge.pre) == "free"]
    pairs = Counter((edge.pre, edge.post) for edge in edges)
    found = vertex_levels(graph)
    yield from {
        f"{kind} delay {ticks}" for e in edges for kind, ticks in (("value", e.value_delay), ("error", e.error_delay))
    }
    yield from {f"rank {len(vertex.shape)}" for vertex in graph.vertices.values()}
    facts = {
        "unequal delays": any(edge.value_delay != edge.error_delay for edge in edges),
        "parallel edges": max(pairs.values(), default=0) > 1,
        "parallel edges of unequal delay": unequal_parallels(edges),
        "several outputs": len(graph.outputs) > 1,
        "observed output": any(name.endswith(".observed") for name in graph.outputs),
        "fan-out": any(len({edge.post for edge in graph.outgoing[name]}) > 1 for name in graph.active),
        "skip edge": any(
            found[e.pre] - found[e.post] > 1 + e.error_delay for e in edges if None not in (found[e.pre], found[e.post])
        ),
        "dead end": any(found[name] is None for name in graph.active),
        "shared slot": any(len(users) > 1 for users in graph.uses.values()),
        "parameter vertex of several users": any(
            len(graph.outgoing[n]) > 1 for n in graph.vertices if graph.role(n) == "parameter"
        ),
        "parameter as slot and as vertex": any(mixed_use(graph, name) for name in graph.parameters),
        "precision": any(vertex.precision != 1 for vertex in graph.vertices.values()),
        "constant": any(vertex.op.name == "constant" for vertex in graph.vertices.values()),
    }
    yield from (fact for fact, holds in facts.items() if holds)


def unequal_parallels(edges):
    delays = {}
    for edge in edges:
        delays.setdefault((edge.pre, edge.post), set()).add(edge.error_delay)
    return any(len(ticks) > 1 for ticks in delays.values())


def mixed_use(graph, parameter):
    roles = {vertex.op.role for vertex in graph.vertices.values() for _, name in vertex.params if name == parameter}
    return len(roles) > 1


EXPECTED = {
    *(f"{kind} delay {ticks}" for kind in ("value", "error") for ticks in range(5)),
    *("rank 0", "rank 1", "rank 2", "unequal delays", "parallel edges", "parallel edges of unequal delay"),
    *("several outputs", "observed output", "fan-out", "skip edge"),
    *("dead end", "shared slot", "parameter vertex of several users"),
    *("parameter as slot and as vertex", "precision", "constant"),
}  # fmt: skip


def test_random_documents_reach_every_op_and_feature():
    drawn = [random_document(seed, RICH) for seed in range(400)]
    assert {entry["op"] for document in drawn for entry in document["vertices"].values()} == set(SEPARATE)
    assert {feature for document in drawn for feature in features_of(document)} >= EXPECTED


def test_random_tasks_reach_every_loss():
    tasks = [make_task(random_document(seed, RICH), losses="mixed") for seed in range(20)]
    assert {loss for task in tasks for loss in task.losses.values()} == set(LOSSES)


def test_random_values_and_errors_are_tame():
    """Finite, of order one, and learning reaches some parameter: what is measured on them means something."""
    for seed in range(100):
        reference = backprop(make_task(random_document(seed), seed=seed, away=1.0))
        assert max(np.abs(error).max() for error in reference.errors.values()) < 1e3
        assert any(gradient.any() for gradient in reference.gradients.values())


@given(documents(precision=True), st.integers(0, 2**32 - 1))
def test_graph_does_not_depend_on_document_order(document, seed):
    one, other = graph_from(document), graph_from(permuted(document, seed))
    assert list(one.vertices.items()) == list(other.vertices.items())
    assert (one.edges, one.outputs, one.parameters) == (other.edges, other.outputs, other.parameters)
    for name, value in initialise(one, 0).items():
        assert np.array_equal(value, initialise(other, 0)[name])


def test_shared_bias_of_users_with_unlike_fan_in_starts_alike_in_any_order():
    layer = {"op": "affine", "units": 2, "params": {"bias": "b"}}
    document = {
        "parameters": {"b": {"shape": [2]}},
        "vertices": {"x": {"op": "input", "shape": [3]}, "z": {"op": "input", "shape": [7]},
                     "h": {**layer, "inputs": ["x"]}, "g": {**layer, "inputs": ["z"]}},
        "outputs": ["g", "h"],
    }  # fmt: skip
    starts = [initialise(graph_from(permuted(document, seed)), 0)["b"] for seed in range(10)]
    assert all(np.array_equal(start, starts[0]) for start in starts)


def test_parallel_edges_have_names_and_keys_of_their_own():
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": []}, "y": {"op": "add", "inputs": ["x", "x", "x"]}}})
    assert [edge.name for edge in graph.edges] == ["x->y", "x->y#1", "x->y#2"]
    assert len({edge.key for edge in graph.edges}) == 3
    assert graph.edge("x->y#0") == graph.edge("x->y")


def chain(*names, **skips):
    """Return x -> names[0] -> names[1] ..., each an addition where ``skips`` adds further inputs."""
    before, vertices = "x", {"x": {"op": "input", "shape": [2]}}
    for name in names:
        inputs = [before, *skips.get(name, ())]
        vertices[name] = {"op": "add" if len(inputs) > 1 else "tanh", "inputs": inputs}
        before = name
    return {"vertices": vertices}


@pytest.mark.parametrize(
    "document",
    [
        chain("a", "b", "a~c~1", "c", c=["a", "b"]),
        chain("a", "a~b", "m", "b~c", "n", "c", c=["a~b"], **{"b~c": ["a"]}),
    ],
    ids=["of a vertex", "of another identity vertex"],
)
def test_an_identity_vertex_never_has_the_name(document):
    """``a->c`` is short by one tick, so a~c~1 is to stand on it; a->b~c and a~b->c would both carry a~b~c~1."""
    graph = graph_from(document)
    levelled = level(graph, "identity")
    lengthened = sum(edge.value_delay + edge.error_delay for edge in level(graph, "delay").edges) // 2
    assert len(levelled.vertices) == len(graph.vertices) + lengthened


def test_vertices_that_say_nearly_the_same_are_told_apart():
    """1 and True, 0.0 and -0.0 are equal in Python, but not in a document."""
    entry = {"op": "affine", "inputs": ["x"], "units": 1}
    vertices = {"x": {"op": "input", "shape": [1]}, "a": {**entry, "bias": True}, "b": {**entry, "bias": 1}}
    with pytest.raises(InputError, match=r"vertices\.b\.bias: got 1, expected true or false"):
        graph_from({"vertices": vertices})
    constants = {name: {"op": "constant", "value": value} for name, value in (("p", 0.0), ("q", -0.0))}
    graph = graph_from({"vertices": {**constants, "y": {"op": "add", "inputs": ["p", "q"]}}})
    assert [str(graph.vertices[name].call["value"].array) for name in "pq"] == ["0.0", "-0.0"]


def test_vertices_that_say_the_same_share_a_call():
    layers = {f"h{n}": {"op": "tanh", "inputs": ["x"]} for n in range(3)}
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": [2]}, **layers}})
    assert len({id(graph.vertices[name].call) for name in layers}) == 1


def test_a_document_of_very_many_wrong_names_is_refused_in_seconds():
    many = 20_000
    shared = {f"p{n}": {"shape": [1]} for n in range(many)}
    units = {
        f"v{n}": {"op": "weighted_sum", "inputs": ["x"], "params": {"weight": f"q{n}"}, "bias": False}
        for n in range(many // 2)
    }
    strays = {f"w{n}": {"op": "tanh", "inputs": [f"y{n}"]} for n in range(many // 2)}
    document = {
        "parameters": shared,
        "vertices": {"x": {"op": "input", "shape": []}, **units, **strays},
        "outputs": [f"z{n}" for n in range(many)],
    }
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        graph_from(document)
    assert time.process_time() - start < 10
    found = [problem.message for problem in caught.value.problems]
    assert len(found) == 2 * many
    assert ["known:" in message or "did you mean" in message for message in found] == [True] * 20 + [False] * (
        2 * many - 20
    )


def wrongly_typed(count):
    """Numbers for vertices, and vertices whose inputs are wrong in a member of a union."""
    strays = {f"n{n}": 3 for n in range(count)}
    units = {
        f"v{n}": {"op": "add", "inputs": [{"from": 3, "delay": "late"}], "precision": "much"} for n in range(count)
    }
    return {"vertices": {"x": {"op": "input", "shape": []}, **strays, **units}}


def calls_to_refuse(document):
    """Return how many functions are called, or generators gone on with, to say what is wrong with a document."""
    try:
        GraphDocument.model_validate(document)
    except ValidationError as error:
        caught = error
    seen = Counter()
    before = sys.getprofile()
    sys.setprofile(lambda _frame, event, _argument: seen.update([event]))
    try:
        problems_of(caught, GraphDocument, document)
    finally:
        sys.setprofile(before)
    return seen["call"] + seen["c_call"]


def test_what_it_takes_to_refuse_grows_with_what_is_wrong_not_with_its_square():
    few, many = (calls_to_refuse(wrongly_typed(count)) for count in (100, 400))
    assert few > 100
    assert many < 4.5 * few


def test_only_the_innermost_of_what_is_wrong_is_said():
    with pytest.raises(InputError) as caught:
        graph_from(wrongly_typed(1))
    assert [str(problem) for problem in caught.value.problems] == [
        "vertices.n0: expected keys with values, got 3",
        "vertices.v0.inputs[0].delay: expected a whole number, got 'late'",
        "vertices.v0.precision: expected a number or a list, got 'much'",
    ]


def test_many_problems_are_cut_in_the_message_and_kept_in_the_error():
    nodes = nx.DiGraph()
    nodes.add_nodes_from(range(1_022))
    with pytest.raises(InputError) as caught:
        Graph.from_networkx(nodes)
    assert str(caught.value).count("\n") == 20
    assert str(caught.value).endswith("and 1,002 more like these")
    assert len(caught.value.problems) == 1_022


@pytest.mark.parametrize(
    ("name", "code"), [("y\u202e", "U+202E"), ("y\0", "U+0000"), ("a\u200bb", "U+200B"), ("\x1by", "U+001B")]
)
def test_a_name_is_of_characters_that_show(name, code):
    vertices = {"x": {"op": "input", "shape": [1]}, name: {"op": "tanh", "inputs": ["x"]}}
    with pytest.raises(InputError, match="a name of characters that show") as caught:
        graph_from({"vertices": vertices})
    assert code in str(caught.value)
