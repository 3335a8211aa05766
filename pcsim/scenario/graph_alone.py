"""The scenario of a graph document that is run by itself: random data, and the rule that is backprop's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pcsim.documents import read
from pcsim.graph.graph import number_format
from pcsim.models.model_file import ENDINGS, model_of_file
from pcsim.scenario.document_kind import kind_of
from pcsim.scenario.graph_source import DocumentFile
from pcsim.scenario.reader import load, load_graph

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from pcsim.graph.graph import Graph
    from pcsim.scenario.reader import Source
    from pcsim.scenario.scenario import Scenario

ABOUT = (
    "{file} is a graph: its inputs and targets are drawn from the normal distribution by the seed (indices are 0), "
    "the rule is zil, levelled by delays; --set changes it, and a scenario says more"
)


def load_any(path: Path, overrides: Mapping[str, Any]) -> tuple[Scenario, str]:
    """Return the scenario of a file, as `any_scenario` has it, and what is to be said about it."""
    source, about = any_scenario(path, overrides)
    return load(source, overrides), about


def any_scenario(path: Path, overrides: Mapping[str, Any]) -> tuple[Source, str]:
    """Return the document of a scenario, or of one that stands for a graph document or a model of another tool.

    Also what is to be said about it; nothing where it is a scenario.
    """
    args = {key.removeprefix("graph."): value for key, value in overrides.items() if key.startswith("graph.")}
    if path.suffix in ENDINGS:
        graph = model_of_file(path, args).graph
    else:
        file = DocumentFile(path, read(path))
        if kind_of(file.node) != "graph":
            return file, ""
        graph = load_graph(file, args)
    return {"graph": {"file": str(path)}, **defaults(graph)}, ABOUT.format(file=path)


def to_export(path: Path, overrides: Mapping[str, Any]) -> tuple[Graph, dict[str, Any], np.dtype[Any]]:
    """Return what is written for another tool: the graph of a file, its parameters and buffers, and the number format.

    The graph of a scenario is levelled; a graph document stays as it is, in float32, unless overrides say otherwise.
    """
    file = DocumentFile(path, read(path))
    alone = kind_of(file.node) == "graph"
    given = {"dtype": "float32", **overrides} if alone else overrides
    scenario = load_any(path, given)[0]
    graph = scenario.graph if alone and "level" not in overrides else scenario.levelled
    return graph, {**scenario.parameters(), **scenario.buffers()}, scenario.dtype


def defaults(graph: Graph) -> dict[str, Any]:
    """Return data, rule and levelling for a graph."""
    drawn = {"normal": [0.0, 1.0]}
    sources = [vertex for vertex in graph.vertices.values() if vertex.op.name == "input"]
    return {
        "title": graph.title,
        "inputs": {vertex.name: 0 if number_format(vertex) == "whole" else drawn for vertex in sources},
        "targets": dict.fromkeys(graph.outputs, drawn),
        "rule": "zil",
        "level": "delay",
    }
