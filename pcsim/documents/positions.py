"""Gives each problem its place in a file: low layers know the path of keys, documents know the line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pcsim.documents.tree import Node, locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.errors import InputError, Path, Problem

_ABOUT_KEY = re.compile("^unknown (key|argument)|^there is no input vertex|is not an output|has no (input|param) ")
"""Messages that say that a key is wrong, not what it holds."""


def located(error: InputError, node: Node) -> InputError:
    """Return the error with the location of each problem in a document; what has a location keeps it."""
    return error.map(lambda problem: with_location(problem, node))


def with_location(problem: Problem, node: Node) -> Problem:
    """Return a problem with its location in a document."""
    if problem.location:
        return problem
    return replace(problem, location=locate(node, problem.path, key=bool(_ABOUT_KEY.search(problem.message))))


def sorted_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems in the order of the file, once each: a loop repeats a mistake for every vertex it makes."""
    first: dict[Any, Problem] = {}
    for problem in problems:
        first.setdefault((problem.location or problem.path, problem.message), problem)
    return sorted(first.values(), key=_order)


def _order(problem: Problem) -> tuple[str, int, int]:
    location = problem.location
    return (location.file, location.line, location.column) if location else ("", 0, 0)


@dataclass(frozen=True)
class Positions:
    """Locates problems of a document and of the graph document that it holds or names.

    Attributes
    ----------
    document : the outer document
    graph : the graph document, ``$`` filled in
    inline : whether the graph stands under the key ``graph`` of the outer document; else it is a file of its own
    """

    document: Node = field(default_factory=Node)
    graph: Node = field(default_factory=Node)
    inline: bool = True

    def located(self, error: InputError) -> InputError:
        """Return the error with the location of each problem."""
        return error.map(self._with_location)

    def _with_location(self, problem: Problem) -> Problem:
        return self.in_graph(problem) if _is_in_graph(problem.path) else with_location(problem, self.document)

    def in_graph(self, problem: Problem) -> Problem:
        """Return a problem of the graph with its location."""
        placed = with_location(problem, self.graph)
        return placed.under("graph") if self.inline else placed


def _is_in_graph(path: Path) -> bool:
    """Tell whether a path begins in the graph document: in a vertex, or in how a parameter starts."""
    return path[:1] == ("vertices",) or (path[:1] == ("parameters",) and path[2:3] == ("init",))
