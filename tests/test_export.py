"""Graphs as files for other tools: what they say, that they come back, and what is refused."""

from __future__ import annotations

import json
import sys

import networkx as nx
import numpy as np
import pytest
from strategies import Features, random_document
from typer.testing import CliRunner

import pcsim
from pcsim.cli import app
from pcsim.graph import Graph, graph_from, levels
from pcsim.graph.dot import to_dot
from pcsim.graph.initialise import initialise
from pcsim.models.builder import Builder
from pcsim.models.export import FORMATS, export

SKIP = {
    "x": {"op": "input", "shape": [3]},
    "a": {"op": "affine", "units": 3, "activation": "tanh", "inputs": ["x"]},
    "b": {"op": "affine", "units": 3, "inputs": ["a"]},
    "y": {"op": "add", "inputs": ["b", "a"]},
}


def call(*arguments, code=0):
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "skip.yaml"
    path.write_text(json.dumps({"title": "skip", "vertices": SKIP}), encoding="utf-8")
    return path


def test_dot_shows_levels_shapes_and_delays():
    graph = pcsim.level(graph_from({"title": "skip", "vertices": SKIP}), "delay")
    lines = [line.strip() for line in to_dot(graph).splitlines()]
    assert lines[0] == 'digraph "skip" {'
    assert '"a" [label="a\\naffine [3]"];' in lines
    assert '"a" -> "y" [label="1"];' in lines
    assert [line for line in lines if line.startswith("{rank")] == [
        f'{{rank=same; "{name}"}}' for name in ("x", "a", "b", "y")
    ]


def test_names_of_any_kind_stand_in_dot():
    vertices = {'say "a\\b"; {': {"op": "input", "shape": []}, "y->z": {"op": "tanh", "inputs": ['say "a\\b"; {']}}
    text = to_dot(graph_from({"vertices": vertices}))
    assert '"say \\"a\\\\b\\"; {" -> "y->z";' in text
    assert text.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 0


@pytest.mark.parametrize("kind", ["graphml", "json"])
@pytest.mark.parametrize("form", ["none", "delay", "identity"])
@pytest.mark.parametrize("seed", range(4))
def test_a_graph_comes_back_from_its_file(tmp_path, kind, form, seed):
    graph = pcsim.level(graph_from(random_document(seed, Features(precision=True))), form)
    path = export(graph, tmp_path / f"graph.{kind}")
    if kind == "json":
        found = nx.node_link_graph(json.loads(path.read_text(encoding="utf-8")), edges="edges")
    else:
        found = nx.read_graphml(path)
    assert Graph.from_networkx(found) == graph


def test_graphml_says_levels_and_labels(tmp_path):
    graph = graph_from({"vertices": SKIP})
    found = nx.read_graphml(export(graph, tmp_path / "graph.graphml"))
    assert {name: data["layer"] for name, data in found.nodes(data=True)} == {"x": 3, "a": 2, "b": 1, "y": 0}
    assert found.nodes["a"]["label"] == "a\naffine [3]"


def test_a_levelled_scenario_is_exported_with_its_weights(tmp_path, document):
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed: nothing is written for it")
    path = tmp_path / "skip.onnx"
    settings = ["--set", "level=identity", "--set", "seed=3"]
    assert call("export", document, "-o", path, *settings).stdout.strip() == str(path)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    names = [node.output[0] for node in model.graph.node]
    assert "a~y~1" in names
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    weights = initialise(graph_from({"vertices": SKIP}), 3, np.float32)
    assert np.array_equal(arrays["b.weight"], weights["b.weight"])
    call("export", document, "-o", path)
    assert "a~y~1" not in [node.output[0] for node in onnx.load(path).graph.node]


def test_the_format_is_the_ending_or_what_is_said(tmp_path, document):
    for ending in ("gv", "dot"):
        assert call("export", document, "-o", tmp_path / f"graph.{ending}").stdout
    call("export", document, "-o", tmp_path / "plain.txt", "--format", "dot")
    assert (tmp_path / "plain.txt").read_text(encoding="utf-8") == (tmp_path / "graph.gv").read_text(encoding="utf-8")
    assert "unknown format 'onx'; did you mean 'onnx'?" in call("export", document, "-o", "graph.onx", code=2).stderr
    assert ", ".join(sorted(FORMATS)) in call("export", document, "-o", "graph", code=2).stderr


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path, document, monkeypatch):
    def full(self, content):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    assert "cannot write: No space left on device" in call("export", document, "-o", tmp_path / "g.dot", code=1).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["skip.yaml"]


def test_deep_graphs_are_written_in_seconds():
    """Levels, labels and nodes take as long as there are vertices."""
    names = [f"h{number}" for number in range(5000)]
    vertices = {name: {"op": "tanh", "inputs": [pre]} for pre, name in zip(["x", *names], names, strict=False)}
    graph = graph_from({"vertices": {"x": {"op": "input", "shape": [2]}, **vertices}})
    assert levels(graph) == 5000
    assert to_dot(graph).count("rank=same") == 5001


def test_a_model_made_elsewhere_is_exported_with_its_weights(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the package onnx is not installed: nothing is written for it")
    builder = Builder("small")
    weight = builder.parameter("W", np.arange(6.0).reshape(2, 3))
    given = {"units": 2, "bias": False}
    made = builder.vertex("affine", [builder.input("x", (3,))], given, params={"weight": weight}, name="y")
    model = builder.model({"y": made})
    path = pcsim.export(model, tmp_path / "small.onnx")
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(path).graph.initializer}
    assert np.array_equal(arrays["W"], model.parameters["W"])
    assert pcsim.from_onnx(path).graph == model.graph


@pytest.mark.parametrize("kind", ["onnx", "nir"])
def test_what_is_not_installed_is_named_with_its_extra(tmp_path, document, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    said = call("export", document, "-o", tmp_path / f"skip.{kind}", code=2).stderr
    assert "pip install" in said
    assert f"[{kind}]" in said
