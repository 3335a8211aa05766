"""PyTorch modules as graphs: forward values, gradients and updates are PyTorch's; what has no graph is named."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
from torch_models import QUICK, SLOW, batch_first, example, nn, torch

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.analysis.measures import blame
from pcsim.errors import InputError

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
    """Compare an import with PyTorch: forward values, backprop's gradients, and what zil learns, levelled.

    Return the updates and the gradients, by name.
    """
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
    for names in names_of_parameters(given.module):
        here = next(each for each in names if each in updates)
        gradient = wanted[names[0]]
        assert distance(reference.gradients[here], gradient) < TOLERANCE[dtype], here
        assert distance(updates[here], gradient) < TOLERANCE[dtype], here
    return updates, wanted


def names_of_parameters(module):
    """Return for each parameter the names that it has: several where it is shared."""
    found = {}
    for name, weight in module.named_parameters(remove_duplicate=False):
        found.setdefault(id(weight), []).append(name)
    return list(found.values())


def exported(given):
    return pcsim.from_torch(given.module, given.inputs, given.axis)


def as_onnx(given):
    """Return the model by way of ONNX, as PyTorch writes it, with weights under their own names."""
    pytest.importorskip("onnxscript", reason="PyTorch writes ONNX with onnxscript, which is not installed")
    onnx = pytest.importorskip("torch.onnx", reason="PyTorch is not installed")
    one = tuple(each.narrow(given.axis, 0, 1) for each in given.inputs)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = onnx.export(given.module, one, dynamo=True, optimize=False, verbose=False)
    return pcsim.from_onnx(program.model_proto, batch_axis=given.axis)


def learnt_unlevelled(given):
    """Return the largest distance from backprop of what zil learns without levelling, and the edges to blame."""
    given.module.double()
    given.inputs = tuple(each.double() for each in given.inputs)
    model = exported(given)
    _, targets, wanted = found_by_pytorch(given)
    scenario = scenario_of(model, given, targets, dtype="float64", level="none")
    updates = pcsim.simulate(scenario).updates
    return max(distance(updates[name], wanted[name]) for name in wanted), blame(scenario.task())


# -- what is imported is what PyTorch has ------------------------------------------------------------------


@pytest.mark.parametrize("name", QUICK)
def test_an_import_computes_and_learns_what_pytorch_does(name):
    updates, wanted = check(name, "float64", exported)
    assert set(updates) == set(wanted)


@pytest.mark.parametrize("name", ["mlp with skips", "gpt", "lstm, both ways", "vit"])
def test_an_import_computes_and_learns_what_pytorch_does_in_single_precision(name):
    check(name, "float32", exported)


@pytest.mark.parametrize("name", ["branches", "gpt", "gru, 2 layers both ways", "encoder, norm first"])
def test_so_does_an_import_by_way_of_onnx(name):
    check(name, "float64", as_onnx)


@pytest.mark.bench
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("road", [exported, as_onnx])
@pytest.mark.parametrize("name", [*QUICK, *SLOW])
def test_models_of_others_compute_and_learn_what_pytorch_does(name, road, dtype):
    """By hand: pytest -m bench tests/test_torch_models.py."""
    check(name, dtype, road)


# -- levels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "edge"), [("small resnet", "3.add"), ("encoder, norm first", "layers.0.add")])
def test_a_residual_network_that_is_not_levelled_differs_from_backprop_and_the_edge_is_named(name, edge):
    """Salvatori et al. 2022, table 1."""
    away, blamed = learnt_unlevelled(example(name))
    assert away > 1e-2
    assert any(each.endswith(f"->{edge}") for each in blamed)


@pytest.mark.parametrize("name", ["mlp", "small vgg", "rnn, many to one"])
def test_chains_and_a_network_that_reads_its_last_step_do_not(name):
    """Salvatori et al. 2022, table 1: constants, shared weights and an input that all steps read change nothing."""
    away, blamed = learnt_unlevelled(example(name))
    assert away < 1e-10
    assert blamed == []
