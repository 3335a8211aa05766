"""Reads scenarios and graphs from files or mappings; every mistake found, each with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pcsim.errors import InputError, Problem, nearest, wrong
from pcsim.errors import Path as KeyPath
from pcsim.graph.build import build
from pcsim.graph.graph import Graph
from pcsim.graph.models import GraphDocument
from pcsim.graph.problems import problems_of
from pcsim.rules import rule
from pcsim.scenario.models import GraphReference, ScenarioDocument
from pcsim.scenario.nesting import flatten
from pcsim.scenario.nodes import Entry, Node, from_plain, locate, plain, read
from pcsim.scenario.scenario import Scenario
from pcsim.scenario.template import expand

Source = str | Path | Mapping[str, Any]


def load(source: Source, overrides: Mapping[str, Any] | None = None) -> Scenario:
    """Read a scenario.

    Parameters
    ----------
    source : path of a YAML file, or the document as a mapping
    overrides : {dotted key: value}, such as ``{"graph.depth": 16, "rule.step_size": 0.5}``

    Raises
    ------
    InputError
        With every problem found, each with file, line and column.
    """
    node, folder = _read(source)
    for key, value in (overrides or {}).items():
        node = override(node, key, value)
    found = _Found(node)
    graph_node = found.attempt(lambda: _graph_node(node, folder))
    document = found.attempt(lambda: _validated(ScenarioDocument, _without_graph(node)), node)
    graph = found.attempt(lambda: _build(graph_node)) if graph_node is not None else None
    row = found.attempt(lambda: _rule(document), node) if document is not None else None
    found.settle()
    assert document is not None and graph is not None and row is not None and graph_node is not None
    return Scenario(document, graph, row, folder, {**_plain_document(document), "graph": plain(graph_node)})


def check(scenario: Scenario, source: Source) -> None:
    """Check what needs data: inputs, targets, initial values; raises InputError with their places."""
    found = _Found(_read(source)[0])
    found.attempt(scenario.task, found.node)
    found.settle()


def load_graph(source: Source, args: Mapping[str, Any] | None = None) -> Graph:
    """Read a graph document; ``args`` replace the defaults of its arguments."""
    node, folder = _read(source)
    return _build(_expand(node, args or {}, folder))


@dataclass
class _Found:
    """Collects problems from several steps, gives each its place, raises them together."""

    node: Node
    problems: tuple[Problem, ...] = ()

    def attempt(self, step: Any, node: Node | None = None) -> Any:
        try:
            return step()
        except InputError as error:
            self.problems += (located(error, node) if node is not None else error).problems
            return None

    def settle(self) -> None:
        if self.problems:
            raise InputError(dict.fromkeys(self.problems))


def located(error: InputError, node: Node) -> InputError:
    """Return the error with the place of each problem in a document."""
    return error.map(
        lambda problem: problem
        if problem.location
        else replace(problem, location=locate(node, problem.path, key=problem.message.startswith("unknown key")))
    )


def _read(source: Source) -> tuple[Node, Path]:
    if isinstance(source, Mapping):
        node, folder = from_plain(dict(source)), Path()
    else:
        node, folder = read(source), Path(source).resolve().parent
    if node.entries is None:
        raise InputError([Problem((), "expected a document of keys and values", node.location)])
    return node, folder


def _validated(model: type[BaseModel], data: Any) -> Any:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(problems_of(error, model)) from None


def _without_graph(node: Node) -> Any:
    """Return the document with an empty graph, if it has one: graphs are checked on their own."""
    data = plain(node)
    return {**data, "graph": {}} if isinstance(data.get("graph"), dict) else data


def _plain_document(document: ScenarioDocument) -> dict[str, Any]:
    return document.model_dump(mode="json", exclude_defaults=True, by_alias=True)


def _graph_node(node: Node, folder: Path) -> Node | None:
    entry = (node.entries or {}).get("graph")
    if entry is None or entry.value.entries is None:
        return None
    if "file" not in entry.value.entries:
        return _expand(entry.value, {}, folder)
    try:
        reference = _validated(GraphReference, plain(entry.value))
    except InputError as error:
        raise located(error.map(lambda problem: problem.under("graph")), node) from None
    path = folder / reference.file
    try:
        document = read(path)
    except InputError as error:
        raise located(InputError(replace(p, path=("graph", "file"), location=None) if p.location is None else p
                                 for p in error.problems), node) from None  # fmt: skip
    try:
        return _expand(document, reference.args, path.parent)
    except InputError as error:
        raise InputError(_argument_place(problem, node) for problem in error.problems) from None


def _argument_place(problem: Problem, node: Node) -> Problem:
    """A wrong argument is wrong where the scenario gives it, not where the graph declares it."""
    if problem.path[:1] != ("args",) or problem.location is not None:
        return problem
    path: KeyPath = ("graph", *problem.path)
    return replace(problem, path=path, location=locate(node, path, key=True))


def _expand(document: Node, args: Mapping[str, Any], folder: Path) -> Node:
    return flatten(expand(document, args), folder, lambda path, inner: expand(read(path), inner))


def _build(node: Node) -> Graph:
    try:
        return build(_validated(GraphDocument, plain(node)))
    except InputError as error:
        raise located(error, node) from None


def _rule(document: ScenarioDocument) -> Any:
    try:
        return rule(document.rule.name, **document.rule.settings())
    except InputError as error:
        raise error.map(lambda problem: problem.under("rule")) from None


def override(node: Node, key: str, value: Any) -> Node:
    """Return a document with the value at a dotted key replaced or added.

    ``graph.NAME`` stands for ``graph.args.NAME`` where NAME is not a key of the graph reference.
    """
    parts = key.split(".")
    if not all(parts):
        raise wrong((), f"the key {key!r} is not of the form a.b.c")
    if parts[0] not in ScenarioDocument.model_fields:
        raise wrong((), f"unknown key {key!r}" + nearest(parts[0], ScenarioDocument.model_fields))
    if parts[0] == "graph" and len(parts) == 2 and parts[1] not in ("file", "args", *GraphDocument.model_fields):
        parts.insert(1, "args")
    return _replaced(node, tuple(parts), value)


def _replaced(node: Node, path: tuple[str, ...], value: Any) -> Node:
    if not path:
        return from_plain(value, location=node.location)
    entries = dict(node.entries or {})
    if not entries and node.is_scalar and path and node.value is not None:
        entries = _scalar_as_map(node, path[0])
    old = entries.get(path[0], Entry(path[0], Node(location=node.location), node.location))
    entries[path[0]] = Entry(path[0], _replaced(old.value, path[1:], value), old.location)
    return Node(location=node.location, entries=entries)


def _scalar_as_map(node: Node, key: str) -> dict[Any, Entry]:
    """Let ``rule: fpa`` be overridden by ``rule.step_size``: a name stands for {name: ...}."""
    return {} if key == "name" else {"name": Entry("name", node, node.location)}

