"""Wrong scenarios: every mistake found at once, each in one line with its place and how to mend it."""
# ruff: noqa: E501 - a document and the line that says what is wrong with it stand side by side

from __future__ import annotations

import copy
import json
import resource
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.run.validate import validate_file

GRAPH = """\
pcsim: graph/1
args: {depth: 2, width: 3}
vertices:
  h0: {op: input, shape: [4]}
  h$l: {for: {l: 1..$depth}, op: affine, units: $width, activation: tanh, inputs: [h$(l-1)]}
  y: {op: affine, units: 2, inputs: [h$depth]}
outputs: [y]
"""
SCENARIO = """\
pcsim: scenario/1
graph: {file: graph.yaml, args: {depth: 2}}
inputs: {h0: {normal: [0, 1]}}
targets: {y: [1, 0]}
batch: 3
rule: {name: il, step_size: 0.1, ticks: 5}
stop: {measure: gradient, below: 1e-3}
record: [{what: value, vertices: [h*]}]
measure: [energy]
sweep: {graph.depth: [1, 2], rule.name: [il, fpa], rule: [zil]}
engine: numpy
seed: 0
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.yaml").write_text(GRAPH)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return tmp_path


def lines(check):
    with pytest.raises(InputError) as caught:
        check()
    return [str(problem) for problem in caught.value.problems]


def changed(folder, name, old, new):
    """Change a file, and return the lines that say what is wrong with the scenario."""
    path = folder / name
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return lines(lambda: validate_file(folder.__class__("s.yaml")))


def test_right(folder):
    assert validate_file(folder / "s.yaml").endswith("outputs y))")
    scenario = pcsim.load("s.yaml", {"graph.depth": 3})
    assert list(scenario.graph.vertices) == ["h0", "h1", "h2", "h3", "y"]
    assert pcsim.simulate(scenario).summary["ticks"] == 5


WRONG = [
    # the ten kinds that must be found
    ("s.yaml", "batch: 3", "bathc: 3", "s.yaml:5:1: bathc: unknown key 'bathc'; did you mean 'batch'?"),
    ("graph.yaml", "op: affine, units: 2", "op: afine, units: 2", "graph.yaml:6:11: vertices.y.op: unknown op 'afine'; did you mean 'affine'?"),
    ("graph.yaml", "inputs: [h$(l-1)]", "inputs: [h$l]", "s.yaml:2:1: graph: 'feedforward' values do not exist, as the graph has a cycle: h1 -> h1"),
    ("graph.yaml", "op: affine, units: 2, inputs: [h$depth]", "op: add, inputs: [h0, h$depth]", "graph.yaml:6:3: vertices.y: op 'add' with inputs of shape (4,), (3,):"),
    ("s.yaml", "inputs: {h0: {normal: [0, 1]}}", "inputs: {}", "s.yaml:3:1: inputs: input 'h0' has no data; add h0: ... under 'inputs'"),
    ("s.yaml", "seed: 0", "seed: 0\nbatch: 4", "s.yaml:13:1: key 'batch' is already given at s.yaml:5:1; keep one of them"),
    ("graph.yaml", "[h$depth]", "[{from: h$depth, delay: -1}]", "graph.yaml:6:61: vertices.y.inputs[0].delay: a delay is a whole number of ticks, 0 or more, got -1"),
    ("s.yaml", "step_size: 0.1", "step_size: 0,1", "s.yaml:6:"),
    ("s.yaml", "seed: 0", "seed: &a [x, x]\n", "s.yaml:12:1: seed: expected a whole number, got ['x', 'x']"),
    ("s.yaml", "y: [1, 0]", "y: [1, 0, 0]", "s.yaml:4:11: targets.y: has shape [3], expected [2] or, a sample each, [3, 2]"),
    # the scenario's own keys
    ("s.yaml", "step_size: 0.1", "step_size: -1", "s.yaml:6:29: rule.step_size: must be a finite number above 0, got -1"),
    ("s.yaml", "step_size: 0.1", "step_size: fast", "s.yaml:6:29: rule.step_size: expected a number, got 'fast'"),
    ("s.yaml", "step_size: 0.1", "stepsize: 0.1", "s.yaml:6:18: rule.stepsize: unknown key 'stepsize'; did you mean 'step_size'?"),
    ("s.yaml", "ticks: 5", "ticks: 0", "s.yaml:6:41: rule.ticks: must be a whole number of at least 1, or 'levels', got 0"),
    ("s.yaml", "ticks: 5", "ticks: level", "s.yaml:6:41: rule.ticks: expected a whole number or 'levels', got 'level'"),
    ("s.yaml", "ticks: 5", "ticks: 2.5", "s.yaml:6:41: rule.ticks: expected a whole number or 'levels', got 2.5"),
    ("s.yaml", "{name: il,", "{name: fap,", "s.yaml:6:14: rule.name: unknown rule 'fap'; did you mean 'fpa'? (pcsim list rules)"),
    ("s.yaml", "batch: 3", "batch: 0", "s.yaml:5:8: batch: expected a number greater than or equal to 1, got 0"),
    ("s.yaml", "batch: 3", "batch: [3]", "s.yaml:5:1: batch: expected a whole number, got [3]"),
    ("s.yaml", "batch: 3", "batch: 100000000", None),
    ("s.yaml", "seed: 0", "level: sideways", "s.yaml:12:8: level: expected 'none', 'delay' or 'identity', got 'sideways'"),
    ("s.yaml", "below: 1e-3", "below: -1", "s.yaml:7:34: stop.below: expected a number greater than 0, got -1"),
    ("s.yaml", "measure: gradient", "measure: gradients", "s.yaml:7:17: stop.measure: expected 'gradient', 'signal', 'update', 'settled', 'limit' or 'energy', got 'gradients'"),
    ("s.yaml", "[h*]", "[h*, z]", "s.yaml:8:39: record[0].vertices[1]: no vertex is named 'z'"),
    ("s.yaml", "what: value", "what: values", "s.yaml:8:17: record[0].what"),
    ("s.yaml", "[energy]", "[engery]", "s.yaml:9:11: measure[0]: unknown measure 'engery'; did you mean 'energy'? (pcsim list measures)"),
    ("s.yaml", "engine: numpy", "engine: nunpy", "s.yaml:11:9: engine: unknown engine 'nunpy'; did you mean 'numpy'?"),
    ("s.yaml", "seed: 0", "loss: hinge", "s.yaml:12:7: loss: unknown loss 'hinge'; known: cross_entropy, squared_error"),
    ("s.yaml", "seed: 0", "loss: {y: hinge}", "s.yaml:12:11: loss.y: unknown loss 'hinge'"),
    ("s.yaml", "seed: 0", "loss: {z: cross_entropy}", "s.yaml:12:8: loss.z: 'z' is not an output; known: y"),
    ("s.yaml", "y: [1, 0]", "y: {values: [1, 0], loss: hinge}", "s.yaml:4:37: targets.y.loss: unknown loss 'hinge'"),
    ("s.yaml", "seed: 0", "initial: random", "s.yaml:12:10: initial: expected 'feedforward', 'zeros', 'carried' or 'given'"),
    ("s.yaml", "seed: 0", "initial: {normal: -1}", "s.yaml:12:19: initial.normal: expected a number greater than or equal to 0, got -1"),
    ("s.yaml", "seed: 0", "initial: {file: none.npz}", "s.yaml:12:17: initial.file: cannot read"),
    # inputs and targets
    ("s.yaml", "targets: {y: [1, 0]}", "targets: {}", "s.yaml:4:1: targets: output 'y' has no target; add y: ... under 'targets'"),
    ("s.yaml", "{h0: {", "{h1: 2, h0: {", "s.yaml:3:10: inputs.h1: there is no input vertex 'h1'; known: h0"),
    ("s.yaml", "{y: [1, 0]}", "{h1: 2, y: [1, 0]}", "s.yaml:4:11: targets.h1: 'h1' is not an output; known: y"),
    ("s.yaml", "{normal: [0, 1]}", "{dataset: digit}", "s.yaml:3:24: inputs.h0.dataset: unknown data set 'digit'; did you mean 'digits'?"),
    ("s.yaml", "{normal: [0, 1]}", "{dataset: digits, field: image}", "s.yaml:3:39: inputs.h0.field: data set 'digits' has no field 'image'; did you mean 'images'?"),
    ("s.yaml", "{normal: [0, 1]}", "{normal: [0, -1]}", "s.yaml:3:15: inputs.h0.normal: expected [mean, standard deviation], the second 0 or more"),
    ("s.yaml", "{normal: [0, 1]}", "{normal: 1}", "s.yaml:3:23: inputs.h0.normal: expected a list, got 1"),
    ("s.yaml", "{normal: [0, 1]}", "{normal: [1]}", "s.yaml:3:15: inputs.h0.normal: has too few entries, got [1]"),
    ("s.yaml", "{normal: [0, 1]}", "{uniform: [1, 0]}", "s.yaml:3:15: inputs.h0.uniform: expected [low, high], the second no less than the first"),
    ("s.yaml", "{normal: [0, 1]}", "{nromal: [0, 1]}", "s.yaml:3:15: inputs.h0.nromal: unknown key 'nromal'; did you mean 'normal'?"),
    ("s.yaml", "{normal: [0, 1]}", "{file: missing.npz}", "s.yaml:3:21: inputs.h0.file: cannot read"),
    ("s.yaml", "{normal: [0, 1]}", "{normal: [0, 1], values: 3}", "s.yaml:3:10: inputs.h0: data are a number, a list, or exactly one of"),
    ("s.yaml", "{normal: [0, 1]}", "word", "s.yaml:3:14: inputs.h0: expected numbers, got 'word'"),
    ("s.yaml", "{normal: [0, 1]}", "[1, [2]]", "s.yaml:3:10: inputs.h0: expected numbers"),
    ("s.yaml", "{normal: [0, 1]}", "[1, 2, 3, .inf]", "s.yaml:3:10: inputs.h0: data must be finite numbers"),
    # the graph, its loops and its arguments
    ("s.yaml", "graph: {file: graph.yaml, args: {depth: 2}}", "graph: graph.yaml", "s.yaml:2:8: graph: expected keys with values, got 'graph.yaml'"),
    ("s.yaml", "file: graph.yaml", "file: grapf.yaml", "s.yaml:2:15: graph.file: grapf.yaml: no such file; did you mean 'graph.yaml'?"),
    ("s.yaml", "{depth: 2}", "{dpeth: 2}", "s.yaml:2:34: graph.args.dpeth: unknown argument 'dpeth'; did you mean 'depth'?"),
    ("s.yaml", "{depth: 2}", "{depth: deep}", "s.yaml:2:34: graph.args.depth: expected int, such as the default 2, got 'deep'"),
    ("graph.yaml", "activation: tanh", "activation: tahn", "graph.yaml:5:69: vertices.h1.activation: got 'tahn', expected an activation; did you mean 'tanh'?"),
    ("graph.yaml", "[h$(l-1)]", "[h$(l-2)]", "graph.yaml:5:84: vertices.h1.inputs[0]: there is no vertex 'h-1'"),
    ("graph.yaml", "units: $width", "units: $widht", "graph.yaml:5:49: vertices.h$l.units: in $(widht): unknown name 'widht'; did you mean 'width'?"),
    ("graph.yaml", "shape: [4]", "shpae: [4]", "graph.yaml:4:19: vertices.h0.shpae: unknown key 'shpae' of op 'input'; did you mean 'shape'?"),
    ("graph.yaml", "shape: [4]", "shape: 4", "graph.yaml:4:26: vertices.h0.shape: got 4, expected a shape, a list such as [28, 28]"),
    ("graph.yaml", "shape: [4]", "shape: [0]", "graph.yaml:4:19: vertices.h0.shape: got [0], expected a positive whole number"),
    ("graph.yaml", "op: affine, units: 2, ", "op: affine, units: 2, precision: -1, ", "graph.yaml:6:40: vertices.y.precision: a precision is a finite number above 0"),
    ("graph.yaml", "op: affine, units: 2, ", "op: affine, units: 2, init: {weigth: {constant: 1}}, ", "graph.yaml:6:36: vertices.y.init.weigth: op 'affine' has no parameter 'weigth'; did you mean 'weight'?"),
    ("graph.yaml", "op: affine, units: 2, ", "op: affine, units: 2, init: {weight: {values: [1, 2]}}, ", "graph.yaml:6:45: vertices.y.init.weight.values: has shape [2], expected one number or shape [2, 3]"),
    ("graph.yaml", "op: affine, units: 2, ", "op: affine, units: 2, init: {weight: {normal: [0, 1], he: {}}}, ", "vertices.y.init.weight: an init has exactly one of"),
    ("graph.yaml", "op: affine, units: 2, ", "op: affine, units: 2, init: {weight: {file: none.npz}}, ", "vertices.y.init.weight.file: cannot read"),
    ("graph.yaml", "op: affine, units: 2, ", "op: affine, units: 2, params: {weight: W}, ", "graph.yaml:6:46: vertices.y.params.weight: there is no parameter 'W'"),
    ("graph.yaml", "outputs: [y]", "outputs: [z]", "graph.yaml:7:11: outputs[0]: there is no vertex 'z'"),
    ("graph.yaml", "outputs: [y]", "outputs: y", "graph.yaml:7:10: outputs: expected a list, got 'y'"),
    ("graph.yaml", "outputs: [y]", "output: [y]", "graph.yaml:7:1: output: unknown key 'output'; did you mean 'outputs'?"),
    # the sweep
    ("s.yaml", "{graph.depth: [1, 2],", "{graph.dpeth: [1, 2],", "s.yaml:10:9: sweep.graph.dpeth: unknown argument 'dpeth'; did you mean 'depth'?"),
    ("s.yaml", "{graph.depth: [1, 2],", "{graph.depth: [1, two],", "s.yaml:10:26: sweep.graph.depth[1]: expected int, such as the default 2, got 'two'"),
    ("s.yaml", "{graph.depth: [1, 2],", "{bathc: [1, 2],", "s.yaml:10:9: sweep.bathc: unknown key 'bathc'; did you mean 'batch'?"),
    ("s.yaml", "{graph.depth: [1, 2],", "{rule.stepsize: [1, 2],", "s.yaml:10:9: sweep.rule.stepsize: unknown key 'stepsize'; did you mean 'step_size'?"),
    ("s.yaml", "{graph.depth: [1, 2],", "{rule.step_size: [1, 0],", "s.yaml:10:29: sweep.rule.step_size[1]: must be a finite number above 0, got 0"),
    ("s.yaml", "[il, fpa]", "[il, fap]", "s.yaml:10:46: sweep.rule.name[1]: unknown rule 'fap'; did you mean 'fpa'?"),
    ("s.yaml", "[il, fpa]", "[]", "s.yaml:10:30: sweep.rule.name: expected a list of at least one value"),
    ("s.yaml", "[il, fpa]", "il", "s.yaml:10:41: sweep.rule.name: expected a list, got 'il'"),
    ("s.yaml", "rule: [zil]", "cases: [{label: a, rule.step_size: -1}, 3]", "s.yaml:10:87: sweep.cases[0].rule.step_size: must be"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "line"), [row for row in WRONG if row[3]], ids=lambda value: str(value)[:40]
)
def test_one_clear_line(folder, name, old, new, line):
    found = changed(folder, name, old, new)
    assert any(line in each for each in found), found
    assert all("\n" not in each for each in found)
    several = ("0,1", "3]", "output: [y]", "cases", "[h$l]")
    assert len(found) == 1 or any(part in new for part in several), found


def test_alias_bomb(folder):
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    )
    (folder / "s.yaml").write_text(bomb)
    start = time.perf_counter()
    (found,) = lines(lambda: pcsim.load("s.yaml"))
    assert time.perf_counter() - start < 0.5
    assert found.startswith("s.yaml:5:")
    assert "aliases unfold to more than 100000 values; use args and for instead" in found


def test_too_large_to_run(folder):
    (folder / "s.yaml").write_text(SCENARIO.replace("batch: 3", "batch: 99999999"))
    (folder / "graph.yaml").write_text(GRAPH.replace("[4]", "[4000000]"))
    (found,) = lines(lambda: pcsim.load("s.yaml").task())
    assert found.startswith("s.yaml:5:8: batch: with batch 99999999 values and messages in flight are 4e+14 numbers")


def test_everything_is_said_at_once(folder):
    (folder / "graph.yaml").write_text(
        GRAPH.replace("activation: tanh", "activation: tahn").replace("outputs:", "output:")
    )
    found = changed(folder, "s.yaml", "rule: {name: il, step_size: 0.1", "levle: delay\nrule: {name: li, step_size: -1")
    for fragment in ("activation", "output: unknown key", "levle", "unknown rule 'li'", "rule.step_size"):
        assert any(fragment in line for line in found), (fragment, found)
    assert len(found) == len(set(found))


def test_no_follow_on_problems(folder):
    """A vertex that is wrong is not also missing."""
    (folder / "graph.yaml").write_text("""\
