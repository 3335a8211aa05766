"""Models made elsewhere: how a document is built of them, and how it stands in a scenario."""

from __future__ import annotations

import numpy as np
import pytest
from model_checks import forward

import pcsim
from pcsim.errors import InputError
from pcsim.models.builder import Builder


def small_model():
    builder = Builder("small")
    x = builder.input("x", (1, 3))
    weight = builder.parameter("W", np.arange(6.0).reshape(2, 3))
    hidden = builder.vertex("affine", [x], {"units": 2, "bias": False}, params={"weight": weight}, name="hidden")
    known = builder.vertex("tanh", [np.ones((1, 2))])
    return builder.model({"y": builder.vertex("add", [hidden, known, builder.parameter("b", np.ones(2))], name="y")})


def test_what_is_known_is_worked_out_and_parameters_are_vertices_where_they_are_inputs():
    model = small_model()
    vertices = model.plain["vertices"]
    assert {name: entry["op"] for name, entry in vertices.items()} == {
        "x": "input", "hidden": "affine", "constant": "constant", "b": "parameter", "y": "add",
    }  # fmt: skip
    assert vertices["constant"]["value"] == np.tanh(1)
    assert repr(model) == "Model('small', inputs x (1, 3), outputs y, 5 vertices, 2 parameters of 8 numbers)"


def test_a_model_may_stand_for_the_graph_of_a_scenario():
    model = small_model()
    scenario = pcsim.load({"graph": model, "inputs": {"x": [[1, 2, 3]]}, "targets": {"y": [[0, 0]]}, "rule": "zil"})
    assert scenario.graph == model.graph
    parameters = scenario.parameters()
    assert {name: parameters[name].tolist() for name in parameters} == {
        name: array.tolist() for name, array in model.parameters.items()
    }


def test_what_does_not_fit_is_named():
    builder = Builder()
    x = builder.input("x", (1, 3))
    with pytest.raises(InputError, match=r"'W' has shape \[2, 2\], expected \[2, 3\]"):
        builder.vertex(
            "affine", [x], {"units": 2, "bias": False}, params={"weight": builder.parameter("W", np.ones((2, 2)))}
        )
    with pytest.raises(InputError, match="the exponent must be known: 'x' is computed while the model runs"):
        builder.value(x, "the exponent")


def with_batch(axis):
    """Return a model in which the batch axis is needed by one vertex, and comes back behind a product without it."""
    builder, rng = Builder(), np.random.default_rng(0)
    x = builder.input("x", (1, 4, 6))
    place = builder.parameter("place", rng.normal(size=(1, 4, 6)))
    h = builder.vertex("multiply", [builder.vertex("add", [x, place], name="h"), rng.normal(size=(1, 4, 1))])
    joined = builder.vertex("concat", [h, builder.parameter("token", rng.normal(size=(1, 1, 6)))], {"axis": -2})
    over_batch = builder.vertex("cumsum", [h], {"axis": 0}, name="over_batch")
    merged = builder.vertex("tanh", [builder.vertex("reshape", [joined], {"shape": [5, 6]})], name="merged")
    again = builder.vertex("reshape", [merged], {"shape": [1, 5, 6]}, name="again")
    total = builder.vertex("sum", [again], {"axis": [0, 2]}, name="total")
    heads = builder.vertex(
        "transpose", [builder.vertex("reshape", [again], {"shape": [1, 5, 2, 3]})], {"axes": [0, 2, 1, 3]}
    )
    scores = builder.vertex("einsum", [heads, heads], {"equation": "bhik,bhjk->bhij"}, name="scores")
    outputs = {"over_batch": over_batch, "total": total, "scores": builder.vertex("softmax", [scores], {"axis": 3})}
    return builder.model(outputs, axis)


def test_the_batch_axis_stays_only_where_it_is_needed():
    literal, short = with_batch(None), with_batch(0)
    x = np.random.default_rng(1).normal(size=(1, 4, 6))
    expected, got = forward(literal, {"x": x}), forward(short, {"x": x[0]})
    for name, array in expected.items():
        np.testing.assert_allclose(got[name].ravel(), array.ravel(), rtol=1e-14)
    shapes = {name: vertex.shape for name, vertex in short.graph.vertices.items()}
    assert shapes["over_batch"] == (1, 4, 6)
    assert (shapes["h"], shapes["merged"], shapes["total"], shapes["scores"]) == ((4, 6), (5, 6), (5,), (2, 5, 5))
    assert short.parameters["place"].shape == (1, 4, 6)
    added = {name for name in short.graph.vertices if name not in literal.graph.vertices}
    assert {name for name in added if "constant" not in name} == {
        "place.reshaped",
        "token.reshaped",
        "multiply.reshaped",
    }


def test_large_constants_and_indices_are_written_beside_the_document(tmp_path):
    builder = Builder("large $constants")
    x = builder.input("x", (8, 3))
    mask = builder.vertex("add", [x, np.arange(24.0).reshape(8, 3)])
    taken = builder.vertex("gather", [mask], {"indices": np.arange(20) % 8}, name="$taken")
    model = builder.model({"y": taken})
    paths = model.save(tmp_path / "large.yaml")
    assert [path.name for path in paths] == ["large.yaml", "large.npz"]
    text = paths[0].read_text()
    assert "$$taken: {op: gather, inputs: [add], indices: {file: large.npz, key: $$taken.indices}}" in text
    assert "constant: {op: constant, value: {file: large.npz, key: constant.value}}" in text
    assert pcsim.load_graph(paths[0]) == model.graph
