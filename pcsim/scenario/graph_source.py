"""The graph document that a scenario holds or names, and how its ``$`` and ``use`` are filled in."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pcsim.documents import Node, from_plain, locate, located, plain, read
from pcsim.documents.nesting import flatten
from pcsim.documents.template import argument_problems, arguments, expand, remarks
from pcsim.errors import InputError, Problem
from pcsim.graph.graph import Graph
from pcsim.graph.interop import document_from
from pcsim.graph.names import without_templates
from pcsim.graph.problems import problems_of
from pcsim.models.model import Model
from pcsim.models.model_file import ENDINGS, model_of_file
from pcsim.scenario.data_templates import names_used
from pcsim.scenario.file_paths import rebased
from pcsim.scenario.nested_graphs import nested, read_graph_file
from pcsim.scenario.scenario_document import GraphReference


@dataclass(frozen=True)
class DocumentFile:
    """A file that has been read, so that it need not be read again."""

    path: Path
    node: Node


Source = str | Path | Mapping[str, Any] | DocumentFile


@dataclass(frozen=True)
class GraphSource:
    """A graph document with its arguments.

    Attributes
    ----------
    folder : ``use:`` files are sought here
    prefix : the way from the scenario's folder to the document's; files of parameters are sought along it
    inline : whether the document stands in the scenario
    used : arguments that the scenario's own templates use
    """

    document: Node
    args: Mapping[str, Any]
    folder: Path
    prefix: str = ""
    inline: bool = True
    used: frozenset[str] = frozenset()

    def expanded(self, found: list[Problem]) -> Node:
        """Return the document without ``args``, ``for``, ``if``, ``use`` and ``$``; remarks are added to ``found``."""
        document = flatten(expand(self.document, self.args), self.folder, nested(found))
        own = remarks(self.document, self.args, self.used)
        found.extend(problem.under("graph") if self.inline else problem for problem in own)
        return rebased(document, self.prefix) if self.prefix else document

    def arguments(self) -> dict[str, Any]:
        """Return the value of every argument; raises InputError where the document has no map of them."""
        return arguments(self.document, self.args)

    def argument_problems(self) -> list[Problem]:
        """Return what is wrong with the arguments alone; paths begin with ``args``."""
        return argument_problems(self.document, self.args)


def read_document(source: Source) -> tuple[Node, Path]:
    """Return a document and the folder of the files it names."""
    if isinstance(source, Mapping):
        node, folder = from_plain(_written_out(source)), Path()
    elif isinstance(source, DocumentFile):
        node, folder = source.node, source.path.parent
    elif isinstance(source, str | Path):
        node, folder = read(source), Path(source).parent
    else:
        raise InputError([Problem((), f"expected a path or a mapping, got a {type(source).__name__}")])
    if node.entries is None:
        raise InputError([Problem((), "expected a document of keys and values", node.location)])
    kind = node.entries.get("pcsim")
    if kind is not None and str(kind.value.value).startswith("run/"):
        where = "FOLDER" if isinstance(source, Mapping) else folder
        message = (
            f"this is a run; the scenario of it is under 'scenario', and pcsim trace {where} tells what it recorded"
        )
        raise InputError([Problem(("pcsim",), message, kind.location)])
    return node, folder


def _written_out(source: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document in which a graph given as an object (a model, a graph of pcsim or networkx) is written out."""
    graph = source.get("graph")
    if isinstance(graph, Model):
        return {**source, "graph": graph.document}
    if isinstance(graph, Graph):
        graph = graph.to_networkx()
    elif graph is None or isinstance(graph, Mapping | str | int | float | list | tuple):
        return dict(source)
    try:
        return {**source, "graph": without_templates(document_from(graph))}
    except InputError as error:
        raise error.map(lambda problem: problem.under("graph")) from None


def graph_source(node: Node, folder: Path) -> GraphSource | None:
    """Return the graph that a scenario's document holds or names; None if there is no such key."""
    entry = (node.entries or {}).get("graph")
    if entry is None or entry.value.entries is None:
        return None
    used = names_used(node)
    if "file" not in entry.value.entries:
        return GraphSource(entry.value, {}, folder, used=used)
    try:
        reference = GraphReference.model_validate(plain(entry.value))
    except ValidationError as error:
        problems = problems_of(error, GraphReference, plain(entry.value))
        raise located(InputError(problem.under("graph") for problem in problems), node) from None
    path = Path(os.path.normpath(folder / reference.file))
    if path.suffix in ENDINGS:
        return GraphSource(_imported(path, reference.args, node), {}, path.parent, inline=False, used=used)
    prefix = os.path.dirname(reference.file)  # noqa: PTH120 - kept as it is written
    return GraphSource(_read_named(path, node), reference.args, path.parent, prefix, inline=False, used=used)


def _read_named(path: Path, node: Node) -> Node:
    """Read the file of a graph; if there is none, it is the scenario that is wrong."""
    try:
        return read_graph_file(path)
    except InputError as error:
        raise located(error.map(_at_file_key), node) from None


def _imported(path: Path, args: Mapping[str, Any], node: Node) -> Node:
    """Return the document of a model of another tool; what it leaves open are the arguments."""
    try:
        return from_plain(model_of_file(path, args).document, str(path))
    except InputError as error:
        raise located(error.map(_at_file_key), node) from None


def _at_file_key(problem: Problem) -> Problem:
    return problem if problem.location else replace(problem, path=("graph", "file"))


def in_scenario(problem: Problem, node: Node) -> Problem:
    """Place a wrong argument where the scenario gives it, not where the graph declares it."""
    if problem.path[:1] != ("args",) or problem.location is not None:
        return problem
    path = ("graph", *problem.path)
    return replace(problem, path=path, location=locate(node, path, key=True))