vertices:
  x: {op: input, shape: [2], inputs: 3}
  h: {op: affine, units: 2, inputs: [x], params: {weight: W}}
  k: {op: add, inputs: [h]}
  y: {op: afine, units: 2, inputs: [k]}
parameters: {W: {shape: 3}}
outputs: [x, y]
""")
    found = lines(lambda: pcsim.load_graph("graph.yaml"))
    assert [line.split(": ")[1] for line in found] == [
        "vertices.x.inputs", "vertices.k.inputs", "vertices.y.op", "parameters.W.shape",
    ]  # fmt: skip


def test_bad_files_for_data(folder):
    np.savez(folder / "two.npz", a=np.zeros(3), b=np.zeros(4))
    np.savez(folder / "object.npz", a=np.array([{}], dtype=object))
    np.savez(folder / "text.npz", a=np.array(["x"]))
    whole = (folder / "two.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (folder / "idx").write_bytes(b"\0\0\x08\x02\0\0\0\x05\0\0\0\x04123")
    (folder / "short").write_bytes(b"\0\0\x08\x03\0\0")
    (folder / "text").write_text("hello")
    expected = {
        "two.npz": "two.npz holds a, b: say which with 'key'",
        "two.npz, key: c": "two.npz has no array 'c'; known: a, b",
        "two.npz, key: a": "inputs.h0: a sample has shape [], expected [4]",
        "object.npz": "it holds Python objects, expected plain numbers",
        "text.npz": "text.npz holds <U1, expected numbers",
        "cut.npz": "cannot read",
        "idx": "is cut short, or too long: it holds 3 bytes and says shape [5, 4]",
        "short": "is cut short: it has no shape",
        "text": "is not an IDX file",
        "none": "no such file",
        ".": "cannot read",
    }
    for file, fragment in expected.items():
        (folder / "s.yaml").write_text(SCENARIO.replace("{normal: [0, 1]}", f"{{file: {file}}}"))
        (found,) = lines(lambda: validate_file(folder / "s.yaml"))
        assert fragment in found
        assert ":3:" in found


# ---- overrides and mappings


def test_overrides(folder):
    for key, value, line in [
        ("rule.stepsize", 1, "rule.stepsize: unknown key 'stepsize'; did you mean 'step_size'?"),
        ("rule.step_size", -1, "rule.step_size: must be a finite number above 0, got -1.0"),
        ("rule.step_size", "x", "rule.step_size: expected a number, got 'x'"),
        ("bathc", 1, "bathc: unknown key 'bathc'; did you mean 'batch'?"),
        ("graph.dpeth", 1, "graph.args.dpeth: unknown argument 'dpeth'; did you mean 'depth'?"),
        ("graph.depth", "x", "graph.args.depth: expected int, such as the default 2, got 'x'"),
        ("a..b", 1, "the key 'a..b' is not of the form a.b.c"),
        ("batch.x", 1, "batch: expected a whole number, got {'x': 1}"),
        ("rule", {"name": "il"}, None),
        ("graph.args.depth", 1, None),
        ("record", [], None),
    ]:
        if line is None:
            pcsim.load("s.yaml", {key: value})
        else:
            (found,) = lines(lambda: pcsim.load("s.yaml", {key: value}))  # noqa: B023
            assert found == line or found == f"s.yaml:5:1: {line}"


def test_override_of_an_inline_graph():
    document = {
        "graph": {
            "args": {"n": 2},
            "vertices": {"x": {"op": "input", "shape": ["$n"]}, "y": {"op": "tanh", "inputs": ["x"]}},
        },
        "rule": "il",
    }
    assert pcsim.load(document, {"graph.n": 5}).graph.vertices["y"].shape == (5,)
    (found,) = lines(lambda: pcsim.load(document, {"graph.m": 5}))
    assert found == "graph.args.m: unknown argument 'm'; known: n"
    (found,) = lines(lambda: pcsim.load(document, {"graph.n": "x"}))
    assert found == "graph.args.n: expected int, such as the default 2, got 'x'"
    assert pcsim.load(document, {"rule.step_size": 0.25}).rule.step_size == 0.25


def test_mappings_have_paths_and_no_places():
    found = lines(lambda: pcsim.load({
        "graph": {"vertices": {"x": {"op": "input", "shape": [2]}, "y": {"op": "tahn", "inputs": ["x"]}}},
        "rule": {"name": "il", "ticks": -2}, "batch": "many",
    }))  # fmt: skip
    assert found == [
        "batch: expected a whole number, got 'many'",
        "graph.vertices.y.op: unknown op 'tahn'; did you mean 'tanh'? (pcsim list ops)",
        "rule.ticks: must be a whole number of at least 1, or 'levels', got -2",
    ]
    assert lines(lambda: pcsim.load({})) == ["graph: the key 'graph' is missing", "rule: the key 'rule' is missing"]
    assert lines(lambda: pcsim.load([])) == ["expected a path or a mapping, got a list"]


def test_names_that_look_like_numbers(folder):
    (folder / "graph.yaml").write_text("vertices: {0: {op: input, shape: [2]}, 1: {op: tahn, inputs: [0]}}\n")
    (found,) = lines(lambda: pcsim.load_graph("graph.yaml"))
    assert found.startswith("graph.yaml:1:48: vertices.1.op: unknown op")
    (folder / "graph.yaml").write_text("vertices: {1: {op: input, shape: [2]}, '1': {op: input, shape: [2]}}\n")
    (found,) = lines(lambda: pcsim.load_graph("graph.yaml"))
    assert "key '1' is already given" in found


def test_files_of_parameters_are_sought_beside_their_document(folder):
    inner = folder / "graphs"
    inner.mkdir()
    np.savez(inner / "w.npz", w=np.arange(8.0).reshape(2, 4))
    (inner / "g.yaml").write_text(
        "vertices: {x: {op: input, shape: [4]}, y: {op: affine, units: 2, init: {weight: {file: w.npz, key: w}}, inputs: [x]}}\n"
    )
    (folder / "outer.yaml").write_text(
        "vertices: {x: {op: input, shape: [4]}, c: {use: graphs/g.yaml, inputs: {x: x}}}\n"
    )
    for graph in ("graphs/g.yaml", "outer.yaml"):
        found = pcsim.load({"graph": {"file": graph}, "rule": "il"}).parameters()
        assert any(np.array_equal(value, np.arange(8.0).reshape(2, 4)) for value in found.values())


# ---- the command line


def command_line(*arguments):
    """Run Python; return what came of it and the seconds of processor time, which other programs do not lengthen."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_command_line_says_so_quickly(folder):
    (folder / "s.yaml").write_text(SCENARIO.replace("batch:", "bathc:").replace("name: il", "name: fap"))
    script = "from pcsim.cli import main; main()"
    done, seconds = min((command_line("-c", script, "validate", "s.yaml") for _ in range(3)), key=lambda pair: pair[1])
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "s.yaml:5:1: bathc: unknown key 'bathc'; did you mean 'batch'?",
        "s.yaml:6:14: rule.name: unknown rule 'fap'; did you mean 'fpa'? (pcsim list rules)",
    ]
    assert seconds < 1


