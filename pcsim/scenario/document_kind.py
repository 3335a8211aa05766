"""What kind of document a file is, and the graph that it holds or names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.documents import plain, read
from pcsim.models.model_file import ENDINGS, model_of_file
from pcsim.scenario.graph_source import DocumentFile
from pcsim.scenario.reader import load, load_graph

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.documents import Node
    from pcsim.graph.graph import Graph


def kind_of(document: Node) -> str:
    """Return ``graph`` or ``scenario``: what a document says it is, or what its keys make it."""
    entries = document.entries or {}
    said = str(plain(entries["pcsim"].value)) if "pcsim" in entries else ""
    if said:
        return "graph" if said.startswith("graph") else "scenario"
    is_graph = not {"graph", "rule"} & set(entries) and {"vertices", "formula"} & set(entries)
    return "graph" if is_graph else "scenario"


def any_graph(path: Path) -> Graph:
    """Return the graph of a graph document, of a scenario, or of a model of another tool."""
    if path.suffix in ENDINGS:
        return model_of_file(path, {}).graph
    file = DocumentFile(path, read(path))
    return load_graph(file) if kind_of(file.node) == "graph" else load(file).graph
