"""PyTorch modules as graphs: forward values, gradients and updates are PyTorch's; what has no graph is named."""

from __future__ import annotations

import numpy as np
import pytest
from torch_models import QUICK, batch_first, example, torch

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.models.torch_reader import from_torch

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


def scenario_of(model, given, targets, **more):
    """Return a scenario that runs a model on data that a module was given."""
    inputs = {
        name: batch_first(tensor, given.axis, given.batch).reshape(given.batch, *shape)
        for (name, shape), tensor in zip(model.inputs.items(), given.inputs, strict=True)
    }
    shapes = {name: model.graph.vertices[name].shape for name in model.outputs}
    wanted = {
        name: target.reshape(given.batch, *shapes[name]) for name, target in zip(model.outputs, targets, strict=True)
    }
    return pcsim.load(
        {"graph": model, "inputs": inputs, "targets": wanted, "batch": given.batch, "rule": "zil", **more}
    )


def found_by_pytorch(given):
    """Return outputs, random targets, and minus the gradients of half the sum of squared differences."""
    outputs = given.run()
    arrays = [batch_first(each, axis, given.batch) for each, axis in zip(outputs, given.output_axes, strict=True)]
    rng = np.random.default_rng(3)
    targets = [array + rng.normal(size=array.shape) for array in arrays]
    wanted = [
        torch.as_tensor(np.moveaxis(target.reshape(np.moveaxis(each.detach().numpy(), axis, 0).shape), 0, axis))
        for target, each, axis in zip(targets, outputs, given.output_axes, strict=True)
    ]
    loss = sum(((each - target) ** 2).sum() / 2 for each, target in zip(outputs, wanted, strict=True))
    loss.backward()
    named = given.module.named_parameters()
    return arrays, targets, {name: -weight.grad.numpy() for name, weight in named if weight.requires_grad}


def distance(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def check(name, dtype, road):
    """Compare an import with PyTorch: forward values, backprop's gradients, and what zil learns, levelled."""
    given = example(name)
    given.module.to(getattr(torch, dtype))
    given.inputs = tuple(each.to(getattr(torch, dtype)) if each.is_floating_point() else each for each in given.inputs)
    model = road(given)
    outputs, targets, wanted = found_by_pytorch(given)
    scenario = scenario_of(model, given, targets, dtype=dtype, level="delay")
    reference = backprop(scenario.task())
    for output, target, array in zip(model.outputs, targets, outputs, strict=True):
        observed = output if output in scenario.graph.outputs else f"{output}.observed"
        assert distance(target - reference.errors[observed].reshape(target.shape), array) < TOLERANCE[dtype]
    updates = pcsim.simulate(scenario).updates
    assert set(updates) == set(wanted)
    for parameter, gradient in wanted.items():
        assert distance(reference.gradients[parameter], gradient) < TOLERANCE[dtype], parameter
        assert distance(updates[parameter], gradient) < TOLERANCE[dtype], parameter


def exported(given):
    return from_torch(given.module, given.inputs, given.axis)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", QUICK)
def test_an_import_computes_and_learns_what_pytorch_does(name, dtype):
    check(name, dtype, exported)
