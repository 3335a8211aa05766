"""Compiled kernels: functions in units in the last place, products bit by bit."""

import numpy as np
import pytest
from scipy import special

pytest.importorskip("numba", reason="the compiled engine needs Numba")

from pcsim.engines.jit.kernels import compiled, functions, products
from pcsim.ops.elementwise import UNARY

DTYPES = (np.float32, np.float64)
LEAK = 0.01


ATTRIBUTES = {"leaky_relu": {"slope": LEAK}, "elu": {"alpha": 0.75}, "clip": {"max": 6.0, "min": 0.0}}
"""Attributes as the loops of functions are given them, the constant first."""


def call(name, x):
    y, slope = np.empty_like(x), np.empty_like(x)
    attribute = next(iter(ATTRIBUTES.get(name, {"": 0.0}).values()))
    functions.apply(functions.FUNCTIONS[name], attribute, x, 0, y, 0, slope, 0, x.size)
    return y, slope


def gelu(x):
    """Return x Φ(x) by the scaled complementary error function, as Φ itself loses what x² does in rounding."""
    a = np.abs(x)
    below = special.erfcx((a / np.sqrt(x.dtype.type(2))).astype(np.float64)) * np.exp(-a * a / 2) / 2
    return x * np.where(x > 0, 1 - below, below)


LONG = {
    "identity": lambda x: x,
    "negate": lambda x: -x,
    "sqrt": np.sqrt,
    "square": lambda x: x * x,
    "exp": np.exp,
    "log": np.log,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, x * x.dtype.type(LEAK)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": gelu,
    "abs": np.abs,
    "reciprocal": lambda x: 1 / x,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * 3 / 4),
    "hard_sigmoid": lambda x: np.clip(x + 3, 0, 6) / 6,
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "clip": lambda x: np.clip(x, 0, 6),
}
"""References, to be evaluated in a wider format than the function's."""

ULP = {"exp": 1, "tanh": 2, "sigmoid": 2, "gelu": 12}
"""What is allowed in units in the last place, 3 for all others; half of gelu's is its float64 reference's own."""

RANGE = {"float32": (-80, 80), "float64": (-700, 700)}
"""Where no factor of a product is subnormal."""


def sample(name, dtype):
    rng = np.random.default_rng(7)
    low, high = (-12, 12) if name == "gelu" else RANGE[np.dtype(dtype).name]
    small = np.exp(rng.uniform(-60, 3, 20000)) * rng.choice([-1, 1], 20000)
    x = np.concatenate([rng.uniform(low, high, 20000), rng.uniform(-6, 6, 50000), small, [0.0, 1.0, -1.0]])
    x = x[x != 0] if name in {"log", "sqrt", "reciprocal"} else x
    return (np.abs(x) if name in {"log", "sqrt"} else x).astype(dtype)


def ulps(y, exact):
    """Return the distance in units in the last place of y's format, those of normal numbers."""
    unit = np.spacing(np.maximum(np.abs(exact).astype(y.dtype), np.finfo(y.dtype).tiny))
    return np.abs(y - exact) / unit


def test_every_loop_has_a_reference():
    assert set(functions.FUNCTIONS) == set(LONG) <= set(UNARY)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LONG)
def test_functions_are_accurate(name, dtype):
    if dtype is np.float64 and np.finfo(np.longdouble).nmant < 60:
        pytest.skip("the reference needs a format wider than float64")
    x = sample(name, dtype)
    wide = np.float64 if dtype is np.float32 else np.longdouble
    exact = LONG[name](x.astype(wide))
    if name == "leaky_relu":
        exact = LONG[name](x).astype(wide)
    y, _ = call(name, x)
    assert y.dtype == dtype
    assert ulps(y, exact).max() <= ULP.get(name, 3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LONG)
def test_slopes_are_those_of_the_table(name, dtype):
    x = sample(name, dtype)
    attributes = ATTRIBUTES.get(name, {})
    y, slope = call(name, x)
    row = UNARY[name].slope
    with np.errstate(all="ignore"):
        expected = np.ones_like(x) if row is None else row(np, x, y, **attributes)
    np.testing.assert_allclose(slope, expected, rtol=20 * np.finfo(dtype).eps, atol=20 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [name for name in LONG if UNARY[name].outside is None])
