"""Resizing agrees with ONNX's reference, in every mode, and with PyTorch's interpolation."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from pcsim.ops import OPS, complete
from pcsim.ops.resizing import COORDINATES, ROUNDING

CLOSE = {
    "nearest": {"rtol": 0},
    "linear": {"rtol": 1e-12, "atol": 1e-14},
    "cubic": {"rtol": 1e-5, "atol": 1e-5},
}
"""ONNX's reference makes cubic weights in float32; PyTorch's, in float64, are compared in tests/test_ops_torch.py."""
SCALES = [(2.0, 1.5), (0.6, 0.5), (1.0, 0.3), (0.2, 3.0)]


def resized(x, **attributes):
    call = complete(OPS["resize"], (x.shape,), attributes)
    mu, _ = OPS["resize"].forward(np, call, {}, (x[None, None],))
    return mu[0, 0]


def of_onnx(x, scales=None, size=None, roi=None, **attributes):
    helper = pytest.importorskip("onnx", reason="onnx is not installed").helper
    from onnx.reference import ReferenceEvaluator

    given = {"r": roi, "s": scales, "z": size}
    names = [name if value is not None else "" for name, value in given.items()]
    node = helper.make_node("Resize", ["x", *names], ["y"], **attributes)
    infos = [helper.make_tensor_value_info(name, 1, None) for name in ["x", *filter(None, names)]]
    graph = helper.make_graph([node], "g", infos, [helper.make_tensor_value_info("y", 1, None)])
    kinds = {"r": np.float64, "s": np.float64, "z": np.int64}
    feeds = {name: np.asarray(value, kinds[name]) for name, value in given.items() if value is not None}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    return ReferenceEvaluator(model).run(None, {"x": x, **feeds})[0]


X = np.random.default_rng(0).normal(size=(5, 4))


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("how", sorted(set(COORDINATES) - {"tf_crop_and_resize"}))
def test_values_between_elements_are_those_of_onnx(how, mode, scales):
    for antialias, exclude in product((0, 1), (0, 1)):
        got = resized(X, scales=scales, mode=mode, coordinates=how, antialias=bool(antialias),
                      exclude_outside=bool(exclude), cubic_coefficient=-0.5)  # fmt: skip
        want = of_onnx(X, scales, mode=mode, coordinate_transformation_mode=how, antialias=antialias,
                       exclude_outside=exclude, cubic_coeff_a=-0.5)  # fmt: skip
        np.testing.assert_allclose(got, want, **CLOSE[mode])


@pytest.mark.parametrize("scales", SCALES, ids=str)
@pytest.mark.parametrize("rounding", sorted(ROUNDING))
@pytest.mark.parametrize("how", sorted(set(COORDINATES) - {"tf_crop_and_resize"}))
def test_nearest_elements_are_those_of_onnx(how, rounding, scales):
    want = of_onnx(X, scales, mode="nearest", coordinate_transformation_mode=how, nearest_mode=rounding)
    np.testing.assert_array_equal(resized(X, scales=scales, coordinates=how, rounding=rounding), want)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_parts_that_reach_beyond_the_ends_are_those_of_onnx(mode):
    got = resized(X, size=[3, 6], mode=mode, coordinates="tf_crop_and_resize", roi=[[0.4, 1.2], [-0.3, 0.7]],
                  extrapolation=10.0)  # fmt: skip
    want = of_onnx(X, size=[3, 6], roi=[0.4, -0.3, 1.2, 0.7], mode=mode, extrapolation_value=10.0,
                   coordinate_transformation_mode="tf_crop_and_resize")  # fmt: skip
    np.testing.assert_allclose(got, want, **CLOSE[mode])


@pytest.mark.parametrize(("aspect", "size"), [("not_larger", [7, 8]), ("not_smaller", [7, 8]), ("stretch", [3, 9])])
def test_one_factor_for_all_axes_is_that_of_onnx(aspect, size):
    got = resized(X, size=size, axes=[1, 0], mode="linear", aspect=aspect)
    want = of_onnx(X, size=size, axes=[1, 0], mode="linear", keep_aspect_ratio_policy=aspect)
    np.testing.assert_allclose(got, want, rtol=1e-12)
