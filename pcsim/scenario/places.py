"""Gives each problem its place in a file: low layers know the path of keys, documents know the line."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pcsim.scenario.tree import Node, locate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.errors import InputError, Problem

_ABOUT_KEY = re.compile("^unknown (key|argument)|^there is no input vertex|is not an output|has no (input|param) ")
"""Messages that say that a key is wrong, not what it holds."""


def located(error: InputError, node: Node) -> InputError:
    """Return the error with the place of each problem in a document; what has a place keeps it."""
    return error.map(lambda problem: placed(problem, node))


def placed(problem: Problem, node: Node) -> Problem:
    """Return a problem with its place in a document."""
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
    place = problem.location
    return (place.file, place.line, place.column) if place else ("", 0, 0)


@dataclass(frozen=True)
class Places:
    """The places of a scenario: its own document and that of its graph, which may be a file of its own.

    Attributes
    ----------
    document : the scenario's document
    graph : the graph's, ``$`` filled in
    inline : whether the graph stands in the scenario's document
    """

    document: Node = field(default_factory=Node)
    graph: Node = field(default_factory=Node)
    inline: bool = True

    def __call__(self, error: InputError) -> InputError:
        """Return the error with the place of each problem."""
        return error.map(self._placed)

    def _placed(self, problem: Problem) -> Problem:
        about_graph = problem.path[:1] in (("vertices",), ("parameters",))
        return self.in_graph(problem) if about_graph else placed(problem, self.document)

    def in_graph(self, problem: Problem) -> Problem:
        """Return a problem of the graph with its place."""
        found = placed(problem, self.graph)
        return found.under("graph") if self.inline else found
