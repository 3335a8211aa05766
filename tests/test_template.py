"""Graph templates: `$`, `for`, `if`, `args`."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcsim.documents import from_plain, locate, parse, plain, staging, template
from pcsim.documents.template import evaluate, expand, remarks, substitute
from pcsim.errors import InputError

NAMES = {"l": 3, "depth": 8, "rate": 0.5, "act": "tanh", "bias": True, "sizes": [1, 2], "nothing": None}


def expanded(text, args=None):
    return plain(expand(parse(text, "g.yaml"), args or {}))


def problems(text, args=None):
    with pytest.raises(InputError) as caught:
        expand(parse(text, "g.yaml"), args or {})
    return caught.value.problems


def refused(text, place, path, fragment, args=None):
    found = problems(text, args)
    assert len(found) == 1
    assert str(found[0].location) == f"g.yaml:{place}"
    assert found[0].path == path
    assert fragment in found[0].message


# ---- expressions


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("l", 3), ("2 * l - 1", 5), ("-l", -3), ("+l", 3), ("-7 // 2", -4), ("-7 % 3", 2), ("2 ** 10", 1024),
        ("(l + 1) * (depth - 1)", 28), (" l ", 3), ("1_000", 1000), ("l\n+ 1", 4),
        ("l > 1", True), ("1 < l <= 3 < depth", True), ("1 < l > 5", False), ("l == 3 != depth", True),
        ("l > 1 and depth > 9", False), ("l > 5 or depth > 7", True), ("not l > 5", True),
        ("not bias", False),
        ("l > 5 and 1 // 0", False), ("l % 2 and bias", True),
        ("act == act", True), ("bias == (l > 0)", True),
        ("rate", 0.5), ("act", "tanh"), ("sizes", [1, 2]), ("nothing", None),
    ],
)  # fmt: skip
def test_evaluate(expression, value):
    result = evaluate(expression, NAMES)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("expression", "fragment"),
    [
        ("dept + 1", "in $(dept + 1): unknown name 'dept'; did you mean 'depth'?"),
        ("1 // 0", "division by zero"),
        ("1 % (l - 3)", "division by zero"),
        ("l / 2", "write // for whole-number division"),
        ("rate + 1", "expected a whole number, got 0.5"),
        ("act + 1", "expected a whole number, got 'tanh'"),
        ("bias + 1", "expected a whole number, got True"),
        ("rate > 0", "expected a whole number, got 0.5"),
        ("not act", "expected a whole number, got 'tanh'"),
        ("10 ** 13", "a number is beyond 1e12"),
        ("10 ** 10 ** 10", "exponent 10000000000 is not between 0 and 64"),
        ("2 ** -1", "exponent -1 is not between"),
        ("9999999999999 - 1", "a number is beyond 1e12"),
        ("1.5", "float is not allowed"),
        ("True", "bool is not allowed"),
        ("'a'", "is not allowed; an expression has names"),
        ("l # x", "'#' is not allowed"),
        ("1if l else 2", "'1i' is not allowed"),
        ("0x10", "is not allowed"),
        ("l if l else 2", "IfExp is not allowed"),
        ("open(l)", "Call is not allowed"),
        ("l.real", "Attribute is not allowed"),
        ("sizes[0]", "Subscript is not allowed"),
        ("[l]", "List is not allowed"),
        ("lambda: 1", "Lambda is not allowed"),
        ("l in sizes", "In is not allowed"),
        ("l is l", "Is is not allowed"),
        ("l & 1", "BitAnd is not allowed"),
        ("l << 1", "LShift is not allowed"),
        ("~l", "~ is not allowed"),
        ("(l := 2)", "NamedExpr is not allowed"),
        ("", "not an expression"),
        ("l +", "not an expression"),
        ("l; l", "not an expression"),
        ("l \0", "not an expression"),
        ("l" * 500, "longer than 400 characters"),
        ("-" * 300 + "l", "nested deeper than 50"),
        ("(" * 390 + "l", "not an expression"),
    ],
)
def test_evaluate_refuses(expression, fragment):
    with pytest.raises(InputError, match=re.escape(fragment)):
        evaluate(expression, NAMES)


whole = st.integers(-20, 20).map(str) | st.sampled_from(["l", "depth"])
arithmetic = st.recursive(
    whole,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "//", "%"]), inner)
        | st.builds("-({})".format, inner)
    ),
    max_leaves=8,
)


@given(arithmetic, st.sampled_from(["<", "<=", "==", "!=", ">", ">="]), arithmetic)
def test_evaluate_agrees_with_python(left, comparison, right):
    expression = f"{left} {comparison} {right}"
    try:
        expected = eval(expression, {"l": 3, "depth": 8})
    except ZeroDivisionError:
        with pytest.raises(InputError, match="division by zero"):
            evaluate(expression, NAMES)
        return
    assert evaluate(expression, NAMES) is expected


# ---- text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"), ("", ""), ("$l", 3), ("$(l)", 3), ("${l}", 3), ("$rate", 0.5), ("$act", "tanh"),
        ("$sizes", [1, 2]), ("$bias", True), ("$nothing", None), ("$(l > 1)", True),
        ("h$l", "h3"), ("h$(l-1)", "h2"), ("h${l}x", "h3x"), ("$l$l", "33"), ("$l.$depth", "3.8"),
        ("1..$depth", "1..8"),
        ("$act-$rate-$bias", "tanh-0.5-true"), ("$((l + 1) * 2)!", "8!"), ("$$l", "$l"), ("$$", "$"),
        ("5 $$", "5 $"),
        ("$$$l", "$3"),
    ],
)  # fmt: skip
def test_substitute(text, value):
    result = substitute(text, NAMES)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("h$k", "unknown name 'k'"),
        ("h$lx", "unknown name 'lx'"),
        ("5 $", "a lone $ in '5 $'; write $name"),
        ("$ l", "a lone $"),
        ("$1", "a lone $"),
        ("$(l", "$( in '$(l' is not closed"),
        ("${l", "takes one name"),
        ("${l-1}", "write $(...) for an expression"),
        ("h$sizes", "cannot stand inside a text"),
        ("h$nothing", "cannot stand inside a text"),
        ("h$()", "not an expression"),
    ],
)
def test_substitute_refuses(text, fragment):
    with pytest.raises(InputError, match=re.escape(fragment)):
        substitute(text, NAMES)


@given(st.text())
def test_text_without_dollar_is_unchanged(text):
    escaped = text.replace("$", "$$")
    assert substitute(escaped, {}) == text


@given(st.text(st.sampled_from("$(){}lx1 +-*/%<>=.\"'"), max_size=20))
def test_any_text_is_filled_or_refused(text):
    with suppress(InputError):
        substitute(text, NAMES)


# ---- documents

MLP = """\
pcsim: graph/1
title: costs $5
source: $nobody
args: {depth: 3, width: 64, rate: 0.5, act: tanh, bias: true, any: null, sizes: [1, 2]}
parameters:
  W$l: {for: {l: 1..2}, shape: [$width, $width]}
