"""Graphs written as ONNX models compute what pcsim computes, op by op and whole."""

from __future__ import annotations

import numpy as np
import pytest
from model_checks import forward
from strategies import Features, random_document
from strategies import _data as data_of_vertex
from test_ops import CASES

import pcsim
from pcsim.analysis.backprop import sweep
from pcsim.engines.base import Task
from pcsim.graph import graph_from
from pcsim.graph.graph import number_format
from pcsim.graph.initialise import initialise
from pcsim.models.onnx_writer import WRITERS, to_onnx
from pcsim.ops import OPS
from pcsim.rules import rule

onnx = pytest.importorskip("onnx", reason="the package onnx is not installed: nothing is written for it")
reference = pytest.importorskip("onnx.reference")

BATCH = 3


def computed(graph, task):
    """Return {output: (batch, *shape)} of pcsim's own feedforward sweep."""
    local = sweep(task)
    return {name: np.broadcast_to(local[name].mu[0], (BATCH, *graph.vertices[name].shape)) for name in graph.outputs}


def fed(graph, task):
    """Return what the model is fed: the inputs, not the constants."""
    names = [name for name, vertex in graph.vertices.items() if vertex.op.name == "input"]
    whole = {name for name in names if ("format", "whole") in graph.vertices[name].call.attributes}
    return {name: np.asarray(task.inputs[name], np.int64 if name in whole else task.dtype) for name in names}


def outputs_of(model, feeds, run):
    """Return {output: array} of a model, run by the reference or by a runtime."""
    names = [output.name for output in model.graph.output]
    return dict(zip(names, run(model, feeds), strict=True))


def by_reference(model, feeds):
    return reference.ReferenceEvaluator(model).run(None, feeds)


def by_runtime(model, feeds):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return runtime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


def bound_of(graph, dtype, run):
    """Return how far outputs may be off; onnx.reference rounds the error function to float32."""
    vertices = graph.vertices.values()
    used = {vertex.op.name for vertex in vertices} | {dict(v.call.attributes).get("activation") for v in vertices}
    if dtype == np.float32:
        return 1e-5
    return 1e-7 if run is by_reference and used & {"erf", "gelu"} else 1e-12


def agrees(graph, dtype=np.float64, run=by_reference, inputs=None):
    """Compare a written graph with the graph; return the model."""
    task = task_of(graph, dtype, inputs or {})
    model = to_onnx(graph, task.parameters, dtype)
    onnx.checker.check_model(model, full_check=True)
    found, wanted = outputs_of(model, fed(graph, task), run), computed(graph, task)
    assert list(found) == list(wanted)
    for name in wanted:
        assert (found[name].shape, found[name].dtype) == (wanted[name].shape, dtype)
        scale = max(1.0, np.abs(wanted[name]).max())
        np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=bound_of(graph, dtype, run) * scale)
    return model


def task_of(graph, dtype, inputs):
    """Return a task of a graph: what is not given is drawn."""
    sources = {name: vertex for name, vertex in graph.vertices.items() if vertex.op.role == "source"}
    drawn = {name: data_of_vertex(graph, name, 0, BATCH, dtype) for name in sources if name not in inputs}
    return Task(graph, rule("fpa"), 1, BATCH, np.dtype(dtype), initialise(graph, 0, dtype), {**drawn, **inputs}, {}, {})


def graph_of(case):
    """Return a graph of one vertex, which applies the op of a case."""
    op = OPS[case.op]
    inputs = {
        f"x{slot}": {"op": "input", "shape": list(shape), "format": op.slot(slot).format}
        for slot, shape in enumerate(case.shapes)
    }
    return graph_from({"vertices": {**inputs, "y": {"op": case.op, "inputs": list(inputs), **case.attributes}}})


def data_of(case, graph, dtype):
    """Return inputs from where the op has values."""
    rng = np.random.default_rng(3)
    shapes = {
        name: (BATCH, *vertex.shape) for name, vertex in graph.vertices.items() if number_format(vertex) != "whole"
    }
    return {
        name: rng.uniform(case.low, case.high, shape).astype(dtype) for name, shape in shapes.items() if name != "y"
    }


def is_broken_in_the_reference(case):
    """Return whether onnx.reference fails: it has no groups in transposed convolutions, no padding in one axis."""
    flat = case.op == "max_pool" and len(case.attributes["kernel"]) == 1
    return flat or (case.op == "conv_transpose" and case.attributes.get("groups", 1) > 1)


