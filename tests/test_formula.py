"""A formula as a graph."""

from __future__ import annotations

import math
import re
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pcsim.errors import InputError
from pcsim.graph.formula import FUNCTIONS, vertices_of_formula

MEANING = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.divide, "matmul": np.matmul,
    "negate": np.negative, "square": np.square, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "identity": np.positive, "sum": np.sum, "mean": np.mean,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "relu": lambda x: np.maximum(x, 0),
}  # fmt: skip


def interpret(vertices, output, values):
    known = {}
    for name, entry in vertices.items():
        inputs = [known[source] for source in entry.get("inputs", [])]
        if entry["op"] in ("input", "parameter"):
            known[name] = np.asarray(values[name], float)
        elif entry["op"] == "constant":
            known[name] = np.float64(entry["value"])
        elif entry["op"] == "power":
            known[name] = np.power(*inputs, *([float(entry["exponent"])] if "exponent" in entry else []))
        else:
            known[name] = MEANING[entry["op"]](*inputs)
    return known[output]


def test_millidge_figure_2():
    vertices, output = vertices_of_formula("tan(sqrt(theta * v0)) + sin(v0**2)", ["theta"])
    assert output == "v6"
    assert vertices == {
        "theta": {"op": "parameter"},
        "v0": {"op": "input", "shape": []},
        "v1": {"op": "multiply", "inputs": ["theta", "v0"]},
        "v2": {"op": "sqrt", "inputs": ["v1"]},
        "v3": {"op": "tan", "inputs": ["v2"]},
        "v4": {"op": "square", "inputs": ["v0"]},
        "v5": {"op": "sin", "inputs": ["v4"]},
        "v6": {"op": "add", "inputs": ["v3", "v5"]},
    }


@pytest.mark.parametrize(
    ("formula", "last"),
    [
        ("x", {"op": "identity", "inputs": ["x"]}),
        ("(x)", {"op": "identity", "inputs": ["x"]}),
        ("+x", {"op": "identity", "inputs": ["x"]}),
        ("-x", {"op": "negate", "inputs": ["x"]}),
        ("x ** 2.0", {"op": "square", "inputs": ["x"]}),
        ("x ** 3", {"op": "power", "exponent": 3, "inputs": ["x"]}),
        ("x ** -1", {"op": "power", "exponent": -1, "inputs": ["x"]}),
        ("x ** (1 / 2)", {"op": "power", "exponent": 0.5, "inputs": ["x"]}),
        ("x ** y", {"op": "power", "inputs": ["x", "y"]}),
        ("W @ x", {"op": "matmul", "inputs": ["W", "x"]}),
        ("matmul(W, x)", {"op": "matmul", "inputs": ["W", "x"]}),
        ("3.5", {"op": "constant", "value": 3.5}),
        ("-2", {"op": "constant", "value": -2}),
        ("2 * (3 + 1) - 1", {"op": "constant", "value": 7.0}),
        ("  x\n - y ", {"op": "subtract", "inputs": ["x", "y"]}),
    ],
)
def test_forms(formula, last):
    vertices, output = vertices_of_formula(formula, ())
    assert vertices[output] == last


def test_constants_are_vertices_and_shared():
    vertices, output = vertices_of_formula("2 * x + 2", ())
    assert list(vertices) == ["v1", "x", "v2", "v3"]
    assert vertices["v1"] == {"op": "constant", "value": 2}
    assert vertices[output] == {"op": "add", "inputs": ["v2", "v1"]}


def test_equal_parts_appear_once():
    vertices, _ = vertices_of_formula("sin(x*y) * sin(x*y) + x*y + x**3 - x**3", ())
    operations = [entry["op"] for entry in vertices.values()]
    assert sorted(operations) == sorted(
        ["input", "input", "multiply", "sin", "multiply", "add", "power", "add", "subtract"]
    )


def test_names_are_skipped_and_prefix():
    vertices, output = vertices_of_formula("sin(v1) + v3", ["v3"])
    assert list(vertices) == ["v1", "v2", "v3", "v4"]
    assert output == "v4"
    assert vertices_of_formula("sin(x)", (), prefix="n_")[1] == "n_1"


@pytest.mark.parametrize("name", [name for name, arity in FUNCTIONS.items() if arity == 1])
def test_every_function(name):
    assert vertices_of_formula(f"{name}(x)", ())[0]["v1"] == {"op": name, "inputs": ["x"]}


