"""PyTorch modules as graphs: forward values, gradients and updates are PyTorch's; what has no graph is named."""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout

import numpy as np
import pytest
from torch_models import QUICK, SLOW, Example, batch_first, example, nn, torch
from typer.testing import CliRunner

import pcsim
from pcsim.analysis.backprop import backprop
from pcsim.analysis.exactness import blame
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.models.torch_reader import read_exported

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


def found_by_pytorch(given, away=1.0):
    """Return outputs, random targets, and minus the gradients of half the sum of squared differences."""
    outputs = given.run()
    arrays = [batch_first(each, axis, given.batch) for each, axis in zip(outputs, given.output_axes, strict=True)]
    rng = np.random.default_rng(3)
    targets = [array + rng.normal(scale=away, size=array.shape) for array in arrays]
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
    """Return the model by way of ONNX, as PyTorch writes it, with weights under their own names.

    In training a batch norm of one sample cannot be written, nor read: statistics are frozen.
    """
    given.module.eval()
    pytest.importorskip("onnxscript", reason="PyTorch writes ONNX with onnxscript, which is not installed")
    onnx = pytest.importorskip("torch.onnx", reason="PyTorch is not installed")
    one = tuple(each.narrow(given.axis, 0, 1) for each in given.inputs)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = onnx.export(given.module, one, dynamo=True, optimize=False, verbose=False)
    return pcsim.from_onnx(program.model_proto, batch_axis=given.axis)


def unlevelled(name):
    """Return a scenario that is not levelled, and the gradients that PyTorch finds."""
    given = example(name)
    given.module.double()
    given.inputs = tuple(each.double() for each in given.inputs)
    model = exported(given)
    _, targets, wanted = found_by_pytorch(given)
    return scenario_of(model, given, targets, dtype="float64", level="none"), wanted


def largest_distance(updates, wanted):
    return max(distance(updates[name], wanted[name]) for name in wanted)


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


LAYERS = [
    (nn.InstanceNorm1d(3, affine=True), (3, 4)), (nn.BatchNorm1d(3), (3,)), (nn.LSTMCell(4, 3), (4,)),
    (nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1, output_padding=1), (3, 4, 4)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 7, 7)), (nn.LocalResponseNorm(2), (3, 4, 4)),
    (nn.Upsample(scale_factor=2.5, mode="bilinear"), (2, 3, 3)), (nn.Fold((4, 4), 2, stride=2), (12, 4)),
]  # fmt: skip
MORE_LAYERS = [
    (nn.Conv1d(3, 4, 3, padding="same", dilation=2), (3, 7)), (nn.Conv3d(3, 4, 2), (3, 3, 3, 3)),
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), (2, 7, 7)), (nn.AdaptiveAvgPool2d((2, 3)), (2, 5, 7)),
    (nn.Unfold(2, padding=1), (3, 4, 4)), (nn.Upsample(size=(5, 7)), (2, 3, 3)), (nn.GroupNorm(3, 6), (6, 4)),
    (nn.RMSNorm(4), (3, 4)), (nn.LayerNorm(4, bias=False), (3, 4)), (nn.PReLU(3), (3, 4)), (nn.GLU(), (4,)),
    (nn.Softplus(2.0), (4,)), (nn.Threshold(0.1, 0), (4,)), (nn.ReflectionPad2d(1), (3, 4, 4)),
    (nn.PixelShuffle(2), (4, 2, 2)),
]  # fmt: skip
LAYERS += [pytest.param(*each, marks=pytest.mark.bench) for each in MORE_LAYERS]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=lambda each: getattr(each, "_get_name", str)())
def test_a_layer_computes_what_pytorch_does(layer, shape):
    """Samples are seen apart, unless the layer joins them. All: pytest -m bench tests/test_torch_models.py."""
    torch.manual_seed(5)
    given = Example(layer.double(), (torch.randn(2, *shape, dtype=torch.float64),))
    model = exported(given)
    outputs = [batch_first(each, 0, 2) for each in given.run()]
    scenario = scenario_of(model, given, [np.zeros_like(each) for each in outputs])
    errors = backprop(scenario.task()).errors
    for name, output in zip(model.outputs, outputs, strict=True):
        observed = name if name in scenario.graph.outputs else f"{name}.observed"
        assert distance(-errors[observed].reshape(output.shape), output) < 1e-12


# -- levels ------------------------------------------------------------------------------------------------


def test_a_residual_network_that_is_not_levelled_differs_from_backprop_and_the_edge_is_named():
    """Salvatori et al. 2022, table 1."""
    scenario, wanted = unlevelled("small resnet")
    assert largest_distance(pcsim.simulate(scenario).updates, wanted) > 1e-2
    assert blame(scenario.levelled, scenario.rule) == ["2->3.add", "3.relu.2->4.downsample.0"]


def test_a_transformer_that_is_not_levelled_does_not_even_stay_bounded():
    """Products of two values that both move too soon (attention) grow at each tick."""
    scenario, _ = unlevelled("encoder, norm first")
    with pytest.raises(
        pcsim.RunError, match=r"vertex 'layers.* grew beyond float64; zil is defined on levelled graphs"
    ):
        pcsim.simulate(scenario)
    assert "src->layers.0.add" not in blame(scenario.levelled, scenario.rule)
    assert "layers.0.add->layers.0.add.2" in blame(scenario.levelled, scenario.rule)


