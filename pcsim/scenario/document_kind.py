"""What kind of document a file is, and the graph that it holds or names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.documents import plain, read
from pcsim.scenario.reader import load, load_graph

if TYPE_CHECKING:
    from pathlib import Path

    from pcsim.graph.graph import Graph


def kind_of(path: Path) -> str:
    """Return ``graph`` or ``scenario``: what a file says it is, or what its keys make it."""
    entries = read(path).entries or {}
    said = str(plain(entries["pcsim"].value)) if "pcsim" in entries else ""
    if said:
        return "graph" if said.startswith("graph") else "scenario"
    is_graph = not {"graph", "rule"} & set(entries) and {"vertices", "formula"} & set(entries)
    return "graph" if is_graph else "scenario"


def any_graph(path: Path) -> Graph:
    """Return the graph of a graph document or of a scenario."""
    return load_graph(path) if kind_of(path) == "graph" else load(path).graph
