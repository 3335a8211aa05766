"""Graphs in graphs: ``use: cell.yaml``."""
# ruff: noqa: E501 - a document and the line that says what is wrong with it stand side by side

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import pcsim
from pcsim.errors import InputError

CELL = """\
args: {n: 2}
parameters: {W: {shape: [$n, $n]}}
vertices:
  x: {op: input, shape: [$n]}
  m: {op: input, shape: [$n]}
  h: {op: affine, units: $n, params: {weight: W}, inputs: [{from: x, delay: {value: 1, error: 2}}]}
  out: {op: add, inputs: [h, {from: m, delay: 3}, m]}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell.yaml").write_text(CELL)
    return tmp_path


def graph(folder, text, name="outer.yaml"):
    (folder / name).write_text(text)
    return pcsim.load_graph(name)


def lines(folder, text, name="outer.yaml"):
    with pytest.raises(InputError) as caught:
        graph(folder, text, name)
    return [str(problem) for problem in caught.value.problems]


def delays(edge):
    return edge.value_delay, edge.error_delay


def test_two_instances_share_what_they_are_told_to(folder):
    made = graph(folder, """\
parameters: {V: {shape: [3, 3]}}
vertices:
  a: {op: input, shape: [3]}
  one: {use: cell.yaml, args: {n: 3}, params: {W: V}, inputs: {x: a, m: a}}
  two: {use: cell.yaml, args: {n: 3}, params: {W: V}, inputs: {x: one, m: {from: a, delay: {value: 1, error: 5}}}}
  own: {use: cell.yaml, args: {n: 3}, inputs: {x: two.h, m: {from: two, delay: 2}}}
""")  # fmt: skip
    assert list(made.vertices) == ["a", "one.h", "one.out", "two.h", "own.h", "two.out", "own.out"]
    assert sorted(made.parameters) == ["V", "one.h.bias", "own.W", "own.h.bias", "two.h.bias"]
    assert made.uses["V"] == ("one.h", "two.h")
    assert made.outputs == ("own.out",)
    assert delays(made.edge("a->one.h")) == (1, 2)
    assert delays(made.edge("one.out->two.h")) == (1, 2)
    assert delays(made.edge("a->two.out")) == (4, 8)
    assert delays(made.edge("a->two.out#1")) == (1, 5)
    assert delays(made.edge("two.out->own.out")) == (5, 5)
    assert delays(made.edge("two.out->own.out#1")) == (2, 2)
    assert delays(made.edge("two.h->own.h")) == (1, 2)


def test_inputs_that_are_not_wired_stay_inputs(folder):
    made = graph(folder, "vertices: {a: {op: input, shape: [2]}, c: {use: cell.yaml, inputs: {x: a}}}\n")
    assert made.role("c.m") == "source"


def test_nested_twice_with_files_in_other_folders(folder):
    (folder / "cells").mkdir()
    (folder / "cells" / "pair.yaml").write_text("""\
args: {width: 2}
parameters: {U: {shape: [$width, $width], init: {constant: 0.5}}}
vertices:
  i: {op: input, shape: [$width]}
  first: {use: ../cell.yaml, args: {n: $width}, params: {W: U}, inputs: {x: {from: i, delay: 1}, m: i}}
  second: {use: ../cell.yaml, args: {n: $width}, params: {W: U}, inputs: {x: first, m: i}}
outputs: [second]
""")  # fmt: skip
    made = graph(folder, """\
parameters: {T: {shape: [4, 4], init: {constant: 2}}}
vertices:
  a: {op: input, shape: [4]}
  p$l: {for: {l: 1..2}, use: cells/pair.yaml, args: {width: 4}, params: {U: T}, inputs: {i: "$(l)"}}
  1: {op: tanh, inputs: [a]}
  2: {op: tanh, inputs: [p1]}
