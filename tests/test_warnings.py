"""What is legal and may yet be a slip is told in validate, plan and run; what cannot mean anything is refused."""

import json

import pytest
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app

TEXT = """\
pcsim: scenario/1
graph:
  args: {units: 3}
  vertices:
    x: {op: input, shape: [3]}
    h$l: {for: {l: 1..2}, op: tanh, inputs: [x]}
    y: {op: affine, units: $units, inputs: [x]}
  outputs: [y]
inputs: {x: 1.0}
targets: {y: [0, 1, 0]}
loss: cross_entropy
rule: {name: fpa, ticks: 5}
sweep: {seed: [1, 2]}
"""
CELL = """\
args: {units: 3, spare: 1}
vertices:
  x: {op: input, shape: [3]}
  h$l: {for: {l: 2..$units}, op: affine, units: $units, inputs: [x]}
outputs: [h3]
"""
LOOP = "h$l: {for: {l: 1..2}, op: tanh, inputs: [x]}"
SLIPS = [
    ("{units: 3}", "{units: 3, spare: 1}", "s.yaml:3:20: graph.args.spare: nothing uses this argument"),
    ("l: 1..2", "l: 1..0", "s.yaml:6:11: graph.vertices.h$l.for: the range of l is empty, so this makes no vertex"),
    ("l: 1..2", "l: 1..2, k: []", "the range of k is empty"),
    ("[1, 2]", "[1, 2, 1]", "s.yaml:13:22: sweep.seed[2]: is the same value as number 1 of this list"),
    ("seed: [1, 2]", "rule.step_size: [1, 0.5, 1.0]", "sweep.rule.step_size[2]: is the same value as number 1"),
    ("seed: [1, 2]", "cases: [{label: a, seed: 1}, {seed: 1}]", "sweep.cases[1]: is the same case as number 1"),
    ("[0, 1, 0]", "[0.5, 1, 0.5]", "s.yaml:10:11: targets.y: under cross_entropy a sample counts as often"),
    ("[0, 1, 0]", "{uniform: [0, 1]}", "and these do not sum to 1"),
    ("[0, 1, 0]", "{values: [0, 1, 0], scale: 2}", "sum to 2 in one sample"),
    (
        "h$l: {for: {l: 1..2}, op: tanh, inputs: [x]}",
        "h: {use: cell.yaml, inputs: {x: x}}",
        "cell.yaml:1:18: args.spare",
    ),
]
MEANINGLESS = [
    (
        "[0, 1, 0]",
        "[-0.5, 1, 0.5]",
        "s.yaml:10:11: targets.y: under cross_entropy targets are probabilities",
    ),
    ("[0, 1, 0]", "{normal: [0, 1]}", "these may be negative"),
    ("[0, 1, 0]", "{uniform: [-1, 1]}", "there is -1 among these"),
    ("[0, 1, 0]", "{uniform: [0, 1], scale: -2}", "there is -2 among these"),
    ("{units: 3}", "{units: 1}", "there is one class; give it a unit for each class"),
]


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cell.yaml").write_text(CELL)

    def called(before, after, *arguments, code=0):
        (tmp_path / "s.yaml").write_text(TEXT.replace(before, after))
        result = CliRunner().invoke(app, [arguments[0], "s.yaml", *arguments[1:]])
        assert result.exit_code == code, result.output
        return result

    return called


@pytest.mark.parametrize(("before", "after", "message"), SLIPS)
def test_a_slip_is_told_wherever_one_looks(call, before, after, message):
    assert message in call(before, after, "validate").stdout
    assert any(message in text for text in json.loads(call(before, after, "plan", "--json").stdout)["warnings"])
    assert any(message in text for text in json.loads(call(before, after, "run", "--json").stdout)["warnings"])


def test_a_slip_is_told_in_the_sweep_too(call, tmp_path):
    out = call("[1, 2]", "[1, 2, 1]", "sweep", "--out", str(tmp_path / "out"))
    assert "is the same value as number 1" in out.stdout


def test_nothing_is_told_where_nothing_is_amiss(call):
    assert "note" not in call("", "", "validate").stdout
    assert json.loads(call("", "", "plan", "--json").stdout)["warnings"] == []


@pytest.mark.parametrize(("before", "after", "message"), MEANINGLESS)
def test_targets_without_a_meaning_are_refused(call, before, after, message):
    said = {call(before, after, command, code=2).stderr for command in ("validate", "plan", "run")}
    assert len(said) == 1
    assert message in said.pop()


def test_a_run_that_measures_nothing_tells_it_too(call):
    call("l: 1..2", "l: 1..0", "validate")
    assert "the range of l" in pcsim.simulate("s.yaml", {"measure": [], "record": []}).summary["warnings"][0]