vertices:
  h0: {op: input, shape: [64]}
  h$l:
    for: {l: 1..$depth}
    op: affine
    units: $width
    activation: $act
    inputs: [h$(l-1), {from: h0, if: $(l > 1), delay: $l}]
  y: {op: affine, bias: $bias, units: $(width // 2), inputs: [h$depth]}
outputs: [y]
"""


def test_the_document_of_the_formats_page():
    document = expanded(MLP, {"depth": 2})
    assert document == {
        "pcsim": "graph/1",
        "title": "costs $5",
        "source": "$nobody",
        "parameters": {"W1": {"shape": [64, 64]}, "W2": {"shape": [64, 64]}},
        "vertices": {
            "h0": {"op": "input", "shape": [64]},
            "h1": {"op": "affine", "units": 64, "activation": "tanh", "inputs": ["h0"]},
            "h2": {
                "op": "affine",
                "units": 64,
                "activation": "tanh",
                "inputs": ["h1", {"from": "h0", "delay": 2}],
            },
            "y": {"op": "affine", "bias": True, "units": 32, "inputs": ["h2"]},
        },
        "outputs": ["y"],
    }
    assert list(document["vertices"]) == ["h0", "h1", "h2", "y"]


def test_nodes_keep_the_places_of_the_template():
    node = expand(parse(MLP, "g.yaml"), {})
    assert str(locate(node, ("vertices", "h2"))) == "g.yaml:9:3"
    assert str(locate(node, ("vertices", "h2", "units"))) == "g.yaml:12:12"
    assert str(locate(node, ("vertices", "h2", "inputs", 1, "delay"))) == "g.yaml:14:55"
    assert str(locate(node, ("vertices", "y", "inputs", 0))) == "g.yaml:15:63"


def test_python_documents_without_places():
    document = {"args": {"n": 2}, "vertices": {"h$i": {"for": {"i": [1, "x"]}, "op": "$i", "k": np.int64(3)}}}
    node = expand(from_plain(document), {"n": np.int64(5)})
    assert plain(node) == {"vertices": {"h1": {"op": 1, "k": 3}, "hx": {"op": "x", "k": 3}}}


def test_what_no_loop_touches_is_shared():
    vertices = expand(parse(MLP, "g.yaml"), {}).entries["vertices"].value.entries
    assert vertices["h1"].value.entries["units"] is vertices["h2"].value.entries["units"]
    document = parse("vertices: {x: {op: input, shape: [1]}}", "g")
    assert (
        expand(document, {}).entries["vertices"].value.entries["x"] is document.entries["vertices"].value.entries["x"]
    )


@pytest.mark.parametrize(
    ("loops", "names"),
    [
        ("{i: 1..2, j: [a, b]}", ["v1a", "v1b", "v2a", "v2b"]),
        ("{j: [a, b], i: 1..2}", ["v1a", "v2a", "v1b", "v2b"]),
        ("{i: 2..1, j: [a]}", []),
        ("{i: 1..1000000000000, j: []}", []),
        ("{i: -1..1, j: [x]}", ["v-1x", "v0x", "v1x"]),
        ("{i: -1.0..1, j: [x]}", ["v-1x", "v0x", "v1x"]),
        ("{i: 9..1e1, j: [x]}", ["v9x", "v10x"]),
        ("{i: $sizes, j: ['$act', 7]}", ["v4tanh", "v47", "v5tanh", "v57"]),
        ("{i: $(n - 1) .. $n, j: [x]}", ["v2x", "v3x"]),
    ],
)
def test_loops(loops, names):
    text = f"args: {{sizes: [4, 5], act: tanh, n: 3}}\nvertices:\n  v$i$j: {{for: {loops}, op: x}}\n"
    assert list(expanded(text)["vertices"]) == names


def test_conditions():
    text = """\
args: {n: 3, on: false}
vertices:
  a: {if: $on, op: $(1 // 0)}
  b: {if: $(n > 2), op: x}
  c: {if: true, op: x}
  d$i: {for: {i: 1..$n}, if: $(i % 2), op: x}
  e$i$j: {for: {i: 1..$n, j: 1..$n}, if: $(j < i), inputs: [{from: x, if: $on}, {from: y}]}
outputs: [{from: z, if: $on}, b]
"""
    document = expanded(text)
    assert list(document["vertices"]) == ["b", "c", "d1", "d3", "e21", "e31", "e32"]
    assert document["vertices"]["e21"] == {"inputs": [{"from": "y"}]}
    assert document["outputs"] == ["b"]
    assert "if" not in str(document)


def test_keys_and_other_sections_are_filled_in():
    text = "args: {k: constant, v: 2}\nformula: x**$v\nvertices: {x: {op: x, init: {w: {$k: $v}}}}\n"
    assert expanded(text) == {
        "formula": "x**2",
        "vertices": {"x": {"op": "x", "init": {"w": {"constant": 2}}}},
    }


def test_odd_documents_pass_through_for_the_models_to_refuse():
    assert expanded("vertices: [1]\nargs:\n") == {"vertices": [1]}
    assert expanded("vertices: {x: , y: 3}\n") == {"vertices": {"x": None, "y": 3}}


@pytest.mark.parametrize(
    ("args", "key", "value"),
    [
        ({"width": 32}, "width", 32), ({"rate": 2}, "rate", 2.0), ({"rate": 0.25}, "rate", 0.25),
        ({"act": "relu"}, "act", "relu"), ({"bias": False}, "bias", False), ({"any": "x"}, "any", "x"),
        ({"any": 3}, "any", 3), ({"sizes": (7,)}, "sizes", [7]), ({"sizes": np.arange(2)}, "sizes", [0, 1]),
    ],
)  # fmt: skip
def test_arguments(args, key, value):
    result = expanded(MLP.replace("outputs: [y]", f"outputs: ${key}"), args)["outputs"]
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    ("args", "fragment"),
    [
        ({"dept": 3}, "args.dept: unknown argument 'dept'; did you mean 'depth'?"),
        ({"depth": 2.5}, "args.depth: expected int, such as the default 3, got 2.5"),
        ({"depth": True}, "expected int"),
        ({"depth": "3"}, "expected int"),
        ({"bias": 1}, "expected bool, such as the default True"),
        ({"rate": True}, "expected float"),
        ({"act": 3}, "expected str"),
        ({"sizes": 3}, "expected list"),
        ({"any": {1}}, "cannot hold a set"),
    ],
)
def test_arguments_refused(args, fragment):
    found = problems(MLP, args)
    assert [problem.location for problem in found] == [None]
    assert fragment in str(found[0])


HEAD = "args: {n: 3, s: x}\nvertices:\n"


@pytest.mark.parametrize(
    ("line", "place", "path", "fragment"),
    [
        ("v: {op: $m}", "3:11", ("v", "op"), "unknown name 'm'"),
        ("v: {i: [a, b$(n/2)]}", "3:14", ("v", "i", 1), "write // for"),
        ("v$k: {for: {l: 1..2}}", "3:3", ("v$k",), "unknown name 'k'"),
        ("v$l: {for: {l: 1..9}, u: $(6 // (l - 2))}", "3:28", ("v$l", "u"), "division by zero (with l = 2)"),
        ("v: {for: {l: 1..9}, op: x}", "3:3", ("v",), "vertex 'v' is defined twice; use every loop variable"),
        ("v$i: {for: {i: [1, 1]}}", "3:3", ("v$i",), "vertex 'v1' is defined twice"),
        ("v$l: {for: {l: 1..$m}}", "3:18", ("v$l", "for", "l"), "unknown name 'm'"),
        ("v$l: {for: {l: 1..$s}}", "3:18", ("v$l", "for", "l"), "expected a range such as 1..8"),
        ("v$l: {for: {l: 5}}", "3:18", ("v$l", "for", "l"), "or a list of them, got 5"),
        ("v$l: {for: {l: 1..2.5}}", "3:18", ("v$l", "for", "l"), "expected a range such as 1..8"),
        ("v$l: {for: {l: 1..1e13}}", "3:18", ("v$l", "for", "l"), "expected a range such as 1..8"),
        ("v$l: {for: {l: [1.5]}}", "3:18", ("v$l", "for", "l"), "expected a range"),
        ("v$l: {for: 1..3}", "3:9", ("v$l", "for"), "expected loop variables with their ranges"),
        ("v$l: {for: {}}", "3:9", ("v$l", "for"), "expected loop variables"),
        ("v$n: {for: {n: 1..3}}", "3:15", ("v$n", "for", "n"), "loop variable 'n' is also an argument"),
        ("v: {for: {1: 1..1}}", "3:13", ("v", "for", "1"), "loop variable '1' is not a name"),
        ("v$i: {for: {j: 1..$i, i: 1..2}}", "3:18", ("v$i", "for", "j"), "unknown name 'i'"),
        ("v: {if: maybe}", "3:11", ("v", "if"), "expected a condition such as $(l > 1), got 'maybe'"),
        ("v$i: {for: {i: 1..2}, if: $s$i}", "3:29", ("v$i", "if"), "expected a condition"),
        ("v$(: {}", "3:3", ("v$(",), "is not closed"),
        ("v: {$s: 1, x: 2}", "3:14", ("v",), "key 'x' is given twice; first at g.yaml:3:7"),
        ("v$l: {for: {l: 1..3000000}}", "3:3", ("v$l",), "more than 2000000 vertices: 3000000"),
        ("v: {for: {l: 1..1000000000000, m: 1..1000000000000}}", "3:3", ("v",), "more than 2000000"),
    ],
)
def test_refusals(line, place, path, fragment):
    refused(f"{HEAD}  {line}\n", place, ("vertices", *path), fragment)


def test_names_defined_twice_name_the_first():
    text = HEAD + "  v2: {op: x}\n  v$l: {for: {l: 1..3}, op: y}\n"
    refused(text, "4:3", ("vertices", "v$l"), "vertex 'v2' is defined twice; first at g.yaml:3:3 (with l = 2)")
    text = "parameters:\n  W: {shape: []}\n  W$e: {shape: []}\nargs: {e: ''}\n"
    refused(text, "3:3", ("parameters", "W$e"), "parameter 'W' is defined twice; first at g.yaml:2:3")


def test_the_limit_counts_all_loops_before_any_runs(monkeypatch):
    lines = "".join(f"  v{i}x$l: {{for: {{l: 1..900000}}}}\n" for i in range(3))
    start = time.perf_counter()
    refused(HEAD + lines, "5:3", ("vertices", "v2x$l"), "more than 2000000 vertices: 2700000")
    assert time.perf_counter() - start < 1
    monkeypatch.setattr(template, "MAX_ENTRIES", 4)
    assert len(expanded(HEAD + "  v$l: {for: {l: 1..3}}\n  w: {}\n")["vertices"]) == 4


def test_all_problems_come_at_once():
    text = HEAD + "  a: {op: $m}\n  b$l: {for: {l: 1..$q}}\n  c: {if: $(1//0)}\noutputs: [$z, $y]\n"
    found = problems(text, {"nn": 1})
    assert [problem.location and problem.location.line for problem in found] == [None, 4, 3, 5, 6, 6]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("[1]", "expected a graph document, a map of keys"),
        ("args: 3", "args: expected a map of names"),
        ("args: {my-depth: 3}", "argument 'my-depth' is not a name"),
    ],
)
def test_documents_refused(text, fragment):
    assert fragment in str(problems(text)[0])


def test_hundred_thousand_entries():
    start = time.perf_counter()
    node = expand(parse(MLP, "g.yaml"), {"depth": 100_000})
    assert time.perf_counter() - start < 20  # about 2 s on an idle machine
    assert len(node.entries["vertices"].value.entries) == 100_002


def test_a_loop_that_makes_nothing_is_remarked_on_whatever_stands_in_it():
    text = "args: {depth: 0}\nvertices:\n  h$l: {for: {l: 1..$depth}, inputs: ['h$(l - 1']}\n"
    document = parse(text, "g.yaml")
    expand(document, {})
    (found,) = remarks(document, {})
    assert str(found).startswith("g.yaml:3:9: vertices.h$l.for: the range of l is empty")


# ---- loops inside of lists and maps

DENSE = """\
args: {depth: 3, heads: 2}
vertices:
  h0: {op: input, shape: [2]}
  h$l:
    for: {l: 1..$depth}
    op: add
    inputs: [{for: {k: 0..$(l - 1)}, from: h$k}, {for: {k: 1..$l}, if: $(k % 2 == 0), from: h0, delay: $k}]
    params: {"W$k": {for: {k: 1..$heads}, from: W$(l * 10 + k)}}
outputs: [{for: {l: 2..$depth}, from: h$l}]
"""


def test_a_loop_inside_of_a_list_or_a_map_makes_several():
    made = expanded(DENSE)
    assert made["vertices"]["h1"]["inputs"] == ["h0"]
    assert made["vertices"]["h3"]["inputs"] == ["h0", "h1", "h2", {"from": "h0", "delay": 2}]
    assert made["vertices"]["h2"]["params"] == {"W1": "W21", "W2": "W22"}
    assert made["outputs"] == ["h2", "h3"]
    assert expanded(DENSE, {"depth": 1})["outputs"] == []


@pytest.mark.parametrize(("old", "new", "at", "path", "fragment"), [
    ("{k: 0..$(l - 1)}, from: h$k", "{l: 0..1}, from: h$l", "l: 0..1", "inputs.0.for.l", "is also that of a loop"),
    ("{k: 0..$(l - 1)}, from: h$k", "{depth: 0..1}, from: h0", "depth: 0", "inputs.0.for.depth", "is also an argument"),
    ("0..$(l - 1)", "0..$(m - 1)", "0..$(m", "inputs.0.for.k", "unknown name 'm'"),
    ("0..$(l - 1)", "0..$l.5", "0..$l.5", "inputs.0.for.k", "expected a range such as 1..8, or"),
    ("from: h$k}", "from: h$(l // k)}", "h$(l // k)", "inputs.0.from", "(with k = 0) (with l = 1)"),
    ("0..$(l - 1)", "1..2000001", "{for: {k: 1..2000001", "inputs.0", "loops make more than 2000000 entries"),
])  # fmt: skip
def test_mistakes_in_inner_loops_have_their_places(old, new, at, path, fragment):
    text = DENSE.replace(old, new)
    line = next(number for number, line in enumerate(text.splitlines()) if at in line)
    column = text.splitlines()[line].index(at)
    keys = tuple(int(key) if key.isdecimal() else key for key in path.split("."))
    refused(text, f"{line + 1}:{column + 1}", ("vertices", "h$l", *keys), fragment)


def test_a_range_may_depend_on_the_variables_before_it(monkeypatch):
    made = expanded("""\
args: {n: 3}
vertices:
  a${i}_$j: {for: {i: 1..$n, j: 1..$i}, op: input}
  b$i: {for: {i: 1..$n, twice: [$(2 * i)]}, if: $(twice > 2), op: input, shape: [$twice]}
""")["vertices"]
    assert list(made) == ["a1_1", "a2_1", "a2_2", "a3_1", "a3_2", "a3_3", "b2", "b3"]
    assert made["b3"]["shape"] == [6]
    text = "vertices:\n  a${i}_$j: {for: {i: 1..3, j: 1..$k}, op: input}\n"
    refused(text, "2:32", ("vertices", "a${i}_$j", "for", "j"), "unknown name 'k'")
    monkeypatch.setattr(staging, "MAX_ENTRIES", 2000)
    text = "vertices:\n  a${i}_$j: {for: {i: 1..300, j: 1..$(i * i)}, op: input}\n"
    refused(text, "2:3", ("vertices", "a${i}_$j"), "loops make more than 2000 entries")


def test_a_condition_in_a_list_gives_a_name_or_nothing():
    text = """\
args: {pre: true}
vertices:
  a: {op: add, inputs: [x, {if: $pre, from: n}, {if: $(not pre), from: m, delay: 1}]}
outputs: [{if: $pre, from: a}, {if: $(not pre), from: b}]
"""
    made = expanded(text)
    assert (made["vertices"]["a"]["inputs"], made["outputs"]) == (["x", "n"], ["a"])
    made = expanded(text, {"pre": False})
    assert (made["vertices"]["a"]["inputs"], made["outputs"]) == (["x", {"from": "m", "delay": 1}], ["b"])
