"""Inputs and targets of a scenario are written once for many vertices, with the arguments of its graph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.view.json_schema import json_schema

GRAPH = """\
args: {T: 3, width: 2}
parameters:
  W: {shape: [$width, $width]}
vertices:
  h0: {op: input, shape: [$width]}
  x$t: {for: {t: 1..$T}, op: input, shape: [$width]}
  r$t: {for: {t: 1..$T}, op: affine, units: $width, activation: tanh, inputs: [h$(t-1)], params: {weight: W}}
  h$t: {for: {t: 1..$T}, op: add, inputs: [r$t, x$t]}
  y$t: {for: {t: 1..$T}, op: affine, units: 1, inputs: [h$t]}
"""
DATA = """\
inputs:
  h0: 0
  x$t: {for: {t: 1..$T}, normal: [0, 1]}
targets:
  y$t: {for: {t: 1..$T}, values: $t}
rule: {name: fpa, step_size: 1.0, ticks: 4}
"""
INLINE = "graph:\n" + "".join(f"  {line}\n" for line in GRAPH.splitlines()) + DATA
NAMED = "graph: {file: graph.yaml, args: {T: 3}}\n" + DATA


@pytest.fixture(params=[INLINE, NAMED], ids=["inline", "file"])
def scenario(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "graph.yaml").write_text(GRAPH)
    (tmp_path / "s.yaml").write_text(request.param)
    return request.param


def wrong(text, old, new):
    """Return the problems of a changed scenario."""
    assert text.count(old) == 1, old
    Path("s.yaml").write_text(text.replace(old, new))
    return [str(problem) for problem in pcsim.validate("s.yaml")]


def place(text, part):
    """Return the place of a part of the changed scenario's data, as messages begin."""
    lines = Path("s.yaml").read_text().splitlines()
    (number,) = (number for number in range(lines.index("inputs:"), len(lines)) if part in lines[number])
    return f"s.yaml:{number + 1}:{lines[number].index(part) + 1}: {text}"


def test_an_unrolled_graph_has_a_line_of_inputs_and_one_of_targets(scenario):
    for length in (3, 5):
        found = pcsim.load("s.yaml", {"graph.T": length})
        assert set(found.inputs()) == {"h0", *(f"x{t}" for t in range(1, length + 1))}
        assert {name: float(values[0, 0]) for name, values in found.targets().items()} == {
            f"y{t}": t for t in range(1, length + 1)
        }
        steps = range(1, length + 1)
        data = {
            "inputs": {"h0": 0, **{f"x{t}": {"normal": [0, 1]} for t in steps}},
            "targets": {f"y{t}": {"values": t} for t in steps},
        }
        written = pcsim.load("s.yaml", {"graph.T": length, **data})
        assert written.plain == found.plain
        assert written.digest == found.digest
    assert CliRunner().invoke(app, ["run", "s.yaml", "--set", "graph.T=5"]).exit_code == 0


def test_a_run_keeps_the_data_written_out_and_reads_them_again(scenario, tmp_path):
    run = pcsim.simulate("s.yaml", {"graph.T": 4}, out=tmp_path / "run")
    found = pcsim.load(pcsim.open_run(tmp_path / "run").manifest["scenario"])
    assert found.plain == pcsim.load("s.yaml", {"graph.T": 4}).plain
    assert found.plain["inputs"]["x4"] == {"normal": [0, 1]}
    np.testing.assert_array_equal(pcsim.simulate(found).updates["W"], run.updates["W"])


def test_a_sweep_gives_each_cell_its_data(scenario):
    found = pcsim.sweep("s.yaml", {"sweep": {"graph.T": [1, 3], "inputs.x$t.normal": [[0, 1], [0, 2]]}})
    assert [row["horizon"] for row in found.rows] == [4] * 4
    assert not any("error" in row for row in found.rows)


