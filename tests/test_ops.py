"""Every op: adjoint test, agreement with HIPS autograd, shapes, number formats, domains, attributes.

An op without a case here fails the suite. The references are written for one sample, in autograd's NumPy,
and know nothing of stack and batch: the harness loops over both and adds up what was broadcast.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import elementwise_grad, make_vjp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from op_case import Case
from op_cases_convolution import CONVOLUTION
from op_cases_functions import FUNCTION_CASES, FUNCTIONS, RANGES
from op_cases_structure import STRUCTURE, STRUCTURE_REFUSED

from pcsim.errors import InputError
from pcsim.ops import ACTIVATIONS, LOSSES, OPS, Call, complete, parse_attributes, table
from pcsim.ops.elementwise import UNARY
from pcsim.ops.synapses.synapse import arranged

STACK, BATCH = 3, 4


def log_softmax(x, axis=-1):
    return x - anp.log(anp.sum(anp.exp(x), axis=axis, keepdims=True))


def affine_case(activation, convention, bias, shape=(3,)):
    f = FUNCTIONS["identity" if activation == "none" else activation]

    def reference(params, x):
        b = params["bias"] if bias else 0.0
        if convention == "f(Wx+b)":
            return f(anp.dot(x, params["weight"].T) + b)
        return anp.dot(f(x), params["weight"].T) + b

    attributes = {"units": 2, "activation": activation, "convention": convention, "bias": bias}
    return Case("affine", (shape,), reference, attributes)


def projection_case(synapses, **attributes):
    f = FUNCTIONS[attributes.get("activation", "identity")]
    place = [synapses.delays.index(delay) for delay in synapses.delay]

    def reference(params, *x):
        dense = [anp.zeros((synapses.units, synapses.fan_out)) for _ in x]
        for n, k in enumerate(place):
            one = np.zeros((synapses.units, synapses.fan_out))
            one[synapses.post[n], synapses.pre[n]] = 1.0
            dense[k] = dense[k] + params["weight"][n] * one
        z = sum(anp.dot(w, inner) for w, inner in zip(dense, x, strict=True))
        return f(z + params["bias"] if "bias" in params else z)

    shapes = ((synapses.fan_out,),) * len(synapses.delays)
    return Case("projection", shapes, reference, {"units": synapses.units, "synapses": synapses, **attributes})


# neuron 2 before feeds nobody, neuron 1 after hears nobody, one pair has two synapses
SYNAPSES = arranged(np.array([0, 1, 1, 3, 0]), np.array([0, 2, 2, 0, 2]), np.array([0, 1, 4, 0, 4]), fan_out=4, units=3)
AT_ONCE = arranged(np.array([0, 1, 1, 3]), np.array([0, 2, 2, 0]), 2, fan_out=4, units=3)
PROJECTIONS = [
    projection_case(SYNAPSES, activation="tanh"),
    projection_case(SYNAPSES, bias=False),
    projection_case(AT_ONCE),
    projection_case(AT_ONCE, activation="sigmoid", bias=False),
]


def neuron_case(activation, bias, shape=(), inputs=3):
    f = FUNCTIONS["identity" if activation == "none" else activation]

    def reference(params, *x):
        z = sum(params["weight"][k] * inner for k, inner in enumerate(x))
        return f(z + params["bias"] if bias else z)

    return Case("weighted_sum", (shape,) * inputs, reference, {"activation": activation, "bias": bias})


NEURONS = [
    *(neuron_case(activation, bias) for activation, bias in product(["none", "tanh"], [True, False])),
    neuron_case("sigmoid", True, (2, 3), inputs=2),
    neuron_case("none", False, (2,), inputs=1),
]
AFFINES = [
    affine_case(*setting)
    for setting in [
        *product(["none", "relu", "sigmoid", "tanh"], ["f(Wx+b)", "W f(x)+b"], [True, False]),
        *product(sorted(set(ACTIVATIONS) - {"none", "relu", "sigmoid", "tanh"}), ["f(Wx+b)"], [True]),
    ]
] + [affine_case("tanh", convention, True, (2, 4, 3)) for convention in ["f(Wx+b)", "W f(x)+b"]]


def residual_case(activation, divisor, skip, shape=(3,)):
    f = FUNCTIONS["identity" if activation == "none" else activation]

    def reference(params, x):
        weighted = anp.dot(f(x), params["weight"].T) / divisor**0.5
        return x + weighted if skip else weighted

    attributes = {"units": 3 if skip else 2, "activation": activation, "divisor": divisor, "skip": skip}
    return Case("residual", (shape,), reference, attributes)


RESIDUALS = [residual_case(*each) for each in product(["none", "tanh", "relu"], [1, 12], [True, False])]
RESIDUALS.append(residual_case("tanh", 5, True, (2, 4, 3)))
ARITHMETIC = [
    case
    for a, b in [((), ()), ((3,), (3,)), ((2, 3), (3,)), ((1, 3), (2, 1)), ((), (2, 3))]
    for case in [
        Case("add", (a, b), lambda params, x, y: x + y),
        Case("subtract", (a, b), lambda params, x, y: x - y),
        Case("multiply", (a, b), lambda params, x, y: x * y),
        Case("divide", (a, b), lambda params, x, y: x / y, low=0.5),
        Case("power", (a, b), lambda params, x, y: anp.exp(y * anp.log(x)), low=0.5),
    ]
]
MATMULS = [
    Case("matmul", (a, b), lambda params, x, y: anp.dot(x, y))
    for a, b in [((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((3,), (3,))]
]
REDUCTIONS = [
    Case(name, (shape,), lambda params, x, f=f, how=how: f(x, **how), how)
    for name, f in [("sum", anp.sum), ("mean", anp.mean)]
    for shape, axis in [((), None), ((2, 3), None), ((2, 3), 0), ((2, 3, 4), (-1, 0))]
    for how in [{"axis": axis, "keepdims": False}, {"axis": axis, "keepdims": True}]
]
CASES = [
    *CONVOLUTION,
    *FUNCTION_CASES,
    *STRUCTURE,
    *AFFINES,
    *RESIDUALS,
    *ARITHMETIC,
    *MATMULS,
    *PROJECTIONS,
    *NEURONS,
    Case("add", ((2, 3), (3,), ()), lambda params, x, y, z: x + y + z),
    Case("multiply", ((2, 3), (3,), ()), lambda params, x, y, z: x * y * z),
    Case("power", ((3,),), lambda params, x: x * x * x, {"exponent": 3}),
    Case("power", ((3,),), lambda params, x: 1 / (x * x), {"exponent": -2}, low=0.5),
    Case("power", ((3,),), lambda params, x: anp.sqrt(x), {"exponent": 0.5}, low=0.5),
    Case("power", ((3,),), lambda params, x: x * 0.0 + 1.0, {"exponent": 0}),
    *REDUCTIONS,
    Case("concat", ((3,),), lambda params, x: 1.0 * x),
    Case("concat", ((3,), (1,), (2,)), lambda params, *x: anp.concatenate(x)),
    Case("concat", ((2, 3), (2, 1)), lambda params, *x: anp.concatenate(x, axis=1), {"axis": -1}),
    Case("slice", ((5,),), lambda params, x: x[1:4], {"start": 1, "stop": 4}),
    Case("slice", ((5,),), lambda params, x: x[::-2], {"step": -2}),
    Case("slice", ((2, 5),), lambda params, x: x[:, -2:], {"start": -2, "stop": None, "axis": -1}),
    Case("reshape", ((2, 3),), lambda params, x: anp.reshape(x, (3, 2)), {"shape": [3, -1]}),
    Case("reshape", ((1, 1),), lambda params, x: anp.reshape(x, ()), {"shape": []}),
    Case("transpose", ((2, 3, 4),), lambda params, x: anp.transpose(x)),
    Case("transpose", ((2, 3, 4),), lambda params, x: anp.transpose(x, (1, 2, 0)), {"axes": [1, -1, 0]}),
    Case("softmax", ((3,),), lambda params, x: anp.exp(x) / anp.sum(anp.exp(x))),
    Case("softmax", ((3, 2),), lambda params, x: anp.exp(log_softmax(x, 0)), {"axis": 0}),
    Case("log_softmax", ((3,),), lambda params, x: log_softmax(x)),
    Case("log_softmax", ((3, 2),), lambda params, x: log_softmax(x, 0), {"axis": 0}),
]  # fmt: skip
SOURCES = {
    "input": ({"shape": [2, 3]}, (2, 3)),
    "constant": ({"value": [[1, 2, 3.5]]}, (1, 3)),
    "parameter": ({"shape": []}, ()),
}

Layout = tuple[dict[str, int], tuple[tuple[int, int], ...]]


def layouts(case: Case) -> list[Layout]:
    """Return the leading extents to try: the stack of each parameter, (stack, batch) of each input."""
    count, names = len(case.shapes), list(OPS[case.op].params(case.call))
    found: list[Layout] = []
    for stacks in product([1, STACK], repeat=len(names)):
        params = dict(zip(names, stacks, strict=True))
        full = [(STACK, BATCH)] * count
        found += [(params, tuple(full)), (params, ((1, BATCH),) * count), (params, ((1, 1),) * count)]
        for i, extents in product(range(count), [(STACK, 1), (1, BATCH), (1, 1)]):
            found.append((params, (*full[:i], extents, *full[i + 1 :])))
    return found


SITUATIONS = [pytest.param(case, layout, id=f"{case}-{i}") for case in CASES for i, layout in enumerate(layouts(case))]
every_situation = pytest.mark.parametrize(("case", "layout"), SITUATIONS)
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def draw(case: Case, layout: Layout, dtype: Any = np.float64) -> tuple[dict[str, Any], tuple[Any, ...]]:
    rng = np.random.default_rng(7)
    specs = OPS[case.op].params(case.call)
    params = {k: rng.uniform(-1, 1, (n, *specs[k].shape)).astype(dtype) for k, n in layout[0].items()}
    extents = [(*front, *shape) for front, shape in zip(layout[1], case.shapes, strict=True)]
    inputs = tuple(
        rng.integers(0, case.below, extent)
        if is_whole(case, number)
        else rng.uniform(case.low, case.high, extent).astype(dtype)
        for number, extent in enumerate(extents)
    )
    return params, inputs


def is_whole(case: Case, number: int) -> bool:
    """Return whether an input takes whole numbers: no derivative returns over it."""
    return OPS[case.op].slot(number).format == "whole"


def error_of(case: Case, dtype: Any = np.float64) -> Any:
    """Return an error of full extent, whatever was broadcast."""
    return np.random.default_rng(8).normal(size=(STACK, BATCH, *case.call.shape)).astype(dtype)


def derivatives(case, params, inputs, g):
    op, call = OPS[case.op], case.call
    mu, saved = op.forward(np, call, params, inputs)
    known = (np, call, params, inputs, mu, saved, g)
    return mu, op.to_inputs(*known), op.to_params(*known)


def at(array: Any, *index: int) -> tuple[int, ...]:
    """Return a (stack, batch) index, or a stack index, where an extent of 1 stands for all."""
    return tuple(i if extent > 1 else 0 for i, extent in zip(index, array.shape, strict=False))


def reference(case, params, inputs, g):
    """Return value and derivatives sample by sample, added up where an operand is broadcast."""
    mu = np.zeros((STACK, BATCH, *case.call.shape))
    floats = [number for number in range(len(inputs)) if not is_whole(case, number)]
    to_inputs = tuple(np.zeros_like(x) if number in floats else None for number, x in enumerate(inputs))
    to_params = {name: np.zeros_like(value) for name, value in params.items()}
    for s, b in np.ndindex(STACK, BATCH):
        own = {name: value[at(value, s)] for name, value in params.items()}
        taken = [x[at(x, s, b)] for x in inputs]

        def value(own, some, taken=taken):
            known = dict(zip(floats, some, strict=True))
            return case.reference(own, *(known.get(number, x) for number, x in enumerate(taken)))

        sample = own, tuple(taken[number] for number in floats)
        pull, mu[s, b] = make_vjp(lambda both, value=value: value(*both))(sample)
        back_params, back_inputs = pull(g[s, b])
        for number, part in zip(floats, back_inputs, strict=True):
            to_inputs[number][at(inputs[number], s, b)] += part
        for name, part in back_params.items():
            to_params[name][at(params[name], s)] += part
    return mu, to_inputs, to_params


INDEXING = {"gather_nd", "scatter_nd", "one_hot"}
ELSEWHERE = {"batch_norm", "dropout", "embedding", *INDEXING}
"""Ops of the whole batch, and of whole numbers: tests/test_batch_ops.py, tests/test_indexing.py."""


def test_every_row_has_a_case():
    assert {case.op for case in CASES} | set(SOURCES) | ELSEWHERE == set(OPS)
    assert set(FUNCTIONS) == set(UNARY)
    assert set(FUNCTIONS) - set(RANGES) - {"clip"} | {"none"} == set(ACTIVATIONS)
    assert all(row.summary and row.name == name for name, row in (OPS | LOSSES).items())


@every_situation
def test_agrees_with_autograd(case, layout):
    params, inputs = draw(case, layout)
    g = error_of(case)
    mu, to_inputs, to_params = derivatives(case, params, inputs, g)
    want_mu, want_inputs, want_params = reference(case, params, inputs, g)
    close = {"rtol": 1e-12, "atol": 1e-13}
    np.testing.assert_allclose(np.broadcast_to(mu, want_mu.shape), want_mu, **close)
    assert len(to_inputs) == len(inputs)
    for got, want in zip(to_inputs, want_inputs, strict=True):
        assert (got is None) == (want is None)
        if want is not None:
            assert got.shape == want.shape
            np.testing.assert_allclose(got, want, **close)
    assert to_params.keys() == params.keys()
    for name, want in want_params.items():
        assert to_params[name].shape == want.shape
        np.testing.assert_allclose(to_params[name], want, **close)


@every_situation
def test_adjoint(case, layout):
    """<w, J v> = <J^T w, v>, with J v by central differences."""
    params, inputs = draw(case, layout)
    rng, step, w = np.random.default_rng(9), 1e-6, error_of(case)
    v_params = {name: rng.normal(size=value.shape) for name, value in params.items()}
    v_inputs = tuple(rng.normal(size=x.shape) * (not is_whole(case, number)) for number, x in enumerate(inputs))

    def along(h):
        moved = {name: value + h * v_params[name] for name, value in params.items()}
        both = tuple((x + h * v).astype(x.dtype) for x, v in zip(inputs, v_inputs, strict=True))
        return OPS[case.op].forward(np, case.call, moved, both)[0]

    _, to_inputs, to_params = derivatives(case, params, inputs, w)
    left = np.sum(w * (along(step) - along(-step))) / (2 * step)
    right = sum(np.sum(d * v) for d, v in zip(to_inputs, v_inputs, strict=True) if d is not None)
    right += sum(np.sum(to_params[name] * v) for name, v in v_params.items())
    np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)


@every_case
def test_shape_rule_agrees_with_forward(case):
    params, inputs = draw(case, layouts(case)[0])
    mu, _ = OPS[case.op].forward(np, case.call, params, inputs)
    assert mu.shape == (STACK, BATCH, *case.call.shape)


@every_case
def test_float32_stays(case):
    params, inputs = draw(case, layouts(case)[-1], np.float32)
    op, g = OPS[case.op], error_of(case, np.float32)
    mu, saved = op.forward(np, case.call, params, inputs)
    _, to_inputs, to_params = derivatives(case, params, inputs, g)
    found = [a for a in (mu, *saved, *to_inputs, *to_params.values()) if a is not None and a.dtype.kind == "f"]
    assert {a.dtype for a in found} == {np.dtype(np.float32)}


@every_case
def test_calls_are_hashable(case):
    assert len({case.call, case.call}) == 1


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_identity_layers_keep_nothing(name):
    """What is kept for the derivatives is the slope alone, and nothing where it is 1."""
    case = affine_case(name, "f(Wx+b)", True)
    _, saved = OPS["affine"].forward(np, case.call, *draw(case, layouts(case)[0]))
    assert len(saved) == (ACTIVATIONS[name].slope is not None)


# Domains and extremes


def only(op: str, *values: float, **attributes: Any) -> tuple[Call, tuple[Any, ...]]:
    inputs = tuple(np.full((1, 1), value) for value in values)
    return complete(OPS[op], ((),) * len(values), attributes), inputs


@pytest.mark.parametrize(
    ("op", "attributes", "values", "index", "forbidden"),
    [
        ("mod", {}, [1, 0], 1, True),
        ("mod", {}, [0, -2], 1, False),
        ("log_sum", {}, [0], 0, True),
        ("log_sum", {}, [0.1], 0, False),
        ("sqrt", {}, [-0.1], 0, True),
        ("sqrt", {}, [0], 0, False),
        ("log", {}, [0], 0, True),
        ("log", {}, [0.1], 0, False),
        ("log1p", {}, [-1], 0, True),
        ("log1p", {}, [-0.9], 0, False),
        ("reciprocal", {}, [0], 0, True),
        ("reciprocal", {}, [-2], 0, False),
        ("asin", {}, [1.1], 0, True),
        ("asin", {}, [-1], 0, False),
        ("acos", {}, [-1.1], 0, True),
        ("acosh", {}, [0.9], 0, True),
        ("acosh", {}, [1], 0, False),
        ("atanh", {}, [-1], 0, True),
        ("atanh", {}, [0.9], 0, False),
        ("divide", {}, [1, 0], 1, True),
        ("divide", {}, [0, 1], 1, False),
        ("power", {}, [-1, 0.5], 0, True),
        ("power", {}, [-1, 3], 0, False),
        ("power", {}, [0, -1], 0, True),
        ("power", {}, [0, 0], 0, False),
        ("power", {"exponent": 0.5}, [-1], 0, True),
        ("power", {"exponent": 2}, [-1], 0, False),
        ("power", {"exponent": -2}, [0], 0, True),
    ],
)
def test_domains(op, attributes, values, index, forbidden):
    call, inputs = only(op, *values, **attributes)
    where, mask = OPS[op].domain(np, call, inputs)
    assert where == index
    assert mask.shape == inputs[index].shape
    assert mask.all() == forbidden == mask.any()
    assert OPS[op].domain_text


def test_domain_mask_has_the_shape_of_the_offending_input():
    inputs = (np.array([[-1.0]]), np.array([[[2.0, 0.5]]]))
    index, mask = OPS["power"].domain(np, complete(OPS["power"], ((), (2,)), {}), inputs)
    assert index == 0
    assert mask.shape == (1, 1)
    assert mask.all()


def test_only_partial_functions_have_a_domain():
    assert {name for name, row in UNARY.items() if row.outside} == set(RANGES)
    assert all(bool(op.domain) == bool(op.domain_text) for op in OPS.values())


EXTREMES = {
    **dict.fromkeys(("sqrt", "log", "reciprocal"), (1000, 100, 1e-6)),
    **dict.fromkeys(("asin", "acos", "atanh"), (-0.999, -1e-6, 0, 0.999)),
    "acosh": (1.001, 100, 1000),
    "log1p": (-0.999, -1e-6, 0, 1000),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(set(UNARY) - {"exp", "expm1", "sinh", "cosh"}))
def test_extreme_inputs_are_safe(name, dtype):
    extremes = EXTREMES.get(name, [-1000, -100, -1e-6, 0, 100, 1000])
    x = np.array([[extremes]], dtype)
    mu, saved = OPS[name].forward(np, complete(OPS[name], (x.shape[2:],), {}), {}, (x,))
    assert all(np.isfinite(a).all() for a in (mu, *saved))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "layer_norm", "rms_norm", "lp_normalise"])
def test_extreme_rows_are_safe(name, dtype):
    x = np.array([[[-1000, 0, 1000]]], dtype)
    case = Case(name, ((3,),), lambda params, x: x)
    params = {name: np.ones((1, *spec.shape), dtype) for name, spec in OPS[name].params(case.call).items()}
    mu, (back,), _ = derivatives(case, params, (x,), np.ones_like(x))
    assert np.isfinite(mu).all()
    assert np.isfinite(back).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logsumexp_is_safe(dtype):
    x = np.array([[[-1000, 0, 1000]]], dtype)
    mu, (back,), _ = derivatives(Case("logsumexp", ((3,),), None), {}, (x,), np.ones((1, 1), dtype))
    assert mu.tolist() == [[1000]]
    assert back.tolist() == [[[0, 0, 1]]]


@pytest.mark.parametrize(
    ("exponent", "base", "value", "slope"),
    [(2, 0, 0, 0), (1, 0, 0, 1), (0, 0, 1, 0), (3, -2, -8, 12), (0, -2, 1, 0), (2, -3, 9, -6)],
)
def test_power_slopes_at_and_below_zero(exponent, base, value, slope):
    one, x = only("power", base, exponent=exponent)
    two, pair = only("power", base, exponent)
    for call, inputs in [(one, x), (two, pair)]:
        mu, saved = OPS["power"].forward(np, call, {}, inputs)
        back = OPS["power"].to_inputs(np, call, {}, inputs, mu, saved, np.ones((1, 1)))
        assert mu == value
        assert back[0] == slope
        assert back[1:] == (0,) * (len(inputs) - 1)


def test_multiply_is_right_at_zero():
    call, inputs = only("multiply", 0, 3, 0.5)
    back = OPS["multiply"].to_inputs(np, call, {}, inputs, np.zeros((1, 1)), (), np.ones((1, 1)))
    assert [float(b[0, 0]) for b in back] == [1.5, 0, 0]


@pytest.mark.parametrize(
    ("name", "x", "slope"),
    [
        ("relu", 0, 0), ("leaky_relu", 0, 0.01), ("abs", 0, 0), ("elu", 0, 1), ("celu", 0, 1),
        ("hard_sigmoid", -3, 0), ("hard_sigmoid", 3, 0), ("hard_swish", -3, 0), ("hard_swish", 3, 1),
        ("thresholded_relu", 1, 0), ("shrink", 0.5, 0), ("shrink", -0.5, 0),
    ],
)  # fmt: skip
def test_slopes_at_kinks_are_those_of_pytorch(name, x, slope):
    x = np.full((1, 1), float(x))
    assert UNARY[name].slope(np, x, UNARY[name].f(np, x)) == slope


@pytest.mark.parametrize("op", ["max", "min"])
def test_reductions_share_errors_evenly_among_what_is_extreme(op):
    """As torch.amax does."""
    x = np.array([[[2.0, 1.0, 2.0, 1.0]]])
    _, (back,), _ = derivatives(Case(op, ((4,),), None), {}, (x,), np.ones((1, 1)))
    assert back.tolist() == [[[0.5, 0, 0.5, 0] if op == "max" else [0, 0.5, 0, 0.5]]]


@pytest.mark.parametrize("op", ["maximum", "minimum"])
def test_equal_inputs_share_the_error_evenly(op):
    """As torch.maximum does with two."""
    call, inputs = only(op, 2, 2)
    mu, saved = OPS[op].forward(np, call, {}, inputs)
    back = OPS[op].to_inputs(np, call, {}, inputs, mu, saved, np.ones((1, 1)))
    assert [float(each[0, 0]) for each in back] == [0.5, 0.5]


def test_products_are_right_where_some_are_zero():
    x = np.array([[[[0.0, 3.0, 0.5], [0.0, 0.0, 2.0]]]])
    for op, wanted in [
        ("prod", [[1.5, 0, 0], [0, 0, 0]]),
        ("cumprod", [[1 + 3 + 1.5, 0, 0], [1, 0, 0]]),
    ]:
        case = Case(op, ((2, 3),), None, {"axis": 1})
        _, (back,), _ = derivatives(case, {}, (x,), np.ones((1, 1, *case.call.shape)))
        assert back[0, 0].tolist() == wanted


def test_norms_of_zero_have_slope_zero():
    x = np.zeros((1, 1, 3))
    for op, attributes in [("norm", {}), ("norm", {"order": 1}), ("lp_normalise", {}), ("lp_normalise", {"p": 1})]:
        case = Case(op, ((3,),), None, attributes)
        mu, (back,), _ = derivatives(case, {}, (x,), np.ones((1, 1, *case.call.shape)))
        assert not mu.any()
        assert back.any() == (op == "lp_normalise")
        assert np.isfinite(back).all()


def test_slope_of_clip_is_one_at_its_bounds():
    x = np.array([[-0.6, -0.5, 0.0, 0.5, 0.6]])
    assert UNARY["clip"].slope(np, x, x, min=-0.5, max=0.5).tolist() == [[0, 1, 1, 1, 0]]
    assert UNARY["clip"].f(np, x, min=-0.5, max=0.5).tolist() == [[-0.5, -0.5, 0, 0.5, 0.5]]


# Sources


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_sources(name):
    attributes, shape = SOURCES[name]
    op = OPS[name]
    call = complete(op, (), attributes)
    assert op.role == ("parameter" if name == "parameter" else "source")
    assert call.shape == shape
    assert {k: v.shape for k, v in op.params(call).items()} == ({"value": shape} if name == "parameter" else {})
    assert len({call}) == 1
    with pytest.raises(TypeError, match="computes nothing"):
        op.forward(np, call, {}, ())
    with pytest.raises(TypeError, match="computes nothing"):
        op.to_inputs(np, call, {}, (), None, (), None)


def test_constant_fills_a_shape():
    assert complete(OPS["constant"], (), {"value": 2, "shape": [3, 2]}).shape == (3, 2)
    with pytest.raises(InputError, match=r"the value has shape \(2,\), expected \(3,\)"):
        complete(OPS["constant"], (), {"value": [1, 2], "shape": [3]})


# Losses

LOSS_VALUES = {
    "squared_error": lambda mu, target: 0.5 * anp.sum((target - mu) ** 2),
    "cross_entropy": lambda mu, target: -anp.sum(target * log_softmax(mu)),
}


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_agree_with_autograd(name, shape):
    rng, loss, formula = np.random.default_rng(0), LOSSES[name], LOSS_VALUES[name]
    mu, target = rng.normal(size=(2, STACK, BATCH, *shape))
    value, error = loss.value(np, mu, target), loss.error(np, mu, target)
    assert value.shape == (STACK, BATCH)
    for index in np.ndindex(STACK, BATCH):
        np.testing.assert_allclose(value[index], formula(mu[index], target[index]), rtol=1e-12)
        want = -elementwise_grad(formula)(mu[index], target[index])
        np.testing.assert_allclose(error[index], want, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_losses_keep_float32_and_are_safe(name):
    mu = np.array([[[-1000, 0, 1000]]], np.float32)
    target = np.array([[[1, 0, 0]]], np.float32)
    for result in (LOSSES[name].value(np, mu, target), LOSSES[name].error(np, mu, target)):
        assert result.dtype == np.float32
        assert np.isfinite(result).all()


def test_losses_of_scalars():
    mu, target = np.zeros((2, 3)), np.ones((2, 3))
    np.testing.assert_array_equal(LOSSES["squared_error"].value(np, mu, target), np.full((2, 3), 0.5))
    with pytest.raises(ValueError, match="one axis or more"):
        LOSSES["cross_entropy"].value(np, mu, target)


# Attributes, arity, shapes


def test_every_bad_attribute_is_reported():
    raw = {"unit": 3, "activation": "sigmiod", "bias": 1, "convention": None}
    with pytest.raises(InputError) as caught:
        parse_attributes(OPS["affine"], raw)
    found = {problem.path: problem.message for problem in caught.value.problems}
    assert found == {
        ("unit",): "unknown attribute 'unit' of op 'affine'; did you mean 'units'? (pcsim list ops)",
        ("activation",): "got 'sigmiod', expected an activation; did you mean 'sigmoid'?",
        ("bias",): "got 1, expected true or false",
        ("convention",): "got None, expected a convention; known: W f(x)+b, f(Wx+b)",
        ("units",): "op 'affine' needs the attribute 'units': extent of the last axis of the result",
    }


@pytest.mark.parametrize(
    ("op", "raw", "message"),
    [
        ("affine", {"units": True}, "got True, expected a whole number"),
        ("affine", {"units": 2.5}, "got 2.5, expected a whole number"),
        ("affine", {"units": "3"}, "got '3', expected a whole number"),
        ("affine", {"units": 0}, "got 0, expected a positive whole number"),
        ("affine", {"units": 10**10}, "expected a positive whole number, at most"),
        ("leaky_relu", {"slope": "steep"}, "got 'steep', expected a number"),
        ("leaky_relu", {"slope": float("nan")}, "expected a finite number"),
        ("leaky_relu", {"slope": 10**400}, "expected a finite number"),
        ("input", {"shape": 3}, "expected a shape, a list"),
        ("input", {"shape": [3, -1]}, "expected a positive whole number"),
        ("input", {"shape": [10**6, 10**6]}, "expected at most 10\\^9 elements"),
        ("input", {"shape": [1] * 17}, "expected a shape"),
        ("reshape", {"shape": [-1, -1]}, "at most one -1"),
        ("reshape", {"shape": [0, -1]}, "expected a positive whole number"),
        ("constant", {"value": [[1, 2], [3]]}, "expected lists of equal lengths"),
        ("constant", {"value": []}, "none of them empty"),
        ("constant", {"value": [True]}, "expected a number"),
        ("sum", {"axis": ["x"]}, "expected a whole number"),
        ("slice", {"step": 10**12}, "at most 10\\^9"),
        ("norm", {"order": 3}, "got 3, expected 1 or 2"),
        ("celu", {"alpha": 0}, "expected a number above 0"),
        ("lrn", {"size": 3, "before": -1}, "expected a whole number from 0"),
        ("gelu", {"approximate": "tan"}, "did you mean 'tanh'"),
        ("tanh", {"slope": 1}, "unknown attribute 'slope' of op 'tanh'; there are none"),
    ],
)
def test_bad_attributes(op, raw, message):
    with pytest.raises(InputError, match=message):
        parse_attributes(OPS[op], raw)


def test_attributes_are_completed_and_sorted():
    expected = (("activation", "none"), ("bias", True), ("convention", "f(Wx+b)"), ("units", 3))
    assert parse_attributes(OPS["affine"], {"units": 3.0, "activation": None}) == expected


@pytest.mark.parametrize(
    ("op", "shapes", "raw", "message"),
    [
        ("tanh", (), {}, "inputs: op 'tanh' got 0 inputs, expected 1"),
        ("add", ((2,),), {}, "inputs: op 'add' got 1 inputs, expected 2 or more"),
        ("power", ((), (), ()), {}, "got 3 inputs, expected 1 to 2"),
        ("add", ((2,), (3,)), {}, r"inputs of shape \(2,\), \(3,\): expected shapes that broadcast"),
        ("add", ((10**5, 1), (1, 10**5)), {}, "too large"),
        ("affine", ((),), {"units": 2}, "expected an input of one axis or more"),
        ("affine", ((10**6,),), {"units": 10**6}, "too large"),
        ("matmul", ((2, 3), (2,)), {}, "expected one axis or more each, the first's last equal"),
        ("matmul", ((), (2,)), {}, "expected one axis or more each"),
        ("matmul", ((2, 2, 3), (3, 3, 4)), {}, "expected leading axes that broadcast"),
        ("power", ((), ()), {"exponent": 2}, "or two inputs and no exponent"),
        ("power", ((),), {}, "one input and the attribute exponent"),
        ("sum", ((2, 3),), {"axis": 2}, "axis 2: expected -2 to 1"),
        ("sum", ((2, 3),), {"axis": [1, -1]}, "each axis once"),
        ("softmax", ((),), {}, "expected an input with axes"),
        ("concat", ((2, 3), (3, 3)), {"axis": 1}, "differ along axis 1 only"),
        ("concat", ((2,), (3, 3)), {}, "differ along axis 0 only"),
        ("slice", ((3,),), {"start": 3}, "nothing is left"),
        ("slice", ((3,),), {"step": 0}, "other than 0"),
        ("reshape", ((3, 2),), {"shape": [4, -1]}, "does not hold 6 elements"),
        ("transpose", ((3, 2),), {"axes": [0]}, "expected 2 axes"),
        *STRUCTURE_REFUSED,
        ("group_norm", ((6, 4),), {"groups": 4}, "6 channels do not fall into 4 equal groups"),
        ("instance_norm", ((6,),), {}, "expected axes behind the channels"),
        ("layer_norm", ((),), {}, "expected an input with axes"),
        ("lrn", ((6,),), {"size": 2, "before": 2}, "fewer channels before than the window has"),
        ("where", ((2,), (3,), ()), {}, "expected shapes that broadcast"),
    ],
)  # fmt: skip
def test_bad_inputs(op, shapes, raw, message):
    with pytest.raises(InputError, match=message):
        complete(OPS[op], shapes, raw)


def test_a_name_used_twice_is_refused():
    with pytest.raises(ValueError, match="two rows are named 'add'"):
        table([OPS["add"]], [OPS["add"]])


# Broadcasting


@settings(deadline=None, max_examples=60)
@given(
    shapes=mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3),
    op=st.sampled_from(["add", "subtract", "multiply", "divide", "power"]),
    leads=st.tuples(*[st.tuples(st.sampled_from([1, STACK]), st.sampled_from([1, BATCH]))] * 2),
)
def test_binary_ops_broadcast_as_numpy_does(shapes, op, leads):
    formula = next(case.reference for case in ARITHMETIC if case.op == op)
    case = Case(op, shapes.input_shapes, formula, low=0.5)
    assert case.call.shape == shapes.result_shape
    test_agrees_with_autograd(case, ({}, leads))


@pytest.mark.parametrize(
    ("op", "products", "weights"), [("conv", 972, 108), ("conv_transpose", 2700, 108), ("local_conv", 972, 972)]
)
def test_a_convolution_costs_a_multiply_add_for_each_use_of_a_weight(op, products, weights):
    """Three channels of 5 x 5, a kernel of 3 x 3, four channels behind: 36 sums of 27, or 75 elements spread to 36."""
    call = complete(OPS[op], ((3, 5, 5),), {"channels": 4, "kernel": [3, 3]})
    cost = OPS[op].cost(call)
    assert (cost.multiply_adds, cost.weights, cost.curved) == (products, weights, False)