@pytest.mark.parametrize("name", ["mlp", "small vgg", "rnn, many to one"])
def test_chains_and_a_network_that_reads_its_last_step_need_no_levelling(name):
    """Salvatori et al. 2022, table 1: constants, shared weights and an input that all steps read change nothing."""
    scenario, wanted = unlevelled(name)
    assert largest_distance(pcsim.simulate(scenario).updates, wanted) < 1e-10
    assert blame(scenario.levelled, scenario.rule) == []


# -- what cannot be read is named --------------------------------------------------------------------------


def refused(module, *inputs, **options):
    """Return what the error of an import says."""
    with pytest.raises(InputError) as caught:
        pcsim.from_torch(module, inputs, **options)
    return [str(problem) for problem in caught.value.problems]


class Strange(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Tanh()
        self.register_buffer("calls", torch.zeros(3))

    def forward(self, x):
        self.calls += 1
        x = self.inner(x) * self.calls
        with torch.no_grad():
            x = x + x.tanh()
        return torch.special.bessel_j0(x), torch.rand(3) + x, x.detach(), x.cummax(-1)[0]


def test_all_that_has_no_translation_is_named_with_its_module_and_line():
    problems = refused(Strange(), torch.ones(1, 3))
    text = "\n".join(problems)
    for part in ("buffer 'calls'", "bessel_j0", "aten.rand: random numbers", "aten.detach", "aten.cummax", "no_grad"):
        assert part in text
    assert [each for each in problems if "in module at the top (Strange)" not in each] == []
    assert [each for each in problems if "test_torch_models.py" not in each and "no_grad" not in each] == []


class Deciding(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x


class Choosing(nn.Module):
    def forward(self, x):
        return x[x > 0]


def test_python_control_flow_and_shapes_that_depend_on_data_are_named():
    (problem,) = refused(Deciding(), torch.ones(1, 3))
    assert "Deciding cannot be traced" in problem
    assert "return x * 2 if x.sum() > 0 else x" in problem
    assert "torch.where" in problem
    (problem,) = refused(Choosing(), torch.ones(1, 3))
    assert "aten.gt: it has no translation, in module at the top (Choosing)" in problem
    (problem,) = refused(nn.Linear(3, 2), torch.ones(1, 4))
    assert "Linear cannot be traced" in problem


# -- files and details -------------------------------------------------------------------------------------


def saved(path, module, inputs, shapes=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)
    return path


def test_a_file_of_torch_export_is_imported_and_runs(tmp_path):
    """Weights are shared still, a batch of any size is one sample, and an open extent is named or given."""
    given = example("gpt")
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    file = saved(tmp_path / "gpt.pt2", given.module, given.inputs, ({0: batch},))
    made = CliRunner().invoke(app, ["import", str(file), "-o", str(tmp_path / "gpt.yaml")])
    assert made.exit_code == 0, made.output
    assert "inputs tokens (5,)" in made.output
    assert set(pcsim.load_graph(tmp_path / "gpt.yaml").parameters) == {
        name for name, _ in given.module.named_parameters()
    }
    assert CliRunner().invoke(app, ["run", str(tmp_path / "gpt.yaml")]).exit_code == 0
    file = saved(tmp_path / "any.pt2", nn.Tanh(), (torch.ones(2, 4),), ({0: batch, 1: length},))
    with pytest.raises(InputError, match=r"axis 1 of 'input' is open, its name is s\d+: give it") as caught:
        read_exported(file)
    name = str(caught.value).split("its name is ")[1].split(":")[0]
    assert read_exported(file, {name: 6}).inputs == {"input": (6,)}
    with pytest.raises(InputError, match="no open extent"):
        read_exported(file, {name: 6, "width": 3})


def test_a_damaged_file_is_one_message(tmp_path):
    path = tmp_path / "model.pt2"
    path.write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"no file that torch\.export\.save wrote"):
        read_exported(path)


def test_training_and_evaluation_are_as_the_module_says():
    """Dropout is drawn or left out; statistics are the batch's or frozen, and come along."""
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.3))
    nn.init.uniform_(module[1].running_mean)
    training = pcsim.from_torch(module, torch.ones(1, 3)).plain["vertices"]
    assert [entry["op"] for entry in training.values()] == ["input", "affine", "batch_norm", "dropout"]
    assert "statistics" not in training["1"]
    model = pcsim.from_torch(module.eval(), torch.ones(1, 3))
    assert [entry["op"] for entry in model.plain["vertices"].values()] == ["input", "affine", "batch_norm"]
    assert model.plain["vertices"]["1"]["statistics"] == "frozen"
    assert np.array_equal(model.parameters["1.running_mean"], module[1].running_mean)


def test_weights_that_ask_for_no_gradient_are_constants_where_they_are_inputs():
    module = example("mlp with skips").module
    module.gain.requires_grad_(False)
    model = pcsim.from_torch(module, torch.ones(1, 5))
    assert "gain" not in model.parameters
    assert model.plain["vertices"]["multiply"]["inputs"] == ["last", "constant"]


def test_an_example_without_a_batch_is_taken_as_it_is():
    model = pcsim.from_torch(nn.Linear(3, 2), torch.ones(4, 3), batch_axis=None)
    assert model.inputs == {"input": (4, 3)}
