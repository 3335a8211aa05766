"""Graphs of NIR, read and written: what both sides can say comes back, the rest is refused by name."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from model_checks import forward
from typer.testing import CliRunner

import pcsim
from pcsim.analysis.backprop import sweep
from pcsim.cli import app
from pcsim.engines.base import Task
from pcsim.graph import graph_from
from pcsim.models.nir_reader import from_nir
from pcsim.models.nir_writer import to_nir
from pcsim.rules import rule

nir = pytest.importorskip("nir", reason="the package nir is not installed: its graphs are neither read nor written")

RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.normal(size=shape)


def graph(nodes, *lines, **metadata):
    return nir.NIRGraph(nodes, list(lines), metadata)


def chain(**nodes):
    """A graph of nodes one after the other."""
    names = list(nodes)
    return graph(nodes, *pairwise(names))


def net():
    """A small convolutional net, with all nodes that are read but delays."""
    return chain(
        x=nir.Input(np.array([2, 8, 8])),
        conv=nir.Conv2d((8, 8), drawn(4, 2, 3, 3), 1, "same", 1, 1, drawn(4)),
        scale=nir.Scale(drawn(4, 8, 8)),
        average=nir.AvgPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        total=nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([1, 1])),
        flat=nir.Flatten({"input": np.array([4, 3, 3])}, 0, -1),
        hidden=nir.Affine(drawn(5, 36), drawn(5)),
        threshold=nir.Threshold(np.zeros(5)),
        last=nir.Linear(drawn(3, 5)),
        y=nir.Output(np.array([3])),
    )


def test_nodes_compute_what_pytorch_computes():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: nothing to compare with")
    given, x = net(), drawn(2, 8, 8)
    model = from_nir(given)
    nodes = {name: {key: torch.tensor(value) for key, value in vars(node).items() if isinstance(value, np.ndarray)}
             for name, node in given.nodes.items()}  # fmt: skip
    functional = torch.nn.functional
    z = functional.conv2d(torch.tensor(x)[None], nodes["conv"]["weight"], nodes["conv"]["bias"], padding="same")[0]
    z = functional.avg_pool2d(z * nodes["scale"]["scale"], 2, 2)
    z = functional.avg_pool2d(z[None], 2, 2, 1, divisor_override=1)[0].flatten()
    z = ((nodes["hidden"]["weight"] @ z + nodes["hidden"]["bias"]) > 0).double()
    found = forward(model, {"x": x})
    np.testing.assert_allclose(found["last"], nodes["last"]["weight"] @ z, atol=1e-12)
    assert model.graph.vertices["total.average"].op.name == "average_pool"
    assert set(model.parameters) >= {"conv.weight", "conv.bias", "scale.scale", "hidden.weight"}


def test_delays_are_ticks_and_edges_into_a_node_add_up():
    given = graph(
        {
            "x": nir.Input(np.array([3])), "a": nir.Linear(drawn(3, 3)), "b": nir.Linear(drawn(2, 3)),
            "wait": nir.Delay(np.full(3, 0.005)), "y": nir.Output(np.array([2])),
        },
        ("x", "a"), ("a", "b"), ("x", "wait"), ("wait", "b"), ("b", "y"), dt=0.001,
    )  # fmt: skip
    made = from_nir(given).graph
    assert [(edge.pre, edge.value_delay, edge.error_delay) for edge in made.incoming["b.sum"]] == [
        ("a", 0, 0), ("x", 5, 5),
    ]  # fmt: skip
    assert made.outputs == ("b",)
    assert from_nir(given, dt=0.0025).graph.edge("x->b.sum").value_delay == 2


@pytest.mark.parametrize(
    ("delay", "dt", "message"),
    [
        ([0.001, 0.002], 0.001, "delays differ within the layer, from 0.001 to 0.002"),
        ([0.002, 0.002], None, "say with dt what a tick lasts"),
        ([0.0015, 0.0015], 0.001, "is 1.5 ticks of 0.001: expected a whole number"),
        ([-1.0, -1.0], 1.0, "is -1 ticks of 1"),
    ],
)
def test_other_delays_are_refused(delay, dt, message):
    given = chain(x=nir.Input(np.array([2])), wait=nir.Delay(np.array(delay)), y=nir.Output(np.array([2])))
    with pytest.raises(pcsim.InputError, match=f"nodes.wait: .*{message}"):
        from_nir(given, dt)


def test_neurons_with_dynamics_and_cycles_are_refused_all_at_once():
    one = np.ones(2)
    given = graph(
        {
            "x": nir.Input(np.array([2])), "a": nir.LIF(one, one, one, one), "b": nir.LI(one, one, one),
            "w": nir.Linear(np.eye(2)), "y": nir.Output(np.array([2])),
        },
        ("x", "a"), ("a", "b"), ("b", "w"), ("w", "a"), ("b", "y"),
    )  # fmt: skip
    with pytest.raises(pcsim.InputError) as caught:
        from_nir(given)
    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "nodes.a: LIF has dynamics of its own, which pcsim has not",
        "nodes.b: LI has dynamics of its own, which pcsim has not",
    ]
    assert lines[2].startswith("edges: the graph has a cycle: ")


def test_graphs_within_graphs_are_written_out():
    inner = chain(i=nir.Input(np.array([2])), w=nir.Linear(2 * np.eye(2)), o=nir.Output(np.array([2])))
    given = nir.NIRGraph(
        {"x": nir.Input(np.array([2])), "block": inner, "y": nir.Output(np.array([2]))},
        [("x", "block"), ("block", "y")],
        {},
        type_check=False,
    )
    model = from_nir(given)
    assert list(model.graph.vertices) == ["x", "block.w"]
    assert forward(model, {"x": np.array([1.0, -2.0])})["block.w"].tolist() == [2, -4]


WRITTEN = {
    "x": {"op": "input", "shape": [2, 6, 6]},
    "g": {"op": "parameter", "shape": [3, 1, 1]},
    "c": {"op": "conv", "channels": 3, "kernel": [3, 3], "padding": 1, "stride": 1, "inputs": ["x"]},
    "s": {"op": "multiply", "inputs": ["c", "g"]},
    "i": {"op": "identity", "inputs": ["s"]},
    "m": {"op": "add", "inputs": ["i", "s", {"from": "c", "delay": 2}]},
    "p": {"op": "average_pool", "kernel": [2, 2], "inputs": ["m"]},
    "f": {"op": "flatten", "inputs": ["p"]},
    "h": {"op": "affine", "units": 4, "inputs": ["f"]},
    "y": {"op": "affine", "units": 2, "bias": False, "inputs": ["h"]},
    "z": {"op": "add", "inputs": ["h", "h"]},
}


def computed(graph, inputs, parameters):
    """Return {output: its feedforward value}."""
    task = Task(graph, rule("fpa"), 1, 1, np.dtype(float), parameters, inputs, {}, {})
    return {name: local.mu[0, 0] for name, local in sweep(task).items()}


@pytest.mark.parametrize("form", ["none", "delay", "identity"])
def test_what_both_sides_can_say_comes_back(tmp_path, form):
    wanted = pcsim.level(graph_from({"title": "net", "vertices": WRITTEN}), form)
    values = {name: drawn(*row.shape) for name, row in wanted.parameters.items()}
    path = pcsim.export(wanted, tmp_path / "net.nir", values)
    model = from_nir(path)
    assert model.title == "net"
    x = drawn(2, 6, 6)
    there = computed(wanted, {"x": x[None]}, values)
    found = forward(model, {"x": x})
    for name in ("y", "z"):
        np.testing.assert_allclose(found[name], there[name], atol=1e-12)
    for edge in wanted.edges:
        if edge.value_delay and wanted.role(edge.pre) == "free" and edge.post in model.graph.vertices:
            same = [each for each in model.graph.incoming[edge.post] if each.pre == edge.pre]
            assert edge.value_delay in {each.value_delay for each in same}


def test_what_nir_has_no_node_for_is_refused_all_at_once():
    vertices = {
        "x": {"op": "input", "shape": [3]}, "a": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
        "b": {"op": "softmax", "inputs": ["a"]}, "c": {"op": "multiply", "inputs": ["a", "b"]},
        "d": {"op": "sum", "inputs": ["c"]}, "k": {"op": "constant", "value": [1, 2, 3]},
        "e": {"op": "add", "inputs": ["x", "k", {"from": "x", "delay": {"value": 0, "error": 1}}]},
    }  # fmt: skip
    with pytest.raises(pcsim.InputError) as caught:
        to_nir(graph_from({"vertices": vertices}))
    assert sorted(str(caught.value).splitlines()) == [
        "vertices.a.activation: NIR has no node for the function 'tanh'; its neurons have dynamics of their own",
        "vertices.b.op: NIR has no node for op 'softmax'",
        "vertices.c.inputs: NIR multiplies by numbers that are fixed or learnt, not one vertex by another",
        "vertices.d.shape: NIR has no node without axes; expected a shape such as [1]",
        "vertices.e.inputs[1]: NIR has fixed and learnt numbers in a Scale alone, and 'k' is an input of op 'add'",
    ]


def test_a_file_that_holds_no_graph_is_refused(tmp_path):
    path = tmp_path / "damaged.nir"
    path.write_bytes(b"no graph")
    with pytest.raises(pcsim.InputError, match="is no NIR graph"):
        from_nir(path)
    with pytest.raises(pcsim.InputError, match="no such file"):
        from_nir(tmp_path / "missing.nir")


def test_files_are_read_and_written_by_commands(tmp_path):
    nir.write(tmp_path / "net.nir", net())
    runner = CliRunner()
    done = runner.invoke(app, ["import", str(tmp_path / "net.nir"), "-o", str(tmp_path / "net.yaml")])
    assert done.exit_code == 0, done.output
    assert "threshold" in (tmp_path / "net.yaml").read_text(encoding="utf-8")
    assert runner.invoke(app, ["validate", str(tmp_path / "net.yaml")]).exit_code == 0
    done = runner.invoke(app, ["export", str(tmp_path / "net.yaml"), "-o", str(tmp_path / "again.nir")])
    assert done.exit_code == 2
    assert "NIR has no node for op 'sign'" in done.output
