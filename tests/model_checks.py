"""What tests of models made elsewhere share: the values that a model's outputs have."""

from __future__ import annotations

import numpy as np

import pcsim
from pcsim.analysis.backprop import sweep


def forward(model, inputs, dtype="float64"):
    """Return {output: array} of a feedforward sweep; inputs are arrays of the vertices' shapes, without a batch."""
    vertices = model.graph.vertices
    outputs = dict(zip(model.outputs, observed(model), strict=True))
    scenario = pcsim.load({
        "graph": model,
        "inputs": {name: np.asarray(array)[None] for name, array in inputs.items()},
        "targets": {name: np.zeros((1, *vertices[name].shape)) for name in outputs.values()},
        "rule": "bp",
        "dtype": dtype,
    })  # fmt: skip
    values = sweep(scenario.task())
    return {name: values[vertex].mu[0, 0] for name, vertex in outputs.items()}


def observed(model):
    """Return the outputs of a model's graph in the order of the model."""
    return [name if name in model.graph.outputs else f"{name}.observed" for name in model.outputs]