@pytest.mark.parametrize(("old", "new", "at", "text"), [
    ("{t: 1..$T}, n", "{t: 1..$Tt}, n", "1..$Tt", "inputs.x$t.for.t: in $(Tt): unknown name 'Tt'; did you mean 'T'?"),
    ("{t: 1..$T}, n", "{T: 1..3}, n", "T: 1..3}", "inputs.x$t.for.T: loop variable 'T' is also an argument; rename it"),
    ("x$t: {for: {t: 1..$T}, n", "x: {for: {t: 1..$T}, n", "x: {for", "inputs.x: input 'x' is defined twice; use"),
    ("y$t: {for: {t: 1..$T}, v", "y$t: {for: {t: 0..$T}, v", "y$t: {for", "targets.y0: 'y0' is not an output"),
    ("h0: 0", "x1: 0", "x$t: {for", "inputs.x$t: input 'x1' is defined twice; first at s.yaml:"),
    ("normal: [0, 1]", "normal: [0, -1]", "normal: [0, -1]", "inputs.x1.normal: expected [mean, standard deviation]"),
    ("values: $t", "value: $t", "value: $t", "targets.y1.value: unknown key 'value'; did you mean 'values'?"),
    ("values: $t", "values: [$t, 0]", "y$t: {for", "targets.y1: has shape [2], expected [1]"),
    ("values: $t", "values: $(t / 2)", "$(t / 2)", "targets.y$t.values: in $(t / 2): "),
    ("1..$T}, v", "1..3000000}, v", "y$t: {for", "targets.y$t: more than 2000000 targets: 3000000"),
    ("h0: 0", "z$T: 0", "z$T", "inputs.z3: there is no input vertex 'z3'"),
])  # fmt: skip
def test_mistakes_have_their_places(scenario, old, new, at, text):
    found = wrong(scenario, old, new)
    assert any(line.startswith(place(text, at)) for line in found), found
    assert len({line.split(": ")[1].partition(".")[0] for line in found}) == 1, found


def test_mistakes_of_both_sections_and_of_the_graph_are_told_at_once(scenario):
    text = scenario.replace("{t: 1..$T}, n", "{t: $a}, n").replace("{t: 1..$T}, v", "{t: $b}, v")
    found = wrong(text, "ticks: 4", "tick: 4")
    assert [line.split(": ")[1] for line in found] == ["inputs.x$t.for.t", "targets.y$t.for.t", "rule.tick"]


def test_arguments_are_those_of_the_graph_and_count_as_used(scenario):
    declared = Path("graph.yaml" if "file:" in scenario else "s.yaml")
    declared.write_text(declared.read_text().replace("width: 2", "width: 2, spread: 0.5, spare: 1"))
    data = {"inputs": {"h0": "$T", "x$t": {"for": {"t": "1..$T"}, "normal": [0, "$spread"]}}}
    found = pcsim.load("s.yaml", data)
    assert found.plain["inputs"]["x2"] == {"normal": [0, 0.5]}
    assert found.plain["inputs"]["h0"] == 3
    (remark,) = [warning for warning in found.warnings() if "nothing uses" in warning]
    assert "args.spare" in remark


def test_conditions_and_empty_ranges(scenario):
    steps = {"for": {"t": "0..$T"}, "if": "$(t > 0)", "values": 1}
    found = pcsim.load("s.yaml", {"targets": {"y$t": steps, "no$t": {"for": {"t": "1..0"}, "values": 1}}})
    assert list(found.plain["targets"]) == ["y1", "y2", "y3"]
    assert "targets.no$t.for: the range of t is empty, so this makes no target" in "\n".join(found.warnings())


def odd(inputs):
    """A scenario whose input vertex is named ``a$b``, in a graph with an argument ``b``."""
    vertices = {"a$$b": {"op": "input", "shape": [2]}, "y": {"op": "affine", "units": "$b", "inputs": ["a$$b"]}}
    graph = {"args": {"b": 1}, "vertices": vertices}
    return {"graph": graph, "inputs": inputs, "targets": {"y": 1.0}, "rule": "fpa"}


def test_names_with_a_dollar_stand_as_they_are_where_they_are_no_template(tmp_path):
    np.savez(tmp_path / "in$b.npz", **{"k$b": np.array([1.0, 2.0])})
    stands = {"a$b": {"file": "in$b.npz", "key": "k$b"}}
    template = {"a$$b": {"if": True, "file": "in$$b.npz", "key": "k$$$(b - 1 + 1)"}}
    np.savez(tmp_path / "in$b.npz", **{"k$b": np.array([1.0, 2.0]), "k$1": np.array([1.0, 2.0])})
    for inputs in (stands, template, {"a$b": [1, 2]}, {"a$$b": [1, "$(b + 1)"]}):
        found = pcsim.load(odd(inputs), folder=tmp_path)
        np.testing.assert_array_equal(found.inputs()["a$b"], [[1.0, 2.0]])
        again = pcsim.load(json.loads(json.dumps(found.plain)), folder=tmp_path)
        assert again.plain == found.plain


def test_graphs_and_arrays_given_from_python_go_through_unchanged():
    written = pcsim.load_graph({"vertices": odd({})["graph"]["vertices"] | {"y": {"op": "tanh", "inputs": ["a$$b"]}}})
    large = np.arange(2000.0).reshape(1000, 2)
    found = pcsim.load({
        "graph": written, "inputs": {"a$b": large}, "targets": {"y": {"for": {"i": ["only"]}, "values": large}},
        "batch": 1000, "rule": "fpa",
    })  # fmt: skip
    assert found.graph == written
    np.testing.assert_array_equal(found.inputs()["a$b"], large)
    np.testing.assert_array_equal(found.targets()["y"], large)