WRITTEN = [case for case in CASES if case.op in WRITERS and case.op != "projection"]


def is_said(case):
    """Return whether ONNX can say a case: not maxima over parts of unequal size."""
    return case.op != "adaptive_max_pool" or all(
        extent % count == 0 for extent, count in zip(case.shapes[0][::-1], case.attributes["size"][::-1], strict=False)
    )


SAID = [case for case in WRITTEN if is_said(case)]


@pytest.mark.parametrize("case", [case for case in SAID if not is_broken_in_the_reference(case)], ids=str)
def test_each_op_is_what_the_reference_computes(case):
    graph = graph_of(case)
    agrees(graph, inputs=data_of(case, graph, np.float64))


@pytest.mark.parametrize("case", SAID, ids=str)
def test_each_op_is_what_a_runtime_computes(case):
    graph = graph_of(case)
    agrees(graph, np.float32, by_runtime, inputs=data_of(case, graph, np.float32))


def test_rows_are_of_ops():
    assert set(WRITERS) <= {name for name, op in OPS.items() if op.role == "function"}


def test_ops_without_operators_are_refused_all_at_once(monkeypatch):
    for op in ("tanh", "sin"):
        monkeypatch.delitem(WRITERS, op)
    vertices = {"x": {"op": "input", "shape": [2]}, "a": {"op": "tanh", "inputs": ["x"]}}
    graph = graph_from({"vertices": {**vertices, "b": {"op": "sin", "inputs": ["a"]}}})
    with pytest.raises(pcsim.InputError) as caught:
        to_onnx(graph)
    assert str(caught.value).splitlines() == [
        "vertices.a.op: ONNX has no operator for op 'tanh'", "vertices.b.op: ONNX has no operator for op 'sin'",
    ]  # fmt: skip


def test_what_an_operator_cannot_say_is_refused_with_its_reason():
    vertices = {"x": {"op": "input", "shape": [5]}, "y": {"op": "adaptive_max_pool", "size": [2], "inputs": ["x"]}}
    with pytest.raises(pcsim.InputError, match="op 'adaptive_max_pool': ONNX has maxima over windows"):
        to_onnx(graph_from({"vertices": vertices}))


@pytest.mark.parametrize("form", ["none", "delay", "identity"])
@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_are_what_the_reference_computes(seed, form):
    """Whatever their levelling, which changes nothing of the forward pass, and comes back with the graph."""
    ops = tuple(name for name in Features().ops if name != "adaptive_max_pool")
    graph = pcsim.level(graph_from(random_document(seed, Features(ops=ops, size=12))), form)
    back = pcsim.from_onnx(agrees(graph)).graph
    assert list(back.vertices.values()) == list(graph.vertices.values())
    assert [edge.name for edge in back.edges] == [edge.name for edge in graph.edges]
    assert [(edge.value_delay, edge.error_delay) for edge in back.edges] == [
        (edge.value_delay, edge.error_delay) for edge in graph.edges
    ]


@pytest.mark.parametrize("seed", range(8))
def test_nodes_are_read_where_they_have_changed(seed):
    """Then what is noted beside them is not what they are; weights may change."""
    graph = graph_from(random_document(seed, Features(ops=("affine", "tanh", "add", "multiply"), size=6)))
    task = task_of(graph, np.float64, {})
    model = to_onnx(graph, task.parameters)
    model.graph.node[-1].doc_string = "changed"
    made = pcsim.from_onnx(model)
    assert list(made.graph.vertices) != list(graph.vertices)
    found = forward(made, {name: array[0] for name, array in fed(graph, task).items()})
    for name, value in computed(graph, task).items():
        np.testing.assert_allclose(found[name], value[0], rtol=0, atol=1e-9)


POPULATION = {
    "x": {"op": "input", "shape": [6]},
    "h": {
        "op": "projection", "units": 5, "inputs": ["x"], "delays": {"uniform": [0, 2]}, "activation": "tanh",
        "connect": {"rule": "fixed_in_degree", "degree": 3},
    },
    "k": {"op": "embedding", "entries": 4, "units": 5, "inputs": ["i"]},
    "i": {"op": "input", "shape": [], "format": "whole"},
    "n": {"op": "batch_norm", "inputs": ["k"], "epsilon": 0.1},
    "d": {"op": "dropout", "active": False, "inputs": ["n"]},
    "y": {"op": "add", "inputs": ["h", "d"]},
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "run"), [(np.float64, by_reference), (np.float32, by_runtime)])
def test_populations_whole_numbers_and_what_depends_on_the_batch(dtype, run):
    agrees(graph_from({"vertices": POPULATION}), dtype, run)
    frozen = {**POPULATION, "n": {**POPULATION["n"], "statistics": "frozen"}}
    agrees(graph_from({"vertices": frozen}), dtype, run)


