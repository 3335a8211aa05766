"""Models made elsewhere: how a document is built of them, and how it stands in a scenario."""

from __future__ import annotations

import numpy as np
import pytest

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