outputs: [p2, p1.first.h]
""")  # fmt: skip
    assert made.uses["T"] == ("p1.first.h", "p1.second.h", "p2.first.h", "p2.second.h")
    assert made.outputs == ("p1.first.h.observed", "p2.second.out")
    assert delays(made.edge("1->p1.first.h")) == (2, 3)
    assert delays(made.edge("p1.second.out->2")) == (0, 0)


def test_a_formula_can_be_nested(folder):
    (folder / "f.yaml").write_text("formula: sin(theta * x)\nparameters: {theta: {init: {constant: 3}}}\n")
    made = graph(
        folder,
        "vertices: {a: {op: input, shape: []}, f: {use: f.yaml, inputs: {x: {from: a, delay: 2}}}, y: {op: tanh, inputs: [f]}}\n",
    )
    assert list(made.vertices) == ["a", "f.theta", "f.v1", "f.v2", "y"]
    assert made.parameters["f.theta"].init == ("constant", 3.0)
    assert delays(made.edge("a->f.v1")) == (2, 2)


def test_a_scenario_runs_on_a_nest(folder):
    run = pcsim.simulate({
        "graph": {"vertices": {"a": {"op": "input", "shape": [2]}, "c": {"use": "cell.yaml", "inputs": {"x": "a", "m": "a"}}}},
        "inputs": {"a": [1, 2]}, "targets": {"c.out": 0}, "rule": "zil",
    })  # fmt: skip
    assert set(run.updates) == {"c.W", "c.h.bias"}
    assert all(np.isfinite(value).all() for value in run.updates.values())


OUTER = "vertices:\n  a: {op: input, shape: [2]}\n  c: {use: cell.yaml, inputs: {x: a, m: a}}\n"


@pytest.mark.parametrize(("old", "new", "line"), [
    ("cell.yaml", "cel.yaml", "outer.yaml:3:12: vertices.c.use: cel.yaml: no such file; did you mean 'cell.yaml'?"),
    ("cell.yaml", "[cell.yaml]", "outer.yaml:3:7: vertices.c.use: expected the name of a graph file"),
    ("cell.yaml", "outer.yaml", "outer.yaml:3:12: vertices.c.use: a graph cannot use itself: outer.yaml -> outer.yaml"),
    ("x: a", "z: a", "outer.yaml:3:32: vertices.c.inputs.z: cell.yaml has no input 'z'; known: m, x"),
    ("x: a", "x: b", "outer.yaml:3:35: vertices.c.h.inputs[0]: there is no vertex 'b'; known: a"),
    ("inputs: {", "input: {", "outer.yaml:3:23: vertices.c.input: unknown key 'input'; did you mean 'inputs'?"),
    ("inputs: {x: a, m: a}", "inputs: [a]", "outer.yaml:3:23: vertices.c.inputs: expected names with values"),
    ("inputs", "params: {V: W}, inputs", "outer.yaml:3:32: vertices.c.params.V: cell.yaml has no param 'V'; known: W"),
    ("inputs", "params: {W: V}, inputs", "vertices.c.h.params.weight: there is no parameter 'V'"),
    ("inputs", "args: {k: 3}, inputs", "outer.yaml:3:30: vertices.c.args.k: unknown argument 'k'; known: n"),
    ("inputs", "args: {n: x}, inputs", "outer.yaml:3:33: vertices.c.args.n: expected int, such as the default 2, got 'x'"),
    ("x: a", "x: {from: a, delay: -1}", "vertices.c.h.inputs[0].delay: a delay is a whole number of ticks, 0 or more, got -1"),
    ("  c:", "  c.h: {op: tanh, inputs: [a]}\n  c:", "outer.yaml:4:3: vertices.c: the name 'c.h' is taken twice; rename one of them"),
])  # fmt: skip
def test_wrong_uses(folder, old, new, line):
    if new == "outer.yaml":
        # The file that is read first is known by what it names.
        found = lines(folder, OUTER.replace(old, new))
        assert any(
            "a graph cannot use itself" in each and each.startswith("outer.yaml:3:12: vertices.c") for each in found
        ), found
        return
    found = lines(folder, OUTER.replace(old, new, 1))
    assert any(line in each for each in found), found


@pytest.mark.parametrize(("old", "new", "line"), [
    ("op: affine", "op: afine", "cell.yaml:6:11: vertices.c.h.op: unknown op 'afine'; did you mean 'affine'?"),
    ("units: $n", "units: $k", "cell.yaml:6:26: vertices.h.units: in $(k): unknown name 'k'"),
    ("args: {n: 2}", "agrs: {n: 2}", "cell.yaml"),
    ("vertices:", "titel: x\nvertices:", "cell.yaml:3:1: titel: unknown key 'titel'; did you mean 'title'?"),
    ("inputs: [h,", "inputs: [k,", "cell.yaml:7:27: vertices.c.out.inputs[0]: there is no vertex 'c.k'"),
    ("shape: [$n, $n]", "shape: [$n]", "cell.yaml:6:47: vertices.c.h.params.weight: parameter 'c.W' has shape [2], expected [2, 2]"),
    ("delay: 3", "delay: no", "cell.yaml:7:"),
])  # fmt: skip
def test_mistakes_inside_are_placed_inside(folder, old, new, line):
    (folder / "cell.yaml").write_text(CELL.replace(old, new, 1))
    found = lines(folder, OUTER)
    assert any(line in each for each in found), found


def test_mistakes_of_several_uses_are_said_at_once(folder):
    found = lines(
        folder, OUTER.replace("cell.yaml", "cel.yaml") + "  d: {use: cell.yaml, inputs: {q: a}}\n  e: {use: f.yaml}\n"
    )
    assert len(found) == 3


def test_circles_of_files_are_refused(folder):
    (folder / "one.yaml").write_text("vertices: {c: {use: two.yaml}}\n")
    (folder / "two.yaml").write_text("vertices: {c: {use: one.yaml}}\n")
    (found,) = lines(folder, "vertices: {c: {use: one.yaml}}\n")
    assert found.startswith("two.yaml:1:21:")
    assert "a graph cannot use itself: one.yaml -> two.yaml -> one.yaml" in found


def test_deep_nests_are_refused(folder):
    for number in range(30):
        (folder / f"n{number}.yaml").write_text(f"vertices: {{c: {{use: n{number + 1}.yaml}}}}\n")
    (found,) = lines(folder, "vertices: {c: {use: n0.yaml}}\n")
    assert "graphs are nested deeper than 20" in found


def test_several_outputs_need_a_name(folder):
    (folder / "two.yaml").write_text(
        "vertices: {x: {op: input, shape: [2]}, a: {op: tanh, inputs: [x]}, b: {op: sin, inputs: [x]}}\n"
    )
    text = "vertices: {x: {op: input, shape: [2]}, c: {use: two.yaml, inputs: {x: x}}, y: {op: tanh, inputs: [c]}}\n"
    (found,) = lines(folder, text)
    assert "vertices.y.inputs[0]: there is no vertex 'c'" in found
    assert graph(folder, text.replace("[c]", "[c.b]")).outputs == ("c.a", "y")


@pytest.mark.parametrize("text", ["secret: hunter2\n", "TOKEN=hunter2\n", "graph: {hunter2: 1}\nrule: il\n"])
def test_what_a_file_holds_that_is_no_graph_is_not_repeated(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text(text)
    outer = "vertices: {x: {op: input, shape: [1]}, y: {use: notes.txt, inputs: {x: x}}}\noutputs: [y]\n"
    Path("outer.yaml").write_text(outer)
    Path("s.yaml").write_text("graph: {file: notes.txt}\nrule: il\n")
    for read, place in ((pcsim.load_graph, "outer.yaml:1:"), (pcsim.load, "s.yaml:1:")):
        with pytest.raises(InputError, match=r"notes\.txt is no graph document") as caught:
            read("outer.yaml" if read is pcsim.load_graph else "s.yaml")
        assert str(caught.value).startswith(place)
        assert "hunter2" not in str(caught.value)