CHOOSING = {
    "x": {"op": "input", "shape": [5, 4]},
    "u": {"op": "input", "shape": [2, 4]},
    "i": {"op": "input", "shape": [2], "format": "whole"},
    "j": {"op": "input", "shape": [5, 4], "format": "whole"},
    "t": {"op": "input", "shape": [2, 1], "format": "whole"},
    "l": {"op": "input", "shape": [4], "format": "whole"},
    "gather": {"op": "gather", "axis": 1, "inputs": ["x", "i"]},
    "along": {"op": "take_along", "axis": 1, "inputs": ["x", "j"]},
    "tuples": {"op": "gather_nd", "inputs": ["x", "t"]},
    "rows": {"op": "scatter_nd", "reduction": "add", "inputs": ["x", "u", "t"]},
    "sums": {"op": "scatter_add", "extent": 4, "axis": 0, "inputs": ["u", "i"]},
    "late": {"op": "scatter_add", "extent": 4, "axis": 1, "inputs": ["x", "l"]},
    "turned": {"op": "reverse_sequence", "inputs": ["x", "l"]},
    "hot": {"op": "one_hot", "classes": 4, "axis": 0, "inputs": ["i"]},
}


@pytest.mark.parametrize(("dtype", "run"), [(np.float64, by_reference), (np.float32, by_runtime)])
def test_each_sample_has_indices_of_its_own(dtype, run):
    agrees(graph_from({"vertices": CHOOSING}), dtype, run)


def test_running_statistics_come_along():
    norm = {
        "op": "batch_norm",
        "statistics": "frozen",
        "inputs": ["x"],
        "init": {"running_mean": {"values": [1.0, 2.0]}},
    }
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": [2]}, "y": norm}})
    model = to_onnx(graph)
    arrays = {each.name: onnx.numpy_helper.to_array(each).tolist() for each in model.graph.initializer}
    assert arrays["y.running_mean"] == [1, 2]
    assert arrays["y.running_variance"] == [1, 1]
    made = pcsim.from_onnx(model)
    assert set(made.graph.buffers) == {"y.running_mean", "y.running_variance"}
    assert made.parameters["y.running_mean"].tolist() == [1, 2]


def test_what_does_not_depend_on_the_inputs_is_repeated_for_each_sample():
    vertices = {
        "x": {"op": "input", "shape": [2]}, "c": {"op": "constant", "value": [1, 2, 3]},
        "p": {"op": "parameter", "shape": [2, 1]}, "both": {"op": "concat", "inputs": ["x", "c"]},
        "y": {"op": "multiply", "inputs": ["both", "p"]}, "z": {"op": "sin", "inputs": ["c"]},
    }  # fmt: skip
    model = agrees(graph_from({"vertices": vertices}))
    assert [tensor.name for tensor in model.graph.initializer][:2] == ["p", "c"]
    shape = model.graph.output[0].type.tensor_type.shape.dim
    assert [each.dim_param or each.dim_value for each in shape] == ["batch", 2, 5]


def test_names_formats_and_values_are_those_given():
    vertices = {"x": {"op": "input", "shape": [2]}, "y": {"op": "affine", "units": 3, "inputs": ["x"]}}
    graph = graph_from({"title": "small", "vertices": vertices})
    weight = np.arange(6.0).reshape(3, 2)
    model = to_onnx(graph, {"y.weight": weight})
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    assert model.graph.name == "small"
    assert np.array_equal(arrays["y.weight"], weight)
    assert arrays["y.bias"].dtype == np.float64
    assert {each.data_type for each in to_onnx(graph).graph.initializer} == {onnx.TensorProto.FLOAT}
    with pytest.raises(pcsim.InputError, match=r"y\.weight: has shape \[2\], expected \[3, 2\]"):
        to_onnx(graph, {"y.weight": [1.0, 2.0]})