def test_a_wrong_file_imports_nothing_heavy(folder):
    (folder / "s.yaml").write_text(
        SCENARIO.replace("batch:", "bathc:").replace("[1, 0]", "{dataset: digits, field: one_hot}")
    )
    script = (
        "import sys; sys.argv[1:] = ['validate', 's.yaml']\n"
        "from pcsim.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('scipy', 'xarray', 'zarr', 'networkx', 'matplotlib', 'sklearn', 'pandas', 'rich.progress')"
        " if name in sys.modules])"
    )
    done, _ = command_line("-c", script)
    assert done.stdout == "[]\n"


# ---- whatever else a file may hold

VALID = {
    "pcsim": "scenario/1",
    "title": "t",
    "graph": {
        "args": {"depth": 2},
        "parameters": {"W": {"shape": [3, 3], "init": {"normal": [0, 1]}}},
        "vertices": {
            "h0": {"op": "input", "shape": [3]},
            "h$l": {"for": {"l": "1..$depth"}, "op": "affine", "units": 3, "params": {"weight": "W"}, "inputs": [{"from": "h$(l-1)", "delay": {"value": 1, "error": 0}}]},
            "y": {"if": "$(depth > 1)", "op": "affine", "units": 2, "init": {"weight": {"he": {}}}, "precision": [1, 2], "inputs": ["h$depth"]},
        },
        "outputs": ["y"],
    },
    "inputs": {"h0": {"normal": [0, 1], "scale": 2}},
    "targets": {"y": {"values": [0, 1], "loss": "cross_entropy"}},
    "loss": {"y": "squared_error"},
    "batch": 2,
    "rule": {"name": "il", "ticks": 3, "step_size": 0.1},
    "level": "delay",
    "initial": {"normal": 1.0},
    "stop": {"measure": "energy", "below": 0.1},
    "record": [{"what": ["value", "error"], "vertices": "all", "every": 1}],
    "measure": ["energy"],
    "sweep": {"graph.depth": [1, 2], "rule.name": ["il"], "cases": [{"label": "a", "batch": 3}]},
    "engine": "auto",
    "dtype": "float32",
    "seed": 1,
}  # fmt: skip
JUNK = st.sampled_from([
    None, True, False, 0, -1, 1, 3, 2.5, -0.5, 10**6, 10**17, float("inf"), float("nan"), 1e300, "", "x", "h0", "y", "$", "$depth", "$x",
    "$(", "1..3", "levels", "all", "none", "a b", "é", [], [[]], [1], [1, 2], [1, [2]], ["x"], [None], {}, {"x": 1}, {"": 1},
    {"from": "h0"}, {"for": 3}, {"if": True}, {"use": "x.yaml"}, {"file": "x.npz"}, {"normal": [0, 1]}, {"values": [1]}, {1: 2},
])  # fmt: skip