@pytest.mark.parametrize(
    ("formula", "column", "fragment"),
    [
        ("x + sigmod(x)", 5, "unknown op 'sigmod'; did you mean 'sigmoid'? (pcsim list ops)"),
        ("__import__(x)", 1, "unknown op '__import__'"),
        ("x + a.b", 5, "Attribute is not allowed; a formula has names, numbers"),
        ("a.b(x)", 1, "only ops can be called"),
        ("(lambda x: x)", 2, "Lambda is not allowed"),
        ("[x for x in y]", 1, "ListComp is not allowed"),
        ("x[0]", 1, "Subscript is not allowed"),
        ("x if y else z", 1, "IfExp is not allowed"),
        ("x < y", 1, "Compare is not allowed"),
        ("x and y", 1, "BoolOp is not allowed"),
        ("x // y", 1, "operator FloorDiv is not allowed"),
        ("x % 2", 1, "operator Mod is not allowed"),
        ("~x", 1, "UnaryOp is not allowed"),
        ("x + True", 5, "bool is not allowed"),
        ("x + ...", 5, "ellipsis is not allowed"),
        ("x + 'text'", 5, "character ' is not allowed"),
        ("x # note", 3, "character # is not allowed"),
        ("x + 2j", 5, "a number is followed by a letter, '2j'"),
        ("2x", 1, "write 2 * x"),
        ("x + 0x10", 5, "a number is followed by a letter"),
        ("sin(x, y)", 1, "sin takes 1 unnamed argument(s), got 2"),
        ("sin()", 1, "sin takes 1 unnamed argument(s), got 0"),
        ("matmul(x)", 1, "matmul takes 2 unnamed argument(s), got 1"),
        ("sum(x, axis=0)", 1, "sum takes 1 unnamed argument(s), got 2"),
        ("sin(*x)", 5, "Starred is not allowed"),
        ("1 + sin", 5, "'sin' is an op; call it, sin(x)"),
        ("x +", 4, "not a formula"),
        ("x = 1", 3, "not a formula"),
        ("θ + (x := y)", 6, "NamedExpr is not allowed"),
        ("  θ + a.b", 7, "Attribute is not allowed"),
        ("x + 1e999", 5, "the number is too large"),
        ("x * (1 / 0)", 6, "numbers cannot be worked out"),
        ("x ** (10 ** 10 ** 10)", 7, "numbers cannot be worked out"),
        ("x + (-8) ** (1 / 3)", 5, "numbers cannot be worked out"),
    ],
)
def test_refusals(formula, column, fragment):
    with pytest.raises(InputError) as caught:
        vertices_of_formula(formula, ())
    problem = caught.value.problems[0]
    assert problem.path == ("formula",)
    assert problem.message.startswith(f"column {column}: ")
    assert fragment in problem.message


@pytest.mark.parametrize(
    ("formula", "fragment"),
    [
        ("", "is empty"),
        (" \n ", "is empty"),
        ("x + " * 2500 + "xx", "longer than 10000 characters"),
        ("-" * 5000 + "x", "nested deeper than 100"),
        ("(" * 5000 + "x" + ")" * 5000, "formula: "),
        ("sin(" * 150 + "x" + ")" * 150, "nested deeper than 100"),
        ("+".join(["x"] * 150), "nested deeper than 100"),
        ("x + \0", "formula: "),
        ("x + \ud800", "formula: "),
    ],
)
def test_absurd_formulas(formula, fragment):
    with pytest.raises(InputError, match=re.escape(fragment)):
        vertices_of_formula(formula, ())


def test_problems_come_all_at_once():
    with pytest.raises(InputError) as caught:
        vertices_of_formula("foo(x) + a.b + bar(c[0])", ())
    assert [problem.message[:9] for problem in caught.value.problems] == [
        "column 1:",
        "column 10",
        "column 16",
        "column 20",
    ]


def test_hundred_terms():
    formula = "+".join(f"x{i}" for i in range(100))
    vertices, output = vertices_of_formula(formula, ())
    assert interpret(vertices, output, {f"x{i}": i for i in range(100)}) == sum(range(100))


PYTHON = {name: getattr(math, name) for name in ("sin", "cos", "tan", "tanh", "exp")}
leaves = st.sampled_from(["x", "y", "v1", "theta", "2", "0.5", "1.25e-1"])
formulas = st.recursive(
    leaves,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner)
        | st.builds("{}({})".format, st.sampled_from(sorted(PYTHON)), inner)
        | st.builds("(-{})".format, inner)
        | st.builds("({}) ** {}".format, inner, st.sampled_from(["2", "3", "1", "0"]))
    ),
    max_leaves=12,
)
numbers = st.floats(-3, 3, allow_subnormal=False)


@given(formulas, st.fixed_dictionaries(dict.fromkeys(["x", "y", "v1", "theta"], numbers)))
def test_formulas_mean_what_python_means(formula, values):
    try:
        expected = eval(formula, {**PYTHON, **values})
    except (ArithmeticError, ValueError):
        assume(False)
    assume(abs(expected) < 1e6)
    vertices, output = vertices_of_formula(formula, ["theta"])
    with np.errstate(all="ignore"):
        assert interpret(vertices, output, values) == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(formulas)
def test_vertices_come_in_order_and_are_distinct(formula):
    try:
        vertices, output = vertices_of_formula(formula, ["theta"])
    except InputError:  # numbers that divide by zero
        assume(False)
    seen = set()
    for name, entry in vertices.items():
        assert seen.issuperset(entry.get("inputs", []))
        seen.add(name)
    assert output in seen
    made = [repr(entry) for entry in vertices.values() if entry["op"] not in ("input", "parameter")]
    assert len(made) == len(set(made))


@given(st.text(max_size=30) | st.text(st.sampled_from("xy1.+-*/@() \n,=[]"), max_size=20))
def test_any_text_is_read_or_refused(text):
    with suppress(InputError):
        vertices_of_formula(text, ())
