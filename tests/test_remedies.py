"""What an error says would help does help: what was not recorded is there once its remedy is in the scenario."""

import re

import pytest
import yaml
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.errors import InputError
from pcsim.trace.recordable import recordable

QUANTITIES = ("value", "prediction", "error", "energy", "norm", "divergence", "update", "message")
GRAPH = {
    "vertices": {
        "x": {"op": "input", "shape": [2]},
        "w w": {"op": "affine", "units": 2, "inputs": ["x"], "params": {"weight": "W"}},
        "h[1]": {"op": "affine", "units": 2, "inputs": ["w w"], "params": {"weight": "W"}},
        "on": {"op": "tanh", "inputs": ["h[1]"]},
        "a->b": {"op": "add", "inputs": [{"from": "on", "delay": 2}, "on", "x"]},
        "y": {"op": "affine", "units": 1, "inputs": ["a->b"]},
    },
    "parameters": {"W": {"shape": [2, 2]}},
    "outputs": ["y"],
}
REMEDY = re.compile(r"add '(record: .*)' to the scenario")


def scenario(record):
    return {
        "graph": GRAPH, "inputs": {"x": [1.0, 2.0]}, "targets": {"y": 1.0},
        "rule": {"name": "il", "ticks": 4}, "record": record,
    }  # fmt: skip


@pytest.fixture(scope="module")
def bare():
    return pcsim.simulate(scenario([]))


def names():
    graph = pcsim.load(scenario([])).graph
    return [*graph.vertices, *graph.parameters, *(edge.name for edge in graph.edges), "zz"]


def asked(run, quantity, name):
    """Return what is said where a quantity of a name was not recorded; None where it was."""
    try:
        run.series(quantity.split()[-1], name, quantity.split()[0] if "message" in quantity else None)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("quantity", [*sorted({*QUANTITIES} - {"energy", "message"}), "value message", "error message"])
@pytest.mark.parametrize("name", names())
def test_a_remedy_works_and_there_is_none_where_nothing_can_be_recorded(bare, quantity, name):
    said = asked(bare, quantity, name)
    assert said is not None
    found = REMEDY.search(said)
    what, kind = quantity.split()[-1], quantity.split()[0]
    assert (found is not None) == (name in recordable(pcsim.load(scenario([])).graph, what, kind)), said
    if found is None:
        assert asked(pcsim.simulate(scenario([{"what": list(QUANTITIES)}])), quantity, name) is not None
    else:
        assert asked(pcsim.simulate(scenario(yaml.safe_load(found.group(1))["record"])), quantity, name) is None


@pytest.mark.parametrize("name", names()[:-1])
def test_a_remedy_of_the_command_works(tmp_path, name):
    option = "--edge" if "->" in name and name != "a->b" else "--vertex"

    def trace(record, folder):
        pcsim.simulate(scenario(record), out=tmp_path / folder)
        return CliRunner().invoke(app, ["trace", str(tmp_path / folder), option, name])

    said = trace([], "bare")
    assert said.exit_code == 2
    found = REMEDY.search(" ".join(said.output.split()))
    assert found is not None, said.output
    assert trace(yaml.safe_load(found.group(1))["record"], "full").exit_code == 0


@pytest.mark.parametrize(
    ("quantity", "name", "words"),
    [
        ("error", "W", "no error can be recorded of parameter 'W'; of it there is: update"),
        ("error", "x", "no error can be recorded of input 'x'; of it there is: value"),
        ("update", "w w", "no update can be recorded of vertex 'w w'; of it there is: value, prediction, error, norm"),
        ("norm", "on->a", "the graph has no vertex, edge or parameter 'on->a'"),
        ("value", "h[2]", "the graph has no vertex, edge or parameter 'h[2]'; did you mean 'h[1]'?"),
    ],
)
def test_what_cannot_be_recorded_is_said(bare, quantity, name, words):
    assert words in asked(bare, quantity, name)
