"""Templates in what a scenario says of vertices, filled in with the arguments of its graph.

These are the sections that name vertices: ``inputs``, ``targets``, ``loss`` (maps) and ``record`` (a list). Names of
vertices and of files may hold a ``$``. So in an entry without ``for`` and ``if`` a name that is a vertex's, and what
``file`` and ``key`` say, stand as they are, as does under ``record`` every text that is the name of a vertex or an
edge; any other ``$`` makes a template, where ``$$`` is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.documents.template import empty_loops, expand_list, expand_section, names_in, texts_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pcsim.documents import Entry, Node
    from pcsim.documents.template import Names
    from pcsim.errors import Problem
    from pcsim.graph.graph import Graph

SECTIONS = ("inputs", "targets", "loss", "record")

_MARKS = {"for", "if"}
_FILES = {"file", "key"}


def names_used(scenario: Node) -> frozenset[str]:
    """Return the names that templates of a scenario use."""
    entries = scenario.entries or {}
    return frozenset(name for key in SECTIONS if key in entries for name in names_in(entries[key].value))


def written_out(section: Entry, args: Names, graph: Graph | None, found: list[Problem]) -> Entry:
    """Return a section without templates; nodes keep their places.

    Parameters
    ----------
    args : the value of every argument of the graph
    graph : names of its vertices and edges may hold a ``$``; None where the graph is not known
    found : remarks are added to it

    Raises InputError with every problem of the templates.
    """
    names = _with_dollar(graph.vertices) if graph is not None else None
    if section.value.items is not None:
        edges = _with_dollar(edge.name for edge in graph.edges) if graph is not None and names else ()
        return expand_list(section, args, frozenset([*(names or ()), *edges]))

    def stands(entry: Entry) -> bool:
        return not _is_template(entry, names)

    if all(map(stands, (section.value.entries or {}).values())):
        return section
    filled = expand_section(section, args, stands)
    found += empty_loops(section, args)
    return filled


def _with_dollar(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if "$" in name)


def _is_template(entry: Entry, vertices: frozenset[str] | None) -> bool:
    """Tell whether an entry is a template, and not named, or given a file, with a ``$`` that stands for itself."""
    inside = entry.value.entries or {}
    if _MARKS & set(inside):
        return True
    if "$" in str(entry.key) and vertices is not None and entry.key not in vertices:
        return True
    values = [part.value for key, part in inside.items() if key not in _FILES] if inside else [entry.value]
    return any(True for value in values for _ in texts_in(value))