def test_the_schema_takes_templates_of_data():
    jsonschema = pytest.importorskip("jsonschema")
    checker = jsonschema.Draft202012Validator(json_schema("scenario"))
    graph = {"vertices": {"x1": {"op": "input", "shape": [2]}, "y": {"op": "tanh", "inputs": ["x1"]}}}

    def takes(entry):
        return checker.is_valid({"graph": graph, "inputs": {"x$t": entry}, "targets": {"y": 1}, "rule": "fpa"})

    loop = {"for": {"t": "1..$T"}}
    for entry in ("$T", {**loop, "values": "$t"}, {**loop, "normal": [0, "$s"], "if": "$(t > 1)"}, {"uniform": "$u"}):
        assert takes(entry), entry
    for entry in ("T", {"for": {}, "values": 1}, {**loop, "value": 1}, {**loop, "normal": [0, "s"]}):
        assert not takes(entry), entry


LOSS_AND_RECORD = """\
loss: {y$t: {for: {t: 1..$T}, loss: cross_entropy}}
record:
  - {for: {t: 1..$T}, if: $(t % 2 == 1), what: value, vertices: h$t}
  - {what: error, vertices: [h0, "h$(T - 1)", {for: {t: 2..$T}, from: y$t}]}
  - {what: message, vertices: [{for: {t: 1..$T}, from: "r$t->h$t"}]}
"""


def with_losses(text):
    return text.replace(
        "  y$t: {for: {t: 1..$T}, op: affine, units: 1", "  y$t: {for: {t: 1..$T}, op: affine, units: 3"
    )


