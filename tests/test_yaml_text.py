"""YAML text into a located tree."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pcsim.documents import from_plain, locate, parse, plain, read, yaml_text
from pcsim.documents.scalars import plain_scalar
from pcsim.errors import InputError, Location

LOADERS = [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])]


@pytest.fixture(params=LOADERS, ids=lambda loader: loader.__name__)
def loader(request, monkeypatch):
    monkeypatch.setattr(yaml_text, "_LOADER", request.param)


def data(text):
    return plain(parse(text, "f.yaml"))


def refused(text, place, fragment):
    with pytest.raises(InputError) as caught:
        parse(text, "f.yaml")
    problem = caught.value.problems[0]
    assert str(problem.location) == f"f.yaml:{place}"
    assert fragment in problem.message
    return caught.value.problems


# ---- scalars


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1E5", 1e5), ("1.", 1.0), (".5", 0.5), ("+3", 3), ("-2.5e-3", -2.5e-3),
        ("1_000", 1000), ("010", 10), ("0x10", 16), ("-0x1F", -31), ("0o17", 15), ("0b101", 5),
        ("1_000.5", 1000.5), ("-7", -7), (".inf", math.inf), ("+.Inf", math.inf),
        ("-.INF", -math.inf), ("0", 0), ("-0.0", -0.0), ("1e+3", 1e3), ("true", True),
        ("TRUE", True), ("False", False), ("null", None), ("~", None), ("Null", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("n", "n"),
        ("N", "N"), ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("1.2.3", "1.2.3"),
        ("1..8", "1..8"), ("1__0", "1__0"), ("_1", "_1"), ("+", "+"), (".", "."), ("e5", "e5"),
        ("1e", "1e"), ("0xg", "0xg"), ("=", "="), ("h$l", "h$l"), ("'1'", "1"), ('"true"', "true"),
        ("'~'", "~"), ("''", ""), ("!!str 1", "1"), ("! 1", "1"), ("!!float 1", 1.0),
        ("!!int 3", 3), ("!!null ~", None), ("!!bool true", True),
        ("999999999999999999", 10**18 - 1), ("000000000000000000000000007", 7),
    ],
)  # fmt: skip
def test_scalars_mean_what_a_person_means(loader, text, value):
    read_back = data(f"a: {text}")["a"]
    assert read_back == value
    assert type(read_back) is type(value)


def test_nan_and_block_scalars(loader):
    assert math.isnan(data(".nan"))
    assert data("a: |\n  12\nb: >-\n  true\n") == {"a": "12\n", "b": "true"}


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("1000000000000000000", "at most 18 digits"),
        ("-1_000_000_000_000_000_000", "at most 18 digits"),
        ("0xffffffffffffffff", "at most 18 digits"),
        ("9" * 100_000, "at most 18 digits"),
        ("1e400", "beyond the largest number"),
        ("!!int x", "not what its tag !!int says"),
    ],
)
def test_refused_scalars(loader, text, fragment):
    refused(f"b: 1\na: {text}", "2:4", fragment)


def test_number_patterns_take_linear_time():
    start = time.perf_counter()
    assert data("1" * 200_000 + ".x") == "1" * 200_000 + ".x"
    assert data("1_" * 100_000) == "1_" * 100_000
    assert time.perf_counter() - start < 2


# ---- structure and places


DOCUMENT = """\
pcsim: graph/1
vertices:
  h0: {op: input, shape: [64, 3]}
  h1:
    op: tahn
    inputs:
      - h0
      - from: h0
        delay: 2
