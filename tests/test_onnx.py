"""ONNX files: what is wrong is named, documents run, and shapes lose the batch axis without a change of numbers."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from model_checks import forward
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.errors import InputError

onnx = pytest.importorskip("onnx")
helper, FLOAT, INT64, STRING = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.STRING
RNG = np.random.default_rng(0)


def value(name, shape, kind=FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def node(operator, inputs, output, **attributes):
    return helper.make_node(operator, inputs, [output], name=f"make_{output}", **attributes)


def weights(**arrays):
    return [onnx.numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()]


def constants(**arrays):
    return [onnx.numpy_helper.from_array(np.asarray(array, np.int64), name) for name, array in arrays.items()]


def proto(nodes, inputs, outputs, tensors=(), opset=18):
    graph = helper.make_graph(nodes, "model", inputs, outputs, list(tensors))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def small_network():
    """Return a network of an open batch and an open length, whose batch axis is moved, merged and split."""
    rng = np.random.default_rng(0)
    tensors = [
        *weights(W=rng.normal(size=(4, 6)), b=rng.normal(size=6), place=rng.normal(size=(1, 3, 6))),
        *constants(heads=[0, 0, 2, 3], flat=[0, -1], rows=[-1, 6]),
    ]
    nodes = [
        node("MatMul", ["x", "W"], "product"),
        node("Add", ["product", "b"], "sum"),
        node("Add", ["sum", "place"], "placed"),
        node("Reshape", ["placed", "heads"], "split"),
        node("Transpose", ["split"], "turned", perm=[0, 2, 1, 3]),
        node("Softmax", ["turned"], "weights", axis=-1),
        node("ReduceMean", ["weights"], "mean", keepdims=0),
        node("Reshape", ["placed", "rows"], "merged"),
        node("Tanh", ["merged"], "tanh"),
        node("Reshape", ["weights", "flat"], "y"),
    ]
    outputs = [value("y", ["batch", 18]), value("tanh", ["rows", 6]), value("mean", [])]
    return proto(nodes, [value("x", ["batch", "length", 4])], outputs, tensors)


def test_the_batch_axis_is_left_out_and_no_number_changes():
    x = RNG.normal(size=(1, 3, 4))
    literal, short = (pcsim.from_onnx(small_network(), {"length": 3}, batch_axis=axis) for axis in (None, 0))
    expected, got = forward(literal, {"x": x}), forward(short, {"x": x[0]})
    assert {name: array.shape for name, array in expected.items()} == {"y": (1, 18), "tanh": (3, 6), "mean": ()}
    assert {name: array.shape for name, array in got.items()} == {"y": (18,), "tanh": (3, 6), "mean": ()}
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name].ravel(), array.ravel())
    assert short.graph.vertices["turned"].shape == (2, 3, 3)


def test_weights_are_parameters_and_what_is_known_is_worked_out():
    model = pcsim.from_onnx(small_network(), {"length": 3})
    assert {name: array.shape for name, array in model.parameters.items()} == {
        "W": (4, 6), "b": (6,), "place": (1, 3, 6),
    }  # fmt: skip
    assert model.inputs == {"x": (3, 4)}
    assert model.outputs == ("y", "tanh", "mean")


def test_a_written_document_runs_and_is_the_same_graph(tmp_path):
    file, target = tmp_path / "net.onnx", tmp_path / "out" / "net.yaml"
    file.write_bytes(small_network().SerializeToString())
    result = CliRunner().invoke(app, ["import", str(file), "-o", str(target), "--set", "length=3"])
    assert (result.exit_code, result.stderr) == (0, "")
    model = pcsim.from_onnx(file, {"length": 3})
    assert pcsim.load_graph(target).vertices == model.graph.vertices
    lines = target.read_text().splitlines()
    assert "  turned: {op: transpose, inputs: [split], axes: [1, 0, 2]}" in lines
    ran = CliRunner().invoke(app, ["run", str(target), "--json"])
    assert ran.exit_code == 0
    assert "net.yaml is a graph: its inputs and targets are drawn" in ran.stderr
    saved = pcsim.load({
        "graph": {"file": str(target)}, "inputs": {"x": 1.0}, "targets": dict.fromkeys(model.graph.outputs, 0.5),
        "rule": "zil", "level": "delay",
    })  # fmt: skip
    named = pcsim.load({
        "graph": {"file": str(file), "args": {"length": 3}}, "inputs": {"x": 1.0},
        "targets": dict.fromkeys(model.graph.outputs, 0.5), "rule": "zil", "level": "delay",
    })  # fmt: skip
    updates, gradients = pcsim.simulate(saved).updates, pcsim.gradients(named)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(updates[name], gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("command", ["run", "plan", "validate", "level"])
def test_files_of_models_and_graphs_are_taken_where_scenarios_are(command, tmp_path):
    file = tmp_path / "net.onnx"
    model = proto([node("Tanh", ["x"], "y")], [value("x", ["batch", 2])], [value("y", ["batch", 2])])
    file.write_bytes(model.SerializeToString())
    for each in (str(file), "graphs/mlp.yaml"):
        result = CliRunner().invoke(app, [command, each])
        assert result.exit_code == 0, result.output
        assert ("is a graph: its inputs and targets are drawn" in result.stderr) == (command in ("run", "plan"))


WRONG = {
    "an operator that is not read": (
        proto(
            [node("Tanh", ["x"], "h"), node("NonMaxSuppression", ["h"], "a"), node("Det", ["h"], "y")],
            [value("x", [1, 2])], [value("y", [])],
        ),
        ["node 'make_a' (NonMaxSuppression): is not among", "node 'make_y' (Det): is not among"],
    ),
    "a dimension that nothing fixes": (
        proto([node("Tanh", ["x"], "y")], [value("x", ["batch", "length"])], [value("y", ["batch", "length"])]),
        ["input 'x': nothing fixes its dimension 'length' (axis 1); give it: length=16"],
    ),
    "text": (
        proto([node("Identity", ["x"], "y")], [value("x", [1], STRING)], [value("y", [1], STRING)]),
        ["input 'x' holds text, expected numbers"],
    ),
    "a sequence": (
        proto([node("SequenceConstruct", ["x", "x"], "s"), node("Tanh", ["s"], "y")],
              [value("x", [1, 2])], [value("y", [2, 2])]),
        ["node 'make_y' (Tanh): takes a sequence, expected a tensor"],
    ),
    "shapes that do not fit": (
        proto([node("MatMul", ["x", "x"], "y")], [value("x", [2, 3])], [value("y", [2, 3])]),
        ["node 'make_y' (MatMul): op 'matmul' with inputs of shape (2, 3), (2, 3)"],
    ),
    "whole numbers that are computed": (
        proto([node("Div", ["x", "x"], "y")], [value("x", [2], INT64)], [value("y", [2], INT64)]),
        ["node 'make_y' (Div): computes with whole numbers or truth values while the model runs"],
    ),
    "a value that no node makes": (
        proto([node("Tanh", ["z"], "y")], [value("x", [2])], [value("y", [2])]),
        ["node 'make_y' (Tanh): takes 'z', which no node before it makes"],
    ),
    "a later opset": (
        proto([node("Tanh", ["x"], "y")], [value("x", [2])], [value("y", [2])], opset=99),
        ["the model has opset 99, expected opset 13 to 28"],
    ),
    "an older operator": (
        proto([node("Softmax", ["x"], "y")], [value("x", [2])], [value("y", [2])], opset=11),
        ["node 'make_y' (Softmax): is read from opset 13 on, and the model has 11"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_cannot_be_read_is_named(what, tmp_path):
    model, expected = WRONG[what]
    file = tmp_path / "model.onnx"
    file.write_bytes(model.SerializeToString())
    result = CliRunner().invoke(app, ["import", str(file), "-o", str(tmp_path / "graph.yaml")])
    assert result.exit_code == 2
    said = result.stderr.strip().splitlines()
    assert len(said) == len(expected)
    for line, text in zip(said, expected, strict=True):
        assert line.startswith(str(file))
        assert text in line


def test_a_damaged_file_is_named(tmp_path):
    file = tmp_path / "damaged.onnx"
    file.write_bytes(small_network().SerializeToString()[:-37])
    for content in (file.read_bytes(), b"", b"no model at all", bytes(range(256))):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged\.onnx: .*"):
            pcsim.from_onnx(file, {"length": 3})
    with pytest.raises(InputError, match="no such file"):
        pcsim.from_onnx(tmp_path / "missing.onnx")


def test_whatever_is_damaged_is_no_traceback():
    content, rng = small_network().SerializeToString(), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=2):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(InputError):
            pcsim.from_onnx(bytes(damaged), {"length": 3})


def test_names_of_constants_and_parameters_are_checked():
    with pytest.raises(InputError, match="no input or initialiser is named 'plaec'; did you mean 'place'"):
        pcsim.from_onnx(small_network(), {"length": 3}, constants=["plaec"])
    model = pcsim.from_onnx(small_network(), {"length": 3}, constants=["place"], parameters={"b": np.ones(6)})
    assert set(model.parameters) == {"W", "b"}
    assert model.parameters["b"].tolist() == [1.0] * 6


def test_single_numbers_are_constants_unless_they_are_named():
    model = proto([node("Mul", ["x", "half"], "y")], [value("x", [1, 2])], [value("y", [1, 2])], weights(half=0.5))
    assert dict(pcsim.from_onnx(model).parameters) == {}
    assert dict(pcsim.from_onnx(model, parameters=["half"]).parameters) == {"half": 0.5}


def test_weights_in_files_of_their_own(tmp_path):
    file = tmp_path / "net.onnx"
    onnx.save_model(small_network(), file, save_as_external_data=True, location="net.data", size_threshold=0)
    assert pcsim.from_onnx(file, {"length": 3}).parameters["W"].shape == (4, 6)
    (tmp_path / "net.data").unlink()
    with pytest.raises(InputError, match=r"tensor 'W' lies in 'net\.data', which cannot be read") as caught:
        pcsim.from_onnx(file, {"length": 3})
    assert len(caught.value.problems) >= 3


def test_names_of_dimensions_are_checked():
    with pytest.raises(InputError, match=r"no input has an open dimension 'lenght'; did you mean 'length'\?"):
        pcsim.from_onnx(small_network(), {"length": 3, "lenght": 3})
    with pytest.raises(InputError, match="dimension 'length': got 0, expected a positive whole number"):
        pcsim.from_onnx(small_network(), {"length": 0})


def test_branches_and_loops_are_written_out():
    body = helper.make_graph(
        [
            helper.make_node("Tanh", ["h"], ["h_next"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Identity", ["h_next"], ["seen"]),
        ],
        "body",
        [value("step", [], INT64), value("go", [], onnx.TensorProto.BOOL), value("h", [2])],
        [value("go_on", [], onnx.TensorProto.BOOL), value("h_next", [2]), value("seen", [2])],
    )
    go = onnx.numpy_helper.from_array(np.asarray(True), "yes")
    loop = helper.make_node("Loop", ["count", "yes", "x"], ["last", "all"], name="loop", body=body)
    model = proto([loop], [value("x", [2])], [value("last", [2]), value("all", [3, 2])], [*constants(count=3), go])
    x = RNG.normal(size=2)
    steps = [np.tanh(x), np.tanh(np.tanh(x)), np.tanh(np.tanh(np.tanh(x)))]
    found = forward(pcsim.from_onnx(model, batch_axis=None), {"x": x})
    np.testing.assert_allclose(found["all"], steps, rtol=1e-14)
    np.testing.assert_allclose(found["last"], steps[-1], rtol=1e-14)


def test_sequences_are_followed():
    model = proto(
        [
            node("SplitToSequence", ["x", "lengths"], "parts", axis=1),
            node("SequenceAt", ["parts", "second"], "part"),
            node("SequenceConstruct", ["part", "x"], "both"),
            node("ConcatFromSequence", ["both"], "y", axis=1),
        ],
        [value("x", [2, 5])], [value("y", [2, 8])], constants(lengths=[2, 3], second=1),
    )  # fmt: skip
    x = RNG.normal(size=(2, 5))
    (found,) = forward(pcsim.from_onnx(model, batch_axis=None), {"x": x}).values()
    np.testing.assert_array_equal(found, np.concatenate([x[:, 2:], x], axis=1))


def test_a_recurrent_layer_has_its_batch_behind_time():
    rng = np.random.default_rng(0)
    tensors = weights(W=rng.normal(size=(2, 16, 3)), R=rng.normal(size=(2, 16, 4)), B=rng.normal(size=(2, 32)))
    lstm = helper.make_node("LSTM", ["x", "W", "R", "B"], ["Y", "Y_h"], hidden_size=4, direction="bidirectional")
    outputs = [value("Y", [3, 2, "batch", 4]), value("Y_h", [2, "batch", 4])]
    model = proto([lstm], [value("x", [3, "batch", 3])], outputs, tensors, opset=22)
    short, literal = pcsim.from_onnx(model, batch_axis=1), pcsim.from_onnx(model, {"batch": 1}, batch_axis=None)
    x = rng.normal(size=(3, 1, 3))
    got, expected = forward(short, {"x": x[:, 0]}), forward(literal, {"x": x})
    assert {name: array.shape for name, array in got.items()} == {"Y": (3, 2, 4), "Y_h": (2, 4)}
    for name, array in expected.items():
        np.testing.assert_allclose(got[name].ravel(), array.ravel(), rtol=1e-13)