def places_of(data, path=()):
    """Return every place of a document that can be replaced."""
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    return [place for key in keys for place in ((*path, key), *places_of(data[key], (*path, key)))]


@st.composite
def mutated(draw):
    document = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(places_of(document)))
        holder = document
        for key in path:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "delete", "rename"]))
        if action == "replace":
            holder[last] = copy.deepcopy(draw(JUNK))
        elif action == "delete" or isinstance(holder, list):
            del holder[last]
        else:
            name = draw(JUNK.filter(lambda key: isinstance(key, str | int) and not isinstance(key, bool)))
            holder[name] = holder.pop(last)
        if not places_of(document):
            break
    return document


def test_the_valid_document_is_valid():
    pcsim.load(VALID).task()


@settings(max_examples=400, deadline=2000)
@given(mutated())
def test_junk_raises_only_input_errors(document):
    problems = ()
    try:
        scenario = pcsim.load(document)
        if scenario.document.batch <= 10**6:
            scenario.task()
    except InputError as error:
        problems = error.problems or (None,)
    assert all(problem.message and "\n" not in problem.message for problem in problems)


# ---- what the format's description shows


def test_the_description_of_the_format(folder):
    (folder / "mlp.yaml").write_text("""\
pcsim: graph/1
title: Multilayer perceptron
source: Zahid et al. 2023, Figure 3
args: {depth: 8, width: 64, classes: 10, activation: tanh}
parameters:
  W_shared: {shape: [$width, $width], init: {uniform_fan_in: {}}}
vertices:
  h0: {op: input, shape: [64]}
  h$l: {for: {l: 1..$depth}, op: affine, units: $width, activation: $activation, params: {weight: W_shared}, inputs: [h$(l-1)]}
  y:  {op: affine, units: $classes, inputs: [h$depth]}
outputs: [y]
""")
    (folder / "scenario.yaml").write_text("""\
pcsim: scenario/1
title: Ticks to convergence against depth
graph: {file: mlp.yaml, args: {depth: 8}}
inputs:  {h0: {dataset: digits, field: images}}
targets: {y: {dataset: digits, field: one_hot}}
batch: 64
rule: {name: fpa, step_size: 0.1, ticks: 400}
level: delay
stop: {measure: gradient, below: 1e-3}
record: [{what: [value, error], vertices: all, every: 1}]
measure: [ticks_to_convergence, first_arrival, divergence, energy, traffic]
sweep: {graph.depth: [1, 2, 4, 8, 16, 32], rule.name: [il, fpa, zil], rule.step_size: [0.1, 0.5, 1.0]}
engine: auto
dtype: float64
seed: 0
""")
    pytest.importorskip("sklearn")
    assert "ok" in validate_file(folder / "scenario.yaml")
    scenario = pcsim.load("scenario.yaml", {"graph.depth": 16})
    assert len(scenario.graph.vertices) == 18
    assert scenario.task().inputs["h0"].shape == (64, 64)
    assert list(scenario.graph.uses["W_shared"]) == [f"h{number}" for number in range(1, 17)]


