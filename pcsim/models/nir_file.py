"""Files of NIR, and its graphs flattened: graphs within graphs are written out."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pcsim.errors import wrong
from pcsim.resources import check_file, check_room, install

if TYPE_CHECKING:
    from os import PathLike

Nodes = dict[str, Any]
Lines = list[tuple[str, str]]

_BROKEN = (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError, NotImplementedError, RuntimeError)
"""What NIR raises for a file that holds no graph, or one whose shapes do not fit."""


def nir_module() -> Any:
    """Return the package nir; raises InputError where it is not installed."""
    try:
        return import_module("nir")
    except ModuleNotFoundError:
        raise wrong("nir", f"for NIR graphs the package nir is needed: {install('nir')}") from None


def read_nir(path: str | PathLike[str]) -> Any:
    """Return the graph of a file; raises InputError where it holds none."""
    nir, file = nir_module(), Path(path)
    check_file(file)
    check_room(file, file.stat().st_size)
    try:
        return nir.read(file)
    except _BROKEN as error:
        raise wrong("file", f"{file} is no NIR graph: {error}") from None


def flattened(graph: Any, prefix: str = "") -> tuple[Nodes, Lines]:
    """Return the nodes and edges of a graph; those of a graph within it are named ``NODE.INNER``."""
    nodes: Nodes = {}
    lines: Lines = []
    starts, ends = {}, {}
    for name, node in graph.nodes.items():
        if type(node).__name__ != "NIRGraph":
            nodes[prefix + name] = node
            starts[name] = ends[name] = prefix + name
            continue
        inner, more = flattened(node, f"{prefix}{name}.")
        nodes |= inner
        lines += more
        starts[name], ends[name] = (f"{prefix}{name}.{gate_of(node, kind, name)}" for kind in ("Input", "Output"))
    lines += [(ends[pre], starts[post]) for pre, post in graph.edges]
    return nodes, lines


def gate_of(graph: Any, kind: str, name: str) -> str:
    """Return the one input, or output, of a graph within another."""
    found: list[str] = [inner for inner, node in graph.nodes.items() if type(node).__name__ == kind]
    if len(found) != 1:
        raise wrong(("nodes", name), f"a graph within a graph needs one {kind} node, this one has {len(found)}")
    return found[0]
