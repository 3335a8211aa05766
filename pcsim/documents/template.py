"""Expands ``$`` in a document: arguments, loops (``for``) and conditions (``if``)."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from pcsim.documents.expression import MAX_NUMBER, Names, evaluate
from pcsim.documents.frozen_arrays import as_lists
from pcsim.documents.staging import (
    MAX_ENTRIES,
    Scope,
    combinations,
    fill_in,
    filled_with,
    least_count,
    stage,
    stage_entry,
    stage_loop,
)
from pcsim.documents.substitution import NAME, pieces_of, substitute
from pcsim.documents.tree import Entry, Key, Node, from_plain, plain
from pcsim.errors import InputError, Path, Problem, nearest, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

__all__ = [
    "MAX_ENTRIES",
    "Names",
    "argument",
    "argument_problems",
    "arguments",
    "empty_loops",
    "evaluate",
    "expand",
    "expand_list",
    "expand_section",
    "names_in",
    "remarks",
    "substitute",
    "texts_in",
]

_SECTIONS = {"vertices": "vertex", "parameters": "parameter", "inputs": "input", "targets": "target",
             "loss": "output"}  # fmt: skip
"""Sections whose entries may be loops, and what one entry is called."""

_VERBATIM = ("args", "title", "source")


def expand(document: Node, args: Names) -> Node:
    """Return a graph document without ``args``, ``for``, ``if`` and ``$``; nodes keep their places.

    Parameters
    ----------
    document : the whole document, a map.
    args : arguments that replace the document's defaults. Problems with these carry the path
        ``args.NAME`` and no location, for the caller knows where they were given.

    Raises
    ------
    InputError
        With every problem found: unknown arguments and names, wrong types, names defined twice, more
        than 2 000 000 entries.
    """
    if document.entries is None:
        raise InputError([Problem((), "expected a graph document, a map of keys", document.location)])
    scope = _scope(document.entries, args)
    parts = {key: _expanded(key, entry, scope) for key, entry in document.entries.items() if key != "args"}
    if scope.problems:
        raise InputError(scope.problems)
    return replace(document, entries={key: entry for key, entry in parts.items() if entry})


def expand_section(section: Entry, args: Names, stands: Callable[[Entry], bool]) -> Entry:
    """Return a section, a map of entries, filled in as ``vertices`` are, with arguments and loop variables.

    ``stands`` tells whether an entry is no template and stays as it is. Raises InputError as ``expand`` does.
    """
    scope = Scope(args)
    made = _section(str(section.key), section.value.entries or {}, scope, stands)
    if scope.problems:
        raise InputError(scope.problems)
    return replace(section, value=replace(section.value, entries=made))


def expand_list(section: Entry, args: Names, verbatim: Collection[str] = ()) -> Entry:
    """Return a section, a list, filled in; texts that are ``verbatim`` stand as they are.

    Raises InputError as ``expand`` does.
    """
    scope = Scope(args, verbatim=verbatim)
    node = cast("Node | None", stage(section.value, (section.key,), scope))
    if scope.problems:
        raise InputError(scope.problems)
    return replace(section, value=node or Node())


def arguments(document: Node, args: Names) -> dict[str, Any]:
    """Return the value of every argument of a document; where a given one is wrong, its default."""
    return dict(_scope(document.entries or {}, args).args)


def argument_problems(document: Node, args: Names) -> list[Problem]:
    """Return what is wrong with the arguments of a document; paths begin with ``args``."""
    return _scope(document.entries or {}, args).problems


def remarks(document: Node, args: Names, used: Collection[str] = ()) -> list[Problem]:
    """Return what is legal in a document and may yet be a slip: arguments that nothing uses, loops that make nothing.

    The document is one that ``expand`` takes with these arguments; ``used`` are those that others use beside it.
    """
    entries = document.entries or {}
    scope = _scope(entries, args)
    return [*_unused_arguments(entries, scope, used), *_empty_loops(entries, scope)]


def empty_loops(section: Entry, args: Names) -> list[Problem]:
    """Return which loops make nothing, in a section that ``expand_section`` takes with these arguments."""
    return [*_empty_loops({section.key: section}, Scope(args))]


def _unused_arguments(document: Mapping[Key, Entry], scope: Scope, others: Collection[str]) -> Iterator[Problem]:
    if not scope.args:
        return
    used = {name for key, entry in document.items() if key not in _VERBATIM for name in names_in(entry.value)}
    declared = document["args"].value.entries or {}
    for key, entry in declared.items():
        if key not in used and key not in others:
            message = f"nothing uses this argument; write ${key} where it is meant, or leave it out"
            yield Problem(("args", key), message, entry.location)


def names_in(node: Node) -> Iterator[str]:
    """Yield the names that the templates of a value use."""
    for text in texts_in(node):
        with suppress(ValueError):  # a loop that makes nothing is not read
            yield from (name for piece in pieces_of(text) if not isinstance(piece, str) for name in piece.names)


def texts_in(node: Node) -> Iterator[str]:
    """Yield every text in a value, keys included, that holds a ``$``."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        waiting.extend(node.items or ())
        entries = (node.entries or {}).values()
        waiting.extend(entry.value for entry in entries)
        yield from (
            text for text in (node.value, *(entry.key for entry in entries)) if isinstance(text, str) and "$" in text
        )