def test_formula_and_parameter_vertices():
    scenario = pcsim.load({
        "graph": {"formula": "tan(sqrt(theta * v0)) + sin(v0**2)", "parameters": {"theta": {"init": {"constant": 2}}}},
        "inputs": {"v0": 0.5}, "targets": {"v6": 1}, "rule": "zil",
    })  # fmt: skip
    assert scenario.graph.uses["theta"] == ("v1",)
    graph = pcsim.load_graph({"vertices": {
        "W": {"op": "parameter", "shape": [2, 3], "init": {"he": {}}},
        "x": {"op": "input", "shape": [3]},
        "y": {"op": "matmul", "inputs": ["W", {"from": "x", "delay": 2}]},
    }})  # fmt: skip
    assert graph.parameters["W"].fan_in == 3
    assert graph.role("W") == "parameter"


@pytest.mark.parametrize(("number", "right"), [(3.0, True), (1e3, True), (3.5, False), (True, False), ("3", False)])
@pytest.mark.parametrize("key", ["batch", "seed", "rule.ticks", "record"])
def test_whole_numbers_may_have_a_point_or_an_exponent(key, number, right):
    value = [{"what": "error", "every": number}] if key == "record" else number
    document = {
        "graph": {"vertices": {"x": {"op": "input", "shape": []}, "y": {"op": "tanh", "inputs": [{"from": "x", "delay": 2.0}]}}},
        "inputs": {"x": 1.0}, "targets": {"y": 0.0}, "rule": {"name": "il", "ticks": 5},
    }  # fmt: skip
    if right:
        pcsim.load(document, {key: value})
    else:
        with pytest.raises(InputError, match="expected a whole number"):
            pcsim.load(document, {key: value})