7: é
"""


def test_data_and_empty_documents(loader):
    assert data(DOCUMENT)["vertices"]["h1"]["inputs"] == ["h0", {"from": "h0", "delay": 2}]
    assert data(DOCUMENT)["7"] == "é"
    assert data("") is None
    assert data("# nothing\n") is None
    assert data("---\n") is None
    assert data("\ufeffa: 1") == {"a": 1}
    assert data("---\na: 1\n...\n") == {"a": 1}


@pytest.mark.parametrize(
    ("path", "key", "place"),
    [
        ((), False, "1:1"),
        (("pcsim",), False, "1:8"),
        (("pcsim",), True, "1:1"),
        (("vertices",), False, "2:1"),
        (("vertices", "h0"), False, "3:3"),
        (("vertices", "h0", "shape", 1), False, "3:31"),
        (("vertices", "h1", "op"), False, "5:9"),
        (("vertices", "h1", "op"), True, "5:5"),
        (("vertices", "h1", "inputs", 1), False, "8:9"),
        (("vertices", "h1", "inputs", 1, "delay"), False, "9:16"),
        (("vertices", "h1", "inputs", 5), False, "6:5"),
        (("vertices", "h1", "missing", "deeper"), False, "4:3"),
        (("vertices", "h1", "missing"), True, "4:3"),
        (("vertices", "h1", "op", "deeper"), False, "5:9"),
        ((7,), False, "10:4"),
    ],
)
def test_locate(loader, path, key, place):
    assert str(locate(parse(DOCUMENT, "f.yaml"), path, key=key)) == f"f.yaml:{place}"


def test_columns_count_characters(loader):
    assert locate(parse("x: é\ny: {é: ü, z: 1}", "f"), ("y", "z")) == Location("f", 2, 14)


# ---- refusals


@pytest.mark.parametrize(
    ("text", "place", "fragment"),
    [
        ("a: 1\nb: 2\na: 3", "3:1", "key 'a' is already given at f.yaml:1:1"),
        ("{x: {k: 1, 'k': 2}}", "1:12", "already given at f.yaml:1:6"),
        ("1: a\n0x1: b", "2:1", "key '1' is already given"),
        (
            "a: !!python/object/apply:os.system [ls]",
            "1:4",
            "tag '!!python/object/apply:os.system' is not allowed",
        ),
        ("a: !!python/name:os.system ''", "1:4", "is not allowed"),
        ("a: !mine 3", "1:4", "tag '!mine' is not allowed"),
        ("!!set {a, b}", "1:1", "tag '!!set' is not allowed"),
        ("a: !!binary aGk=", "1:4", "tag '!!binary'"),
        ("a: &x {k: 1}\nb:\n  <<: *x", "3:3", "merge keys (<<) are not supported"),
        ("? [a, b]\n: 1", "1:3", "a key must be a name or a whole number"),
        ("{{ x }}: 1", "1:1", "quote text that starts with"),
        ("a: &x b\n*x : 1", "2:1", "a key must be"),
        ("true: 1", "1:1", "quote it: 'true'"),
        ("a: 1\n1.5: 1", "2:1", "quote it: '1.5'"),
        ("null: 1", "1:1", "quote it: 'null'"),
        ("a: 1\n---\nb: 2\n", "2:1", "a second document begins"),
        ("a: *b", "1:4", "alias *b has no anchor &b above it"),
        ("base: &base 1\na: *bas", "2:4", "did you mean 'base'?"),
        ("a: &a [1, *a]", "1:11", "alias *a stands inside what it names"),
        ("&r {k: {j: *r}}", "1:12", "stands inside"),
    ],
)
def test_refused_structure(loader, text, place, fragment):
    refused(text, place, fragment)


def test_quoted_keys_are_text(loader):
    assert data("'true': 1\n'1': 2\n'<<': 3") == {"true": 1, "1": 2, "<<": 3}


def test_all_problems_are_reported_at_once(loader):
    problems = refused("a: 1\na: 2\nb: !x 1\nc: 1e999\n1.5: 0\n", "2:1", "already given")
    assert [problem.location.line for problem in problems] == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("text", "line", "fragment"),
    [
        ("a:\n\t- b\n", 2, "indent with spaces, not tabs"),
        ("a: b: c\n", 1, "quote text that contains ': '"),
        ("a: 1\n  b: 2\n", 2, "check the indentation"),
        ("a: 'x\n", 2, "a quote is not closed"),
        ("a: [1, 2\nb: 3\n", 2, "a bracket is not closed"),
        ("- a\nb: c\n", 2, "check the indentation"),
        ("a: @x", 1, "starts with @"),
        ("[a, b: [}", 1, "not valid YAML"),
        ("%YAML 9.1\n---\na\n", 1, "not valid YAML"),
        ("a: !nope! 1", 1, "not valid YAML"),
        ("a: " + "[" * 100_000, 1, "nested deeper than 100"),
        ("{a: " * 10_000, 1, "nested deeper than 100"),
        ("- " * 10_000, 1, "nested deeper than 100"),
    ],
)
def test_syntax_errors(loader, text, line, fragment):
    with pytest.raises(InputError, match=re.escape(fragment)) as caught:
        parse(text, "f.yaml")
    location = caught.value.problems[0].location
    assert (location.file, location.line) == ("f.yaml", line)
    assert location.column >= 1


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: 1\nb: \x00", "2:4"), ("\x1b[0m", "1:1"), ("é\r\n\ud800", "2:1"), ("a\rbc\x07", "2:3")],
)
def test_control_characters(text, place):
    refused(text, place, "is not allowed in a document")


def test_hundred_levels_are_fine(loader):
    assert data("[" * 100 + "1" + "]" * 100)
    refused("[" * 101 + "1" + "]" * 101, "1:102", "nested deeper than 100")


def test_aliases_share_and_keep_the_place_of_the_anchor(loader):
    node = parse("a: &x {k: [1, 2]}\nb: *x\nc: [*x, *x]\n", "f")
    assert plain(node) == {"a": {"k": [1, 2]}, "b": {"k": [1, 2]}, "c": [{"k": [1, 2]}] * 2}
    assert locate(node, ("b", "k", 1)) == Location("f", 1, 15)


def test_an_anchor_may_be_given_again(loader):
    assert data("a: &x 1\nb: &x 2\nc: *x") == {"a": 1, "b": 2, "c": 2}


def bomb(levels, fold):
    lines = ["a0: &a0 lol"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * fold)}]" for i in range(1, levels + 1)]
    return "\n".join(lines)


def test_alias_bomb_is_refused_at_once():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        refused(bomb(9, 9), "7:10", "aliases unfold to more than 100000 values")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.2


def test_the_alias_limit_is_exact(loader):
    block = "a: &a [" + "1, " * 999 + "]\n"  # 1000 values with the list itself
    assert len(data(block + "b: [" + "*a, " * 100 + "]")["b"]) == 100
    refused(block + "b: [" + "*a, " * 101 + "]", f"2:{5 + 4 * 100}", "100000")


def test_aliases_cannot_hide_depth(loader):
    deep = "[" * 60 + "1" + "]" * 60
    refused(f"a: &a {deep}\nb: {'[' * 60}*a{']' * 60}", "2:64", "deeper than 100")
    chain = "\n".join(["a0: &a0 1", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 200))])
    refused(chain, "101:14", "deeper than 100")


# ---- files


def test_read(tmp_path):
    path = tmp_path / "g.yaml"
    path.write_bytes("\ufeffa: é\nb: [1]".encode())
    node = read(path)
    assert plain(node) == {"a": "é", "b": [1]}
    assert locate(node, ("b", 0)) == Location(str(path), 2, 5)
    assert plain(read(str(path))) == plain(node)


def test_read_refuses(tmp_path, monkeypatch):
    (tmp_path / "mlp.yaml").write_text("a: 1")
    for path, fragment in [
        (tmp_path / "mpl.yaml", "no such file; did you mean 'mlp.yaml'?"),
        (tmp_path, "is a folder, not a file"),
        (Path("/dev/null"), "is not a plain file"),
        (tmp_path / ("x" * 5000), "name too long"),
    ]:
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert fragment in str(caught.value)
    monkeypatch.setattr(yaml_text, "MAX_BYTES", 3)
    with pytest.raises(InputError, match=r"mlp\.yaml: larger than"):
        read(tmp_path / "mlp.yaml")


def test_read_refuses_other_encodings(tmp_path):
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é\nbé: ü".encode()[:-1] + b"\xff")
    with pytest.raises(InputError, match="not UTF-8") as caught:
        read(path)
    assert caught.value.problems[0].location == Location(str(path), 2, 5)


# ---- Python data


def test_from_plain():
    value = {"a": [1, (2.5, None)], 3: {"k": np.arange(3)}, "n": np.float64(0.5), "t": True}
    node = from_plain(value)
    assert plain(node) == {"a": [1, [2.5, None]], "3": {"k": [0, 1, 2]}, "n": 0.5, "t": True}
    assert locate(node, ("a", 1)) is None
    place = Location("f", 1, 2)
    assert locate(from_plain(value, location=place), ("a", 1, 0)) == place


def test_from_plain_refuses():
    with pytest.raises(InputError, match=r"a\[1\]: here: a document cannot hold a set"):
        from_plain({"a": [1, {2}]}, "here")
    with pytest.raises(InputError, match=r"key 1\.5 is a float"):
        from_plain({1.5: 0})
    loop = []
    loop.append(loop)
    with pytest.raises(InputError, match="nested deeper than 100"):
        from_plain(loop)


# ---- round trips

texts = st.text(
    st.characters(exclude_categories=["C"]) | st.sampled_from("\n\t \"'#:-{}[]&*!|>%@`$~0123456789."),
    max_size=12,
)
# PyYAML leaves some texts unquoted that we read as numbers, such as 1e3.
plain_texts = texts.filter(lambda text: isinstance(plain_scalar(text), str) if len(text) < 400 else True)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18) + 1, 10**18 - 1)
    | st.floats(allow_nan=False)
    | plain_texts
    | st.sampled_from(["", "true", "null", "~", "12", "1.5", ".inf", "yes", "2020-01-01", "1:30", "0x10"])
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(plain_texts | st.integers(-100, 100), inner, max_size=4)
    ),
    max_leaves=20,
)


def named(tree):
    """Return data as a document has them: numbers that are keys are their digits."""
    if isinstance(tree, dict):
        return {str(key): named(value) for key, value in tree.items()}
    return [named(item) for item in tree] if isinstance(tree, list) else tree


@given(trees, st.booleans())
def test_round_trip_through_pyyaml(tree, flow):
    assert data(yaml.safe_dump(tree, default_flow_style=flow, allow_unicode=True)) == named(tree)


@given(trees)
def test_round_trip_through_python(tree):
    assert plain(from_plain(tree)) == named(tree)


@given(st.text(max_size=40) | st.text(st.sampled_from("a1:-[]{},&*!|>'\"%@?<~ \n\t"), max_size=30))
def test_any_text_is_read_or_refused(text):
    problems = ()
    try:
        parse(text, "f.yaml")
    except InputError as error:
        problems = error.problems
    assert all(problem.location and problem.location.file == "f.yaml" for problem in problems)


@pytest.mark.parametrize("loader", {yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)})
@pytest.mark.parametrize(("opens", "column"), [("[", 104), ("{a: ", 401)])
@pytest.mark.parametrize("depth", [150, 1_100, 5_000])
def test_too_many_brackets_are_told_alike_whatever_the_library(monkeypatch, loader, opens, column, depth):
    monkeypatch.setattr("pcsim.documents.yaml_text._LOADER", loader)
    with pytest.raises(InputError) as caught:
        parse("a: " + opens * depth, "deep.yaml")
    assert str(caught.value) == f"deep.yaml:1:{column}: nested deeper than 100"