def _empty_loops(document: Mapping[Key, Entry], scope: Scope) -> Iterator[Problem]:
    for section, what in _SECTIONS.items():
        made = document[section].value.entries if section in document else None
        for key, entry in (made or {}).items():
            loop = _loop(entry, (section, key), scope)
            if loop.count == 0:
                names = " and ".join(name for name, values in loop.ranges.items() if not values)
                message = f"the range of {names} is empty, so this makes no {what}"
                yield Problem((*loop.path, "for"), message, (entry.value.entries or {})["for"].location)


def _scope(document: Mapping[Key, Entry], given: Names) -> Scope:
    scope = Scope(_defaults(document))
    chosen = dict(scope.args)
    for name, value in given.items():
        try:
            chosen[name] = argument(name, value, scope.args)
        except ValueError as error:
            scope.note(("args", name), str(error), None)
        except InputError as error:
            scope.problems.extend(problem.under("args", name) for problem in error.problems)
    return replace(scope, args=chosen)


def _defaults(document: Mapping[Key, Entry]) -> dict[str, Any]:
    node = document["args"].value if "args" in document else Node()
    if node.is_scalar and node.value is None:
        return {}
    if node.entries is None:
        raise InputError([Problem(("args",), "expected a map of names to defaults", node.location)])
    for key, entry in node.entries.items():
        if not NAME.fullmatch(str(key)):
            message = f"argument {key!r} is not a name; use letters, digits and _"
            raise InputError([Problem(("args", key), message, entry.location)])
    return {str(key): as_lists(plain(entry.value)) for key, entry in node.entries.items()}


def argument(name: str, value: Any, defaults: Names) -> Any:
    """Return a given argument in the type of its default; raises ValueError or InputError."""
    if name not in defaults:
        msg = f"unknown argument {name!r}{nearest(name, defaults)}"
        raise ValueError(msg)
    value, default = as_lists(plain(from_plain(value, "argument"))), defaults[name]
    if default is None or type(value) is type(default):
        return value
    if type(default) is float and type(value) is int and abs(value) < MAX_NUMBER:
        return float(value)
    if type(default) is int and type(value) is float and abs(value) < MAX_NUMBER:
        with suppress(ValueError):
            return whole(value)
    msg = f"expected {type(default).__name__}, such as the default {default!r}, got {value!r}"
    raise ValueError(msg)


def _expanded(key: Key, entry: Entry, scope: Scope) -> Entry | None:
    if key in _VERBATIM:
        return entry
    if key in _SECTIONS and entry.value.entries is not None:
        return replace(entry, value=replace(entry.value, entries=_section(str(key), entry.value.entries, scope)))
    node = cast("Node | None", stage(entry.value, (key,), scope))  # no loop is open, so nothing waits
    return replace(entry, value=node) if node else None


@dataclass(frozen=True)
class _Loop:
    """An entry and the ranges of its loop variables; one that stands as it is has none, and no ``$`` to fill in."""

    entry: Entry
    path: Path
    ranges: dict[str, Any]
    stands: bool = False

    @property
    def count(self) -> int:
        return least_count(self.ranges)


def _none_stands(_entry: Entry) -> bool:
    return False


def _section(
    section: str, entries: Mapping[Key, Entry], scope: Scope, stands: Callable[[Entry], bool] = _none_stands
) -> dict[Key, Entry]:
    loops = [
        _Loop(entry, (section, key), {}, stands=True) if stands(entry) else _loop(entry, (section, key), scope)
        for key, entry in entries.items()
    ]
    made: dict[Key, Entry] = {}
    # Counted before anything is made: a range costs nothing until it is run through.
    for loop, total in zip(loops, itertools.accumulate(loop.count for loop in loops), strict=True):
        if total > MAX_ENTRIES:
            scope.note(loop.path, f"more than {MAX_ENTRIES} {section}: {total}", loop.entry.location)
            return made
    for loop in loops:
        _run(loop, scope, made)
    return made


def _loop(entry: Entry, path: Path, scope: Scope) -> _Loop:
    """Take ``for`` out of an entry."""
    if "for" not in (entry.value.entries or {}):
        return _Loop(entry, path, {})
    ranges, body = stage_loop(entry.value, path, scope)
    return _Loop(replace(entry, value=body), path, ranges)


def _run(loop: _Loop, scope: Scope, made: dict[Key, Entry]) -> None:
    """Make the entries of a loop; it stops at its first problem, which the others would repeat."""
    if loop.count == 0:
        return
    found = len(scope.problems)
    staged = loop.entry if loop.stands else stage_entry(loop.entry, loop.path, scope.inside(loop.ranges))
    if found < len(scope.problems):
        return

    def add(names: Names) -> None:
        _add(fill_in(staged, names), loop, made)

    try:
        for variables in combinations(loop.ranges, scope.args, scope):
            filled_with(add, scope.args, variables)
    except InputError as error:
        scope.problems.extend(error.problems)
    except ValueError as error:
        scope.note(loop.path, str(error), loop.entry.location)


def _add(entry: Entry | None, loop: _Loop, made: dict[Key, Entry]) -> None:
    if entry is None:
        return
    if entry.key in made:
        kind = _SECTIONS[str(loop.path[0])]
        first = made[entry.key].location
        places = "another entry is named so too" if first is None else f"first at {first}"
        hint = "use every loop variable in its name" if first == entry.location else places
        raise InputError([Problem(loop.path, f"{kind} {entry.key!r} is defined twice; {hint}", entry.location)])
    made[entry.key] = entry
