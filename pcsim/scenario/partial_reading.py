"""What could be made of a scenario's document, part by part, and everything that is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pcsim.documents import Positions, plain, sorted_problems, with_location
from pcsim.engines import ENGINES
from pcsim.errors import Attempts, InputError, Problem, nearest
from pcsim.graph.build import graph_from
from pcsim.graph.problems import valid_part
from pcsim.rules import RULES, Rule, rule
from pcsim.scenario.cycle_checks import cycle_problems
from pcsim.scenario.data_templates import SECTIONS, written_out
from pcsim.scenario.graph_source import in_scenario
from pcsim.scenario.scenario import Scenario
from pcsim.scenario.scenario_document import ScenarioDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path as FilePath

    from pcsim.documents import Entry, Node
    from pcsim.documents.tree import Key
    from pcsim.graph.graph import Graph
    from pcsim.scenario.graph_source import DocumentFile, GraphSource


@dataclass
class Reading(Attempts):
    """What could be made of a scenario's document, and everything that is wrong with it.

    ``node`` is the document as it is written, overrides applied; that of ``positions`` has its data written out.
    """

    node: Node
    folder: FilePath
    source: GraphSource | None = None
    positions: Positions = field(default_factory=Positions)
    document: ScenarioDocument | None = None
    graph: Graph | None = None
    rule: Rule | None = None
    problems: list[Problem] = field(default_factory=list)
    remarks: list[Problem] = field(default_factory=list)
    """What is legal and may yet be a slip."""
    origin: tuple[DocumentFile, Mapping[str, Any]] | None = None
    """The document as it was read, and the overrides that were applied."""

    def scenario(self) -> Scenario | None:
        """Return the scenario, also of a document with mistakes if the rest of it can be checked."""
        if self.document is None or self.graph is None:
            return None
        row = self.rule or RULES["il"]
        remarks = tuple(sorted_problems(self.remarks))
        origin = self.origin if self.document.sweep else None
        folder = self.folder.resolve()
        return Scenario(self.document, self.graph, row, folder, self.positions, remarks=remarks, origin=origin)


def document_of(reading: Reading) -> ScenarioDocument | None:
    """Return the document, without what is wrong in it, and keep the positions of its data."""
    node = _with_data(reading)
    reading.positions = replace(reading.positions, document=node)
    document, problems = _validated(node)
    # before those of the graph, also where nothing has a place to be sorted by
    reading.problems = [*(with_location(problem, node) for problem in problems), *reading.problems]
    return document


def _with_data(reading: Reading) -> Node:
    """Return the document with what it says of vertices written out, if the graph's arguments are known."""
    try:
        args = reading.source.arguments() if reading.source is not None else None
    except InputError:  # it is reported with the graph
        args = None
    if args is None:
        return reading.node
    entries = reading.node.entries or {}
    made: dict[Key, Entry | None] = {
        key: reading.attempt(lambda: written_out(entries[key], args, reading.graph, reading.remarks))  # noqa: B023
        for key in SECTIONS
        if key in entries
    }
    # what is wrong in these is told; as it is written it would be taken for another mistake
    kept = {key: entry for key, entry in entries.items() if made.get(key, entry) or key not in ("loss", "record")}
    return replace(reading.node, entries={**kept, **{key: entry for key, entry in made.items() if entry}})


def _validated(node: Node) -> tuple[ScenarioDocument | None, list[Problem]]:
    data = plain(node)
    # A graph is checked on its own.
    data = {**data, "graph": {}} if isinstance(data.get("graph"), dict) else data
    twice = {"literal", "exact_dynamics"} <= set(data)
    message = "is another name of 'literal', which is given too; keep one of them"
    known = [Problem(("exact_dynamics",), message)] if twice else []
    document, problems = valid_part(ScenarioDocument, data, lambda path: path[:1], {"rule": "il", "graph": {}})
    return document, known + problems


def graph_of(reading: Reading, source: GraphSource) -> Graph | None:
    """Return the graph, and keep the positions of its document."""
    document = reading.attempt(lambda: _expanded(reading.node, source, reading.remarks))
    if document is None:
        return None
    reading.positions = Positions(reading.node, document, source.inline)

    def build() -> Graph:
        try:
            return graph_from(plain(document), reading.folder)
        except InputError as error:
            raise error.map(reading.positions.in_graph) from None

    return reading.attempt(build)


def _expanded(node: Node, source: GraphSource, found: list[Problem]) -> Node:
    try:
        return source.expanded(found)
    except InputError as error:
        if source.inline:
            raise error.map(lambda problem: problem.under("graph")) from None
        raise error.map(lambda problem: in_scenario(problem, node)) from None


def rule_of(reading: Reading) -> Rule | None:
    """Return the rule; its name is checked also where its settings are wrong, and the other way round."""
    entry = (reading.node.entries or {}).get("rule")
    given = plain(entry.value) if entry is not None else None
    name = given.get("name") if isinstance(given, dict) else given
    if not isinstance(name, str) or reading.document is None:
        return None
    wrong_already = any(problem.path[:1] == ("rule",) for problem in reading.problems)
    return _row(reading, name, {} if wrong_already else reading.document.rule.settings())


def _row(reading: Reading, name: str, settings: dict[str, Any]) -> Rule | None:
    if name in RULES:
        return _tried(reading, lambda: rule(name, **settings))
    _tried(reading, lambda: rule("il", **settings))
    return _tried(reading, lambda: rule(name))


def _tried(reading: Reading, step: Callable[[], Rule]) -> Rule | None:
    try:
        return step()
    except InputError as error:
        problems = error.map(lambda problem: with_location(problem.under("rule"), reading.node)).problems
        reading.problems += [problem for problem in problems if problem not in reading.problems]
        return None


def cycle_problems_of(reading: Reading) -> list[Problem]:
    """Return what is asked of a cyclic graph that needs an acyclic one."""
    if reading.graph is None or reading.rule is None or reading.document is None:
        return []
    found = cycle_problems(reading.graph, reading.rule, reading.document)
    return [with_location(problem, reading.node) for problem in found]


def check_names(reading: Reading) -> None:
    """Note an engine that there is not."""
    name = reading.document.engine if reading.document else "auto"
    if name not in (*ENGINES, "auto"):
        message = f"unknown engine {name!r}" + nearest(name, [*ENGINES, "auto"], "pcsim list engines")
        reading.problems.append(with_location(Problem(("engine",), message), reading.node))
