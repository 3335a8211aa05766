"""PyTorch modules that come by ONNX files: forward values, gradients and updates are PyTorch's."""

from __future__ import annotations

import logging
import warnings

import pytest
from model_checks import forward
from test_torch_models import check, distance
from torch_models import example, torch

import pcsim

pytest.importorskip("onnxscript", reason="PyTorch writes ONNX files by onnxscript, which is not installed")


def written(given, file, *, optimize=False):
    """Write a module with a batch of one sample; weights keep their names unless it is optimized."""
    inputs = tuple(each.narrow(given.axis, 0, 1) for each in given.inputs)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(given.module.eval(), inputs, str(file), dynamo=True, optimize=optimize, verbose=False)
    return inputs


NAMES = ("mlp with skips", "branches", "lstm, both ways", "gru", "encoder, norm first", "vit")


@pytest.mark.parametrize("name", NAMES)
def test_an_import_by_onnx_computes_and_learns_what_pytorch_does(name, tmp_path):
    def by_onnx(given):
        written(given, tmp_path / "module.onnx")
        buffers = [name for name, _ in given.module.named_buffers()]
        return pcsim.from_onnx(tmp_path / "module.onnx", constants=buffers, batch_axis=given.axis)

    check(name, "float64", by_onnx)


def test_resnet18_by_onnx_computes_what_onnxruntime_does(tmp_path):
    """Batch normalisation is an op of its own, or merged with convolutions where PyTorch optimizes the file."""
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    file, given = tmp_path / "resnet18.onnx", example("resnet18, frozen")
    for module in given.module.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    for optimize in (False, True):
        (x,) = written(given, file, optimize=optimize)
        session = runtime.InferenceSession(file)
        (expected,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        model = pcsim.from_onnx(file)
        assert model.inputs == {"x": tuple(x.shape[1:])}
        assert [entry["op"] for entry in model.plain["vertices"].values()].count("conv") == 20
        (found,) = forward(model, {"x": x[0].numpy()}, "float32").values()
        assert distance(found, expected[0]) < 1e-5