def test_whole_numbers_of_arguments_delays_and_options_too(tmp_path):
    cell = "args: {wide: 2}\nvertices: {i: {op: input, shape: [$wide]}, o: {op: tanh, inputs: [{from: i, delay: 1.0}]}}"
    (tmp_path / "cell.yaml").write_text(cell)
    (tmp_path / "s.yaml").write_text(
        "graph:\n  args: {n: 3}\n  vertices:\n    x: {op: input, shape: [$n]}\n"
        "    c: {use: cell.yaml, args: {wide: 3.0}, inputs: {i: {from: x, delay: 2.0}}}\n"
        "    y: {op: identity, inputs: [c]}\n"
        "inputs: {x: 1}\ntargets: {y: 0}\nrule: {name: fpa, ticks: 6.0}\n"
    )
    scenario = pcsim.load(tmp_path / "s.yaml", {"graph.n": 3.0, "batch": 2.0})
    assert [edge.value_delay for edge in scenario.graph.edges if edge.pre == "x"] == [3]
    assert pcsim.simulate(scenario, until=3.0).summary["ticks"] == 3
    with pytest.raises(InputError, match=r"a whole number of ticks, at least 1, got 2\.5"):
        pcsim.simulate(scenario, until=2.5)
    asked = ["run", str(tmp_path / "s.yaml"), "--until", "0.3e1", "--set", "graph.n=3.0", "--json"]
    assert json.loads(CliRunner().invoke(app, asked).stdout)["ticks"] == 3
    wrong = CliRunner().invoke(app, ["run", str(tmp_path / "s.yaml"), "--until", "2.5"])
    assert (wrong.exit_code, "'2.5' is not a whole number" in wrong.output) == (2, True)
