"""Fills a template in two stages: the arguments once, the loop variables for each entry.

What no loop variable touches is shared by every entry; the rest becomes a function of the loop variables. In a list or
a map, what has a ``for`` stands for several. ``{for: ..., from: NAME}`` and ``{if: ..., from: NAME}`` are names alone.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeVar

from pcsim.documents.expression import Names
from pcsim.documents.frozen_arrays import as_lists
from pcsim.documents.substitution import NAME, joined, name_of, pieces_of
from pcsim.documents.tree import Entry, Key, Node, from_plain, plain
from pcsim.errors import InputError, Location, Path, Problem, whole

MAX_ENTRIES = 2_000_000

_NUMBER = r"(-?[0-9]{1,13}(?:\.[0-9]{1,13})?(?:[eE]\+?[0-9]{1,2})?)"
_RANGE = re.compile(rf"\s*{_NUMBER}\s*\.\.\s*{_NUMBER}\s*")
_MOST = 10**13

T = TypeVar("T")
# Finished (None: an `if` dropped it), or a function of the loop variables.
Staged = Node | Callable[[Names], Node | None] | None
Range = Sequence[Any]


@dataclass(frozen=True)
class Scope:
    """What a template sees: the arguments, the loop variables to come, and where problems go.

    ``verbatim`` are texts with a ``$`` that stand as they are; ``made`` counts what loops inside of entries make.
    """

    args: Names
    loops: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)
    verbatim: Collection[str] = ()
    made: list[int] = field(default_factory=lambda: [0])

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

    def inside(self, variables: Iterable[str]) -> Scope:
        """Return what a template inside of a loop sees."""
        return replace(self, loops=(*self.loops, *variables))

    def count(self, more: int) -> None:
        """Count what a loop is about to make; raises ValueError once that is too much."""
        if self.made[0] + more > MAX_ENTRIES:
            msg = f"loops make more than {MAX_ENTRIES} entries of lists and maps: {self.made[0] + more}"
            raise ValueError(msg)
        self.made[0] += more


def fill_in(staged: Any, names: Names) -> Any:
    """Return the finished value of what was staged."""
    return staged(names) if callable(staged) else staged


def stage(node: Node, path: Path, scope: Scope) -> Staged:
    """Fill in the arguments, and return a function of the loop variables where those are needed."""
    if node.items is not None:
        return _stage_list(node, node.items, path, scope)
    if node.entries is not None:
        return (_stage_if if "if" in node.entries else _stage_map)(node, node.entries, path, scope)
    if isinstance(node.value, str) and "$" in node.value and node.value not in scope.verbatim:
        return _stage_text(node, node.value, path, scope)
    return node


def _stage_text(node: Node, text: str, path: Path, scope: Scope) -> Staged:
    def fill(names: Names) -> Node:
        return _leaf(_located(joined, text, names, path, node.location), node.location)

    return fill if _waits(text, scope) else scope.settle(fill, node)


def _stage_list(node: Node, items: tuple[Node, ...], path: Path, scope: Scope) -> Staged:
    staged = [_stage_item(item, (*path, index), scope) for index, item in enumerate(items)]

    def fill(names: Names) -> Node:
        return Node(None, node.location, tuple(_flat(staged, names)))

    if any(map(callable, staged)):
        return fill
    return node if _same(staged, items) else fill({})


def _stage_map(node: Node, entries: Mapping[Key, Entry], path: Path, scope: Scope) -> Staged:
    staged = [_stage_member(entry, (*path, key), scope) for key, entry in entries.items()]

    def fill(names: Names) -> Node:
        return _map(node, list(_flat(staged, names)), path)

    if any(map(callable, staged)):
        return fill
    return node if _same(staged, entries.values()) else scope.settle(fill, node)


def _flat(staged: Iterable[Any], names: Names) -> Iterator[Any]:
    """Yield what was staged, filled in; of a loop all that it makes, of what an ``if`` dropped nothing."""
    for part in staged:
        filled = fill_in(part, names)
        if isinstance(filled, tuple):
            yield from filled
        elif filled is not None:
            yield filled


def _same(staged: Iterable[object], given: Iterable[object]) -> bool:
    return all(map(operator.is_, staged, given))


def _map(node: Node, entries: list[Entry], path: Path) -> Node:
    made = {entry.key: entry for entry in entries}
    for entry in entries if len(made) < len(entries) else ():
        if made[entry.key] is not entry:
            message = f"key {entry.key!r} is given twice; first at {entry.location}"
            raise InputError([Problem(path, message, made[entry.key].location)])
    return Node(None, node.location, None, made)


# -- loops inside of lists and maps ------------------------------------------------------------------------


def _stage_item(item: Node, path: Path, scope: Scope) -> Any:
    """Stage an item of a list; one with ``for`` becomes a tuple of nodes, or a function that returns one."""
    keys = set(item.entries or ())
    if "for" in keys:
        ranges, body = stage_loop(item, path, scope)
        staged = stage(body, path, scope.inside(ranges))
        return _repeated(ranges, lambda names: _name_alone(fill_in(staged, names)), item, path, scope)
    staged = stage(item, path, scope)
    if "if" not in keys:
        return staged
    return (lambda names: _name_alone(fill_in(staged, names))) if callable(staged) else _name_alone(staged)


def _stage_member(entry: Entry, path: Path, scope: Scope) -> Any:
    """Stage an entry of a map; one with ``for`` becomes a tuple of entries, or a function that returns one."""
    if "for" not in (entry.value.entries or {}):
        return stage_entry(entry, path, scope)
    ranges, body = stage_loop(entry.value, path, scope)
    staged = stage_entry(replace(entry, value=body), path, scope.inside(ranges))

    def fill(names: Names) -> Entry | None:
        filled = fill_in(staged, names)
        return replace(filled, value=_name_alone(filled.value)) if filled else None

    return _repeated(ranges, fill, entry.value, path, scope)


def stage_loop(node: Node, path: Path, scope: Scope) -> tuple[dict[str, Any], Node]:
    """Return the loop variables of a map with their ranges, staged, and the map without its ``for``.

    A range that waits for other variables is a function of them: of a loop around this one, or before it in this one.
    """
    entries = node.entries or {}
    body = replace(node, entries={key: entry for key, entry in entries.items() if key != "for"})
    return _stage_ranges(entries["for"], (*path, "for"), scope), body


def _repeated(
    ranges: Mapping[str, Any], fill_one: Callable[[Names], T | None], node: Node, path: Path, scope: Scope
) -> Any:
    def fill(names: Names) -> tuple[T, ...]:
        found = (filled_with(fill_one, names, variables) for variables in counted(ranges, names))
        return tuple(one for one in found if one is not None)

    def counted(ranges: Mapping[str, Any], names: Names) -> Iterator[dict[str, Any]]:
        try:
            yield from combinations(ranges, names, scope)
        except ValueError as error:
            raise InputError([Problem(path, str(error), node.location)]) from None

    nothing: tuple[T, ...] = ()
    return fill if scope.loops else scope.settle(fill, nothing)


def least_count(ranges: Mapping[str, Any]) -> int:
    """Return how often a loop is run through at least: ranges that wait for other variables count once."""
    return math.prod(1 if callable(staged) else len(staged) for staged in ranges.values())


def combinations(ranges: Mapping[str, Any], names: Names, scope: Scope) -> Iterator[dict[str, Any]]:
    """Yield the values of loop variables, the last of them changing fastest; a range may depend on those before it.

    Raises InputError for a range that is none, ValueError where all is too much.
    """
    waiting = any(map(callable, ranges.values()))
    if not waiting:
        scope.count(least_count(ranges))
    for variables in _chosen(list(ranges.items()), {}, names):
        if waiting:
            scope.count(1)
        yield variables


def _chosen(ranges: Sequence[tuple[str, Any]], chosen: dict[str, Any], names: Names) -> Iterator[dict[str, Any]]:
    if not ranges:
        yield chosen
        return
    name, staged = ranges[0]
    for value in fill_in(staged, {**names, **chosen}) if callable(staged) else staged:
        yield from _chosen(ranges[1:], {**chosen, name: value}, names)


def filled_with(fill: Callable[[Names], T], names: Names, variables: Names) -> T:
    """Return what a loop makes for some values of its variables; problems name them."""
    try:
        return fill({**names, **variables})
    except InputError as error:
        raise error.map(lambda problem: _with_variables(problem, variables)) from None


def _with_variables(problem: Problem, variables: Names) -> Problem:
    values = ", ".join(f"{name} = {value}" for name, value in variables.items())
    return replace(problem, message=f"{problem.message} (with {values})") if values else problem


def _name_alone(node: Node | None) -> Node | None:
    """Return the name in ``{from: NAME}``, and any other node as it is."""
    entries = node.entries if node is not None else None
    return entries["from"].value if entries is not None and set(entries) == {"from"} else node


def _stage_ranges(entry: Entry, path: Path, scope: Scope) -> dict[str, Any]:
    if not entry.value.entries:
        scope.note(path, "expected loop variables with their ranges, such as {l: 1..$depth}", entry.location)
        return {"": ()}
    for name, variable in entry.value.entries.items():
        if not NAME.fullmatch(str(name)):
            scope.note((*path, name), f"loop variable {name!r} is not a name", variable.location)
        elif name in scope.args or name in scope.loops:
            what = "an argument" if name in scope.args else "that of a loop around it"
            scope.note((*path, name), f"loop variable {name!r} is also {what}; rename it", variable.location)
    ranges: dict[str, Any] = {}
    for name, variable in entry.value.entries.items():
        ranges[str(name)] = _stage_range(variable.value, (*path, name), scope.inside(ranges))
    return ranges


def _stage_range(node: Node, path: Path, scope: Scope) -> Any:
    found = len(scope.problems)
    staged = stage(node, path, scope)
    if found < len(scope.problems):
        return ()

    def fill(names: Names) -> Range:
        values = as_lists(plain(fill_in(staged, names)))
        made = _range_of(values)
        if made is None:
            message = f"expected a range such as 1..8, or a list of them, got {values!r}"
            raise InputError([Problem(path, message, node.location)])
        return made

    nothing: Range = ()
    return fill if callable(staged) else scope.settle(fill, nothing)


def _range_of(values: Any) -> Range | None:
    if isinstance(values, list):
        with suppress(ValueError):
            return [value if isinstance(value, str) else whole(value) for value in values]
    if isinstance(values, str) and (ends := _RANGE.fullmatch(values)):
        first, last = Fraction(ends[1]), Fraction(ends[2])
        if all(end.denominator == 1 and abs(end) < _MOST for end in (first, last)):
            return range(int(first), int(last) + 1)
    return None


# -- entries, conditions, texts ----------------------------------------------------------------------------


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
