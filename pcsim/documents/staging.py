"""Fills a template in two stages: the arguments once, the loop variables for each entry.

What no loop variable touches is shared by every entry; the rest becomes a function of the loop variables.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pcsim.documents.expression import Names
from pcsim.documents.substitution import joined, name_of, pieces_of
from pcsim.documents.tree import Entry, Key, Node, from_plain
from pcsim.errors import InputError, Location, Path, Problem

T = TypeVar("T")
# Finished (None: an `if` dropped it), or a function of the loop variables.
Staged = Node | Callable[[Names], Node | None] | None


@dataclass(frozen=True)
class Scope:
    """What a template sees: the arguments, the loop variables to come, and where problems go."""

    args: Names
    loops: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)

    def note(self, path: Path, message: str, location: Location | None) -> None:
        """Keep a problem."""
        self.problems.append(Problem(path, message, location))

    def settle(self, fill: Callable[[Names], T], fallback: T) -> T:
        """Fill a template that waits for no loop; a problem is noted and the template left as it is."""
        try:
            return fill(self.args)
        except InputError as error:
            self.problems.extend(error.problems)
            return fallback


def fill_in(staged: Any, names: Names) -> Any:
    """Return the finished value of what was staged."""
    return staged(names) if callable(staged) else staged


def stage(node: Node, path: Path, scope: Scope) -> Staged:
    """Fill in the arguments, and return a function of the loop variables where those are needed."""
    if node.items is not None:
        return _stage_list(node, node.items, path, scope)
    if node.entries is not None:
        return (_stage_if if "if" in node.entries else _stage_map)(node, node.entries, path, scope)
    if isinstance(node.value, str) and "$" in node.value:
        return _stage_text(node, node.value, path, scope)
    return node


def _stage_text(node: Node, text: str, path: Path, scope: Scope) -> Staged:
    def fill(names: Names) -> Node:
        return _leaf(_located(joined, text, names, path, node.location), node.location)

    return fill if _waits(text, scope) else scope.settle(fill, node)


def _stage_list(node: Node, items: tuple[Node, ...], path: Path, scope: Scope) -> Staged:
    staged = [stage(item, (*path, index), scope) for index, item in enumerate(items)]

    def fill(names: Names) -> Node:
        filled = [fill_in(item, names) for item in staged]
        return Node(None, node.location, tuple(item for item in filled if item is not None))

    if any(map(callable, staged)):
        return fill
    return node if _same(staged, items) else fill({})


def _stage_map(node: Node, entries: Mapping[Key, Entry], path: Path, scope: Scope) -> Staged:
    staged = [stage_entry(entry, (*path, key), scope) for key, entry in entries.items()]

    def fill(names: Names) -> Node:
        filled = [fill_in(entry, names) for entry in staged]
        return _map(node, [entry for entry in filled if entry is not None], path)

    if any(map(callable, staged)):
        return fill
    return node if _same(staged, entries.values()) else scope.settle(fill, node)


def _same(staged: Iterable[object], given: Iterable[object]) -> bool:
    return all(map(operator.is_, staged, given))


def _map(node: Node, entries: list[Entry], path: Path) -> Node:
    made = {entry.key: entry for entry in entries}
    for entry in entries if len(made) < len(entries) else ():
        if made[entry.key] is not entry:
            message = f"key {entry.key!r} is given twice; first at {entry.location}"
            raise InputError([Problem(path, message, made[entry.key].location)])
    return Node(None, node.location, None, made)


def stage_entry(entry: Entry, path: Path, scope: Scope) -> Entry | Callable[[Names], Entry | None] | None:
    """Stage the key and the value of an entry."""
    key, value = _stage_key(entry, path, scope), stage(entry.value, path, scope)

    def fill(names: Names) -> Entry | None:
        node = fill_in(value, names)
        return Entry(fill_in(key, names), node, entry.location) if node is not None else None

    if callable(key) or callable(value):
        return fill
    return entry if value is entry.value and key == entry.key else fill({})


def _stage_key(entry: Entry, path: Path, scope: Scope) -> Key | Callable[[Names], Key]:
    text = entry.key
    if not isinstance(text, str) or "$" not in text:
        return text

    def fill(names: Names) -> str:
        return _located(name_of, text, names, path, entry.location)

    return fill if _waits(text, scope) else scope.settle(fill, text)


def _stage_if(node: Node, entries: Mapping[Key, Entry], path: Path, scope: Scope) -> Staged:
    body = replace(node, entries={key: entry for key, entry in entries.items() if key != "if"})
    condition = _stage_condition(entries["if"].value, (*path, "if"), scope)
    if condition is False:
        return None
    staged = stage(body, path, scope)
    if condition is True:
        return staged
    return lambda names: fill_in(staged, names) if fill_in(condition, names) else None


def _stage_condition(node: Node, path: Path, scope: Scope) -> bool | Callable[[Names], bool]:
    found = len(scope.problems)
    staged = stage(node, path, scope)
    if found < len(scope.problems):
        return True

    def fill(names: Names) -> bool:
        value = fill_in(staged, names).value
        if isinstance(value, int):
            return bool(value)
        raise InputError([Problem(path, f"expected a condition such as $(l > 1), got {value!r}", node.location)])

    return fill if callable(staged) else scope.settle(fill, True)


def _waits(text: str, scope: Scope) -> bool:
    """Tell whether a text needs a loop variable; a text that cannot be read fails where it is filled."""
    try:
        return any(not isinstance(piece, str) and piece.names & set(scope.loops) for piece in pieces_of(text))
    except ValueError:
        return False


def _located(read: Callable[[str, Names], T], text: str, names: Names, path: Path, location: Location | None) -> T:
    try:
        return read(text, names)
    except ValueError as error:
        raise InputError([Problem(path, str(error), location)]) from None


def _leaf(value: Any, location: Location | None) -> Node:
    return Node(value, location) if isinstance(value, int | str | float) else from_plain(value, location=location)
