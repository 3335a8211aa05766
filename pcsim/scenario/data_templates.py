"""Templates under the inputs and the targets of a scenario, filled in with the arguments of its graph.

Names of vertices and of files may hold a ``$``. So in an entry without ``for`` and ``if`` a name that is a vertex's,
and what ``file`` and ``key`` say, stand as they are; any other ``$`` makes the entry a template, where ``$$`` is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pcsim.documents.template import empty_loops, expand_section, names_in, texts_in

if TYPE_CHECKING:
    from collections.abc import Collection

    from pcsim.documents import Entry, Node
    from pcsim.documents.template import Names
    from pcsim.errors import Problem

SECTIONS = ("inputs", "targets")

_MARKS = {"for", "if"}
_FILES = {"file", "key"}


def names_used(scenario: Node) -> frozenset[str]:
    """Return the names that templates of inputs and targets use."""
    entries = scenario.entries or {}
    return frozenset(name for key in SECTIONS if key in entries for name in names_in(entries[key].value))


def written_out(section: Entry, args: Names, vertices: Collection[str] | None, found: list[Problem]) -> Entry:
    """Return inputs or targets without templates; nodes keep their places.

    Parameters
    ----------
    args : the value of every argument of the graph
    vertices : names of the graph's vertices, which may hold a ``$``; None where the graph is not known
    found : remarks are added to it

    Raises InputError with every problem of the templates.
    """

    def stands(entry: Entry) -> bool:
        return not _is_template(entry, vertices)

    if all(map(stands, (section.value.entries or {}).values())):
        return section
    filled = expand_section(section, args, stands)
    found += empty_loops(section, args)
    return filled


def _is_template(entry: Entry, vertices: Collection[str] | None) -> bool:
    """Tell whether an entry is a template, and not named, or given a file, with a ``$`` that stands for itself."""
    inside = entry.value.entries or {}
    if _MARKS & set(inside):
        return True
    if "$" in str(entry.key) and vertices is not None and entry.key not in vertices:
        return True
    values = [part.value for key, part in inside.items() if key not in _FILES] if inside else [entry.value]
    return any(True for value in values for _ in texts_in(value))