def test_extreme_numbers_are_those_of_the_table(name, dtype):
    limits = np.finfo(dtype)
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, limits.max, limits.min, limits.tiny, -limits.tiny], dtype)
    attributes = ATTRIBUTES.get(name, {})
    with np.errstate(all="ignore"):
        expected = UNARY[name].f(np, x, **attributes)
    y, _ = call(name, x)
    np.testing.assert_allclose(y, expected, rtol=4 * limits.eps, atol=0)
    if name in {"identity", "negate", "sin", "tan", "tanh"}:
        assert np.array_equal(np.signbit(y[3:]), np.signbit(expected[3:]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LONG)
def test_an_element_does_not_depend_on_its_place(name, dtype):
    x = np.abs(np.random.default_rng(3).normal(0, 3, 83)).astype(dtype)
    together, slopes = call(name, x)
    alone = [call(name, x[i : i + 1]) for i in range(x.size)]
    assert together.tobytes() == np.concatenate([y for y, _ in alone]).tobytes()
    assert slopes.tobytes() == np.concatenate([s for _, s in alone]).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_in_place_and_at_offsets(dtype):
    x = np.random.default_rng(4).normal(0, 2, 50).astype(dtype)
    y = np.zeros(60, dtype)
    code = functions.FUNCTIONS["tanh"]
    slope = np.zeros(60, dtype)
    functions.apply(code, 0.0, x, 7, y, 3, slope, 5, 31)
    expected, slopes = call("tanh", x)
    for found, first, wanted in ((y, 3, expected), (slope, 5, slopes)):
        assert np.array_equal(found[first : first + 31], wanted[7:38])
        assert not found[:first].any()
        assert not found[first + 31 :].any()
    functions.apply(code, 0.0, x, 0, x, 0, slope, 0, x.size)
    assert np.array_equal(x, expected)


# -- products -----------------------------------------------------------------------------------------------

SHAPES = [
    (1, 1, 1),
    (2, 3, 5),
    (3, 17, 33),
    (5, 64, 10),
    (6, 1, 16),
    (7, 300, 31),
    (13, 257, 40),
    (64, 64, 64),
    (1, 520, 130),
]


def matrices(m, k, n, dtype):
    rng = np.random.default_rng(m * 10000 + k * 100 + n)
    return rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)


def packed(b):
    k, n = b.shape
    out = np.empty(products.packed_size(b, k, n), b.dtype)
    products.pack(b.ravel(), 0, n, 1, k, n, out, 0)
    return out


def by_packed(a, b, c, add):
    (m, k), n = a.shape, b.shape[1]
    products.product_packed(a.ravel(), 0, k, 1, packed(b), 0, k, n, m, c.reshape(-1), 0, n, add)


def by_unpacked(a, b, c, add):
    (m, k), n = a.shape, b.shape[1]
    scratch = np.empty(products.SLAB, b.dtype)
    products.product_unpacked(a.ravel(), 0, k, 1, b.ravel(), 0, n, k, n, m, c.reshape(-1), 0, n, add, scratch, 0)


def by_transposed(a, b, c, add):
    (m, k), n = a.shape, b.shape[1]
    scratch = np.empty(products.SLAB, b.dtype)
    g = np.ascontiguousarray(a.T).ravel()
    products.product_unpacked(g, 0, 1, m, b.ravel(), 0, n, k, n, m, c.reshape(-1), 0, n, add, scratch, 0)


WAYS = {"packed": by_packed, "unpacked": by_unpacked, "transposed": by_transposed}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_products_are_right_and_no_bit_depends_on_the_tiling(m, k, n, way, dtype):
    a, b = matrices(m, k, n, dtype)
    c = np.full((m, n), 7, dtype)
    WAYS[way](a, b, c, False)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    bound = k * np.finfo(dtype).eps * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert (np.abs(c - exact) <= bound).all()
    rows = np.empty_like(c)
    for row in range(m):
        by_packed(a[row : row + 1], b, rows[row : row + 1], False)
    assert c.tobytes() == rows.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS)
def test_products_add_to_what_is_there(way, dtype):
    a, b = matrices(14, 300, 23, dtype)
    c, old = np.empty((14, 23), dtype), np.full((14, 23), 3, dtype)
    WAYS[way](a, b, c, False)
    WAYS[way](a, b, old, True)
    np.testing.assert_allclose(old, c + 3, rtol=0, atol=300 * np.finfo(dtype).eps * np.abs(c).max())


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_packs_both_ways_and_rows_may_lie_apart(dtype):
    rng = np.random.default_rng(5)
    weight, x = rng.standard_normal((21, 34)).astype(dtype), rng.standard_normal((9, 40)).astype(dtype)
    out = np.zeros((9, 30), dtype)
    turned = np.empty(products.packed_size(weight, 34, 21), dtype)
    products.pack(weight.ravel(), 0, 1, 34, 34, 21, turned, 0)
    products.product_packed(x.ravel(), 2, 40, 1, turned, 0, 34, 21, 9, out.reshape(-1), 4, 30, False)
    np.testing.assert_allclose(out[:, 4:25], x[:, 2:36] @ weight.T, rtol=0, atol=200 * np.finfo(dtype).eps)
    assert not out[:, :4].any()
    assert not out[:, 25:].any()


def test_code_is_kept_under_the_digest_of_all_sources():
    a, b = matrices(2, 3, 5, np.float32)
    by_packed(a, b, np.empty((2, 5), np.float32), False)
    assert compiled.stamp() == compiled.STAMP
    assert products.product_packed._cache._cache_file._source_stamp == compiled.STAMP