def test_losses_and_probes_are_written_once_for_every_length(scenario):
    Path("t.yaml").write_text(with_losses(scenario) + LOSS_AND_RECORD)
    Path("graph.yaml").write_text(with_losses(GRAPH))
    for length in (1, 4):
        found = pcsim.load("t.yaml", {"graph.T": length})
        steps = range(1, length + 1)
        assert found.losses() == {f"y{t}": "cross_entropy" for t in steps}
        probes = [entry.vertices for entry in found.document.record]
        assert probes[: -(-length // 2)] == [[f"h{t}"] for t in steps[::2]]
        assert probes[-2] == ["h0", f"h{length - 1}", *(f"y{t}" for t in steps[1:])]
        assert probes[-1] == [f"r{t}->h{t}" for t in steps]
        run = pcsim.simulate(found)
        assert list(run.series("message", f"r{length}->h{length}", kind="error").shape) == [4, 1, 2]
        assert pcsim.load(run.manifest["scenario"]).plain == found.plain


@pytest.mark.parametrize(("old", "new", "at", "text"), [
    ("t: 2..$T}, from: y$t", "t: 2..$TT}, from: y$t", "2..$TT", "record[1].vertices[2].for.t: in $(TT): "),
    ("t: 2..$T}, from: y$t", "t: 2..$T}, from: z$t", "{what: error", "record[2].vertices[2]: no vertex"),
    ("loss: cross_entropy}}", "loss: cross_entropy}, y9: squared_error}", "y9", "loss.y9: 'y9' is not an output"),
    ("cross_entropy}}", "squared_error}, y$T: squared_error}", "y$T: s", "loss.y$T: output 'y3' is defined twice"),
    ("loss: cross_entropy", "loss: cross_entropi", "loss: {", "loss.y1: "),
])  # fmt: skip
def test_mistakes_in_losses_and_probes_have_their_places(scenario, old, new, at, text):
    (tmp := Path("s.yaml")).write_text(scenario + LOSS_AND_RECORD.replace(old, new))
    found = [str(problem) for problem in pcsim.validate(tmp)]
    lines = tmp.read_text().splitlines()
    (number,) = (number for number, line in enumerate(lines) if at in line and number >= lines.index("inputs:"))
    assert any(line.startswith(f"s.yaml:{number + 1}:") and text in line for line in found), found


def test_probes_name_vertices_with_a_dollar_as_they_are():
    for vertices in (["a$b"], ["a$$b"], ["a$b->y"], ["a$$*"], "a$b"):
        found = pcsim.load({**odd({"a$b": 1.0}), "record": [{"what": "message", "vertices": vertices}]})
        again = pcsim.load(found.plain)
        assert again.plain == found.plain
        assert pcsim.simulate(again).series("message", "a$b->y", kind="value").sizes["tick"] > 0


SEQUENCE = """\
graph:
  args: {T: 3, first: 0}
  vertices:
    x$t: {for: {t: 1..$T}, op: input, shape: [4]}
    y: {op: add, inputs: [{for: {t: 1..$T}, from: x$t}]}
inputs: {x$t: {for: {t: 1..$T}, file: a.npz, key: a, index: $(t - 1 + first)}}
targets: {y: 0}
batch: 2
rule: zil
"""


def test_a_sequence_that_is_given_once_feeds_every_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sequence = np.arange(2 * 5 * 4.0).reshape(2, 5, 4)
    Path("s.yaml").write_text(SEQUENCE)
    for kept, taken in ((sequence, sequence), (sequence[0], sequence[:1].repeat(2, axis=0))):
        np.savez("a.npz", a=kept)
        found = pcsim.load("s.yaml", {"graph.T": 5}).inputs()
        np.testing.assert_array_equal(np.stack([found[f"x{t}"] for t in range(1, 6)], axis=1), taken)
        values = {"x$t": {"for": {"t": "1..$T"}, "values": kept, "index": "$(t - 1)"}}
        given = pcsim.load("s.yaml", {"inputs": values}).inputs()
        np.testing.assert_array_equal(given["x3"], taken[:, 2])
    rows = {"x$t": {"for": {"t": "1..$T"}, "dataset": "digits", "index": "$(t % 8)"}}
    found = pcsim.load("s.yaml", {"inputs": rows, "graph.vertices.x$t.shape": [8], "graph.T": 11})
    whole = pcsim.load(
        {
            "graph": {"vertices": {"x": {"op": "input", "shape": [8, 8]}, "y": {"op": "tanh", "inputs": ["x"]}}},
            "inputs": {"x": {"dataset": "digits"}},
            "targets": {"y": 0},
            "batch": 2,
            "rule": "zil",
        }
    )
    np.testing.assert_array_equal(found.inputs()["x11"], whole.inputs()["x"][:, 3])


@pytest.mark.parametrize(("entry", "text"), [
    ({"file": "a.npz", "key": "a", "index": 5}, "index: expected less than 5, the length of a sample's first axis"),
    ({"file": "a.npz", "key": "b", "index": 0}, "index: a sample is one number"),
    ({"normal": [0, 1], "index": 0}, "index: normal draws one sample"),
    ({"dataset": "digits", "index": 8}, "index: expected less than 8"),
    ({"values": [1.0, 2.0], "index": 0}, "has shape [2], expected [steps, 4] or, a sample each, [2, steps, 4]"),
    ({"file": "a.npz", "key": "a", "index": -1}, "index: "),
])  # fmt: skip
def test_a_step_that_is_not_there_is_named(entry, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", a=np.zeros((2, 5, 4)), b=np.zeros(3))
    Path("s.yaml").write_text(SEQUENCE)
    found = [
        str(problem)
        for problem in pcsim.validate(
            pcsim.load("s.yaml", {"inputs.x$t": {"for": {"t": "1..$T"}, **entry}}).plain,
        )
    ]
    assert any(text in line for line in found), found


def test_labels_of_any_source_become_classes(tmp_path):
    graph = {"vertices": {"x": {"op": "input", "shape": [8, 17]}, "y": {"op": "tanh", "inputs": ["x"]}}}
    levels = {"dataset": "digits", "field": "levels", "index": 3}
    scenario = {
        "graph": graph,
        "inputs": {"x": {**levels, "one_hot": 17}},
        "targets": {"y": 0},
        "batch": 4,
        "rule": "zil",
    }
    found = pcsim.load(scenario).inputs()["x"]
    assert found.sum() == 4 * 8
    images = {"dataset": "digits", "index": 3, "scale": 16}
    graph["vertices"]["x"] = {"op": "input", "shape": [8]}
    rows = pcsim.load({**scenario, "inputs": {"x": images}}).inputs()["x"]
    np.testing.assert_array_equal(found.argmax(axis=-1), rows)
    for entry, text in (
        ({**levels, "one_hot": 16}, "one_hot: makes samples of shape [..., 16], expected [8]"),
        ({"values": [0.5, 1], "one_hot": 8}, "one_hot: expected labels that are whole numbers"),
    ):
        with pytest.raises(pcsim.InputError) as caught:
            pcsim.load({**scenario, "batch": 2, "inputs": {"x": entry}}).inputs()
        assert text in str(caught.value)


def test_a_case_of_a_sweep_says_of_its_own_graph(scenario):
    other = {"vertices": {"u": {"op": "input", "shape": [1]}, "v$n": {"op": "tanh", "inputs": ["u"]}}, "args": {"n": 7}}
    case = {"label": "other", "inputs": {"u": 0.5}, "targets": {"v$n": 1.0}, "graph": other}
    found = pcsim.sweep("s.yaml", {"sweep": {"cases": [{"label": "own"}, case]}})
    assert [row.get("error", "") for row in found.rows] == ["", ""]
    case["targets"] = {"v$m": 1.0}
    with pytest.raises(pcsim.InputError) as caught:
        pcsim.load("s.yaml", {"sweep": {"cases": [{"label": "own"}, case]}})
    assert "unknown name 'm'; known: n" in str(caught.value)
