"""Expands ``$`` in a graph document: arguments, loops (``for``) and conditions (``if``).

A template is staged before its loop runs: what no loop variable touches is filled in once and shared
by every entry, the rest becomes a function of the loop variables.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, TypeVar, cast

from pcsim.errors import InputError, Location, Path, Problem, nearest, wrong
from pcsim.scenario.nodes import Entry, Key, Node, from_plain, plain

Names = Mapping[str, Any]

MAX_ENTRIES = 2_000_000
MAX_NUMBER = 10**12
MAX_EXPONENT = 64
MAX_LENGTH = 400
MAX_DEPTH = 50

_SECTIONS = ("vertices", "parameters")
_VERBATIM = ("args", "title", "source")
_ALLOWED = "an expression has names, whole numbers, + - * // % **, comparisons, and, or, not, parentheses"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RANGE = re.compile(r"\s*(-?[0-9]{1,13})\s*\.\.\s*(-?[0-9]{1,13})\s*")
# Quotes, comments and numbers with letters stuck to them, of which Python's parser would only warn.
_STRAY = re.compile(r"[\"'\\#]|(?<![\w.])\d[\d_]*+[^\W\d]")

_ARITHMETIC: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}


# ---- expressions


@dataclass(frozen=True)
class _Expression:
    text: str
    tree: ast.expr
    names: frozenset[str]


def evaluate(expression: str, names: Names) -> Any:
    """Work out whole-number arithmetic, comparisons and conditions; never runs the text as code.

    A lone name gives its value, whatever its type.

    Raises
    ------
    InputError
        For unknown names, other syntax, division by zero, fractions, and numbers beyond 1e12.

    >>> evaluate("2 * l - 1", {"l": 3})
    5
    """
    try:
        return _worked_out(_expression(expression), names)
    except ValueError as error:
        raise wrong((), str(error)) from None


def _worked_out(expression: _Expression, names: Names) -> Any:
    try:
        return _value(expression.tree, names)
    except ValueError as error:
        msg = f"in $({expression.text}): {error}"
        raise ValueError(msg) from None


@lru_cache(maxsize=4096)
def _expression(text: str) -> _Expression:
    try:
        tree = _parse(text.strip())
        _check(tree, 0)
    except ValueError as error:
        msg = f"in $({text[:80]}): {error}"
        raise ValueError(msg) from None
    return _Expression(
        text, tree, frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    )


def _parse(text: str) -> ast.expr:
    if len(text) > MAX_LENGTH:
        msg = f"longer than {MAX_LENGTH} characters"
        raise ValueError(msg)
    if stray := _STRAY.search(text):
        msg = f"{stray[0]!r} is not allowed; {_ALLOWED}"
        raise ValueError(msg)
    try:
        return ast.parse(re.sub(r"\s", " ", text), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        msg = f"not an expression; {_ALLOWED}"
        raise ValueError(msg) from None


def _check(node: ast.expr, depth: int) -> None:
    """Raise ValueError for syntax that is not allowed."""
    if depth > MAX_DEPTH:
        msg = f"nested deeper than {MAX_DEPTH}"
        raise ValueError(msg)
    if wrong_part := _forbidden(node):
        msg = f"{wrong_part} is not allowed; {_ALLOWED}"
        raise ValueError(msg)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            _check(child, depth + 1)


def _forbidden(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return None if type(node.value) is int else type(node.value).__name__
    if isinstance(node, ast.BinOp):
        division = "/ (write // for whole-number division)"
        known = type(node.op) in _ARITHMETIC
        return None if known else division if isinstance(node.op, ast.Div) else type(node.op).__name__
    if isinstance(node, ast.Compare):
        bad = (type(op).__name__ for op in node.ops if type(op) not in _ORDER | _EQUALITY)
        return next(bad, None)
    if isinstance(node, ast.UnaryOp):
        return "~" if isinstance(node.op, ast.Invert) else None
    return None if isinstance(node, ast.Name | ast.BoolOp) else type(node).__name__


def _value(node: ast.expr, names: Names) -> Any:
    return _VALUE[type(node)](node, names)


def _named(node: ast.Name, names: Names) -> Any:
    if node.id not in names:
        msg = f"unknown name {node.id!r}{nearest(node.id, names)}"
        raise ValueError(msg)
    return names[node.id]


def _binary(node: ast.BinOp, names: Names) -> int:
    left, right = _whole(_value(node.left, names)), _whole(_value(node.right, names))
    if right == 0 and isinstance(node.op, ast.FloorDiv | ast.Mod):
        raise ValueError("division by zero")
    if isinstance(node.op, ast.Pow) and not 0 <= right <= MAX_EXPONENT:
        msg = f"exponent {right} is not between 0 and {MAX_EXPONENT}"
        raise ValueError(msg)
    return _whole(_ARITHMETIC[type(node.op)](left, right))


def _unary(node: ast.UnaryOp, names: Names) -> Any:
    value = _value(node.operand, names)
    if isinstance(node.op, ast.Not):
        return not _truth(value)
    return -_whole(value) if isinstance(node.op, ast.USub) else _whole(value)


def _compare(node: ast.Compare, names: Names) -> bool:
    left = _value(node.left, names)
    for op, comparator in zip(node.ops, node.comparators, strict=True):
        right = _value(comparator, names)
        if not _holds(type(op), left, right):
            return False
        left = right
    return True


def _holds(op: type[ast.cmpop], left: Any, right: Any) -> bool:
    if op in _EQUALITY:
        return _EQUALITY[op](left, right)
    return _ORDER[op](_whole(left), _whole(right))


def _condition(node: ast.BoolOp, names: Names) -> bool:
    # all and any stop early, so that `l > 0 and 8 // l > 2` is safe.
    among = all if isinstance(node.op, ast.And) else any
    return among(_truth(_value(part, names)) for part in node.values)


_VALUE: dict[type[ast.expr], Callable[[Any, Names], Any]] = {
    ast.Constant: lambda node, names: node.value,  # noqa: ARG005
    ast.Name: _named,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.BoolOp: _condition,
}


def _whole(value: Any) -> int:
    if type(value) is not int:
        msg = f"expected a whole number, got {value!r}"
        raise ValueError(msg)
    if abs(value) > MAX_NUMBER:
        raise ValueError("a number is beyond 1e12")
    return value


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _whole(value) != 0


# ---- text with $ in it

_Piece = str | _Expression


def substitute(text: str, names: Names) -> Any:
    """Fill in ``$name``, ``${name}`` and ``$(expression)``; ``$$`` is a dollar sign.

    A text that is one of these and nothing else gives the value itself, with its type.

    Raises
    ------
    InputError
        For a lone ``$``, an unclosed bracket, and whatever `evaluate` refuses.

    >>> substitute("h$(l - 1)", {"l": 3}), substitute("$l", {"l": 3})
    ('h2', 3)
    """
    try:
        return _joined(text, names)
    except ValueError as error:
        raise wrong((), str(error)) from None


def _joined(text: str, names: Names) -> Any:
    pieces = _pieces(text)
    if len(pieces) == 1 and isinstance(pieces[0], _Expression):
        return _worked_out(pieces[0], names)
    return "".join(
        piece if isinstance(piece, str) else _written(_worked_out(piece, names), piece.text)
        for piece in pieces
    )


def _name(text: str, names: Names) -> str:
    return _written(_joined(text, names), text)


def _written(value: Any, text: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return str(value)
    msg = f"{text!r} is {value!r}, which cannot stand inside a text"
    raise ValueError(msg)


@lru_cache(maxsize=4096)
def _pieces(text: str) -> tuple[_Piece, ...]:
    pieces: list[_Piece] = []
    start = 0
    while (at := text.find("$", start)) >= 0:
        piece, end = _piece(text, at + 1)
        pieces += [text[start:at], piece]
        start = end
    return tuple(piece for piece in [*pieces, text[start:]] if piece != "")


def _piece(text: str, at: int) -> tuple[_Piece, int]:
    """Read what follows a ``$``; return it and where the text goes on."""
    first = text[at : at + 1]
    if first == "$":
        return "$", at + 1
    if first == "(":
        end = _closing(text, at)
        return _expression(text[at + 1 : end]), end + 1
    if first == "{":
        return _braced(text, at)
    if name := _NAME.match(text, at):
        return _expression(name[0]), name.end()
    msg = f"a lone $ in {text[:80]!r}; write $name, $(expression), or $$ for a dollar sign"
    raise ValueError(msg)


def _braced(text: str, at: int) -> tuple[_Piece, int]:
    end = text.find("}", at)
    if end < 0 or not _NAME.fullmatch(text[at + 1 : end]):
        msg = f"${{...}} in {text[:80]!r} takes one name; write $(...) for an expression"
        raise ValueError(msg)
    return _expression(text[at + 1 : end]), end + 1


def _closing(text: str, at: int) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index
    msg = f"$( in {text[:80]!r} is not closed"
    raise ValueError(msg)


# ---- templates

T = TypeVar("T")
# Finished (None: an `if` dropped it), or a function of the loop variables.
_Staged = Node | Callable[[Names], Node | None] | None


@dataclass(frozen=True)
class _Scope:
    """What a template sees: the arguments, the loop variables to come, and where problems go."""

    args: Names
    loops: tuple[str, ...] = ()
    problems: list[Problem] = field(default_factory=list)

    def note(self, path: Path, message: str, location: Location | None) -> None:
        self.problems.append(Problem(path, message, location))

    def settle(self, fill: Callable[[Names], T], fallback: T) -> T:
        """Fill a template that waits for no loop; a problem is noted and the template left as it is."""
        try:
            return fill(self.args)
        except InputError as error:
            self.problems.extend(error.problems)
            return fallback


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


def _scope(document: Mapping[Key, Entry], given: Names) -> _Scope:
    scope = _Scope(_defaults(document))
    chosen = dict(scope.args)
    for name, value in given.items():
        try:
            chosen[name] = _argument(name, value, scope.args)
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
        if not _NAME.fullmatch(str(key)):
            message = f"argument {key!r} is not a name; use letters, digits and _"
            raise InputError([Problem(("args", key), message, entry.location)])
    return {str(key): plain(entry.value) for key, entry in node.entries.items()}


def _argument(name: str, value: Any, defaults: Names) -> Any:
    """Return a given argument in the type of its default, or raise ValueError."""
    if name not in defaults:
        msg = f"unknown argument {name!r}{nearest(name, defaults)}"
        raise ValueError(msg)
    value, default = plain(from_plain(value, "argument")), defaults[name]
    if default is None or type(value) is type(default):
        return value
    if type(default) is float and type(value) is int and abs(value) < MAX_NUMBER:
        return float(value)
    msg = f"expected {type(default).__name__}, such as the default {default!r}, got {value!r}"
    raise ValueError(msg)


def _expanded(key: Key, entry: Entry, scope: _Scope) -> Entry | None:
    if key in _VERBATIM:
        return entry
    if key in _SECTIONS and entry.value.entries is not None:
        return replace(
            entry, value=replace(entry.value, entries=_section(str(key), entry.value.entries, scope))
        )
    node = cast("Node | None", _stage(entry.value, (key,), scope))  # no loop is open, so nothing waits
    return replace(entry, value=node) if node else None


# ---- sections: entries with loops


@dataclass(frozen=True)
class _Loop:
    """An entry and the ranges of its loop variables."""

    entry: Entry
    path: Path
    ranges: dict[str, Sequence[Any]]

    @property
    def count(self) -> int:
        return math.prod(map(len, self.ranges.values()))


def _section(section: str, entries: Mapping[Key, Entry], scope: _Scope) -> dict[Key, Entry]:
    loops = [_loop(entry, (section, key), scope) for key, entry in entries.items()]
    made: dict[Key, Entry] = {}
    # Counted before anything is made: a range costs nothing until it is run through.
    for loop, total in zip(loops, itertools.accumulate(loop.count for loop in loops), strict=True):
        if total > MAX_ENTRIES:
            scope.note(loop.path, f"more than {MAX_ENTRIES} {section}: {total}", loop.entry.location)
            return made
    for loop in loops:
        _run(loop, scope, made)
    return made


def _loop(entry: Entry, path: Path, scope: _Scope) -> _Loop:
    """Take ``for`` out of an entry."""
    entries = entry.value.entries or {}
    if "for" not in entries:
        return _Loop(entry, path, {})
    body = replace(entry.value, entries={key: value for key, value in entries.items() if key != "for"})
    return _Loop(replace(entry, value=body), path, _ranges(entries["for"], (*path, "for"), scope))


def _ranges(entry: Entry, path: Path, scope: _Scope) -> dict[str, Sequence[Any]]:
    if not entry.value.entries:
        scope.note(path, "expected loop variables with their ranges, such as {l: 1..$depth}", entry.location)
        return {"": ()}
    for name, variable in entry.value.entries.items():
        if not _NAME.fullmatch(str(name)):
            scope.note((*path, name), f"loop variable {name!r} is not a name", variable.location)
        elif name in scope.args:
            scope.note(
                (*path, name), f"loop variable {name!r} is also an argument; rename it", variable.location
            )
    return {
        str(name): _range(variable.value, (*path, name), scope)
        for name, variable in entry.value.entries.items()
    }


def _range(node: Node, path: Path, scope: _Scope) -> Sequence[Any]:
    found = len(scope.problems)
    staged = _stage(node, path, scope)
    values = plain(staged) if isinstance(staged, Node) else None
    if isinstance(values, list) and all(type(value) in (int, str) for value in values):
        return values
    if isinstance(values, str) and (ends := _RANGE.fullmatch(values)):
        return range(int(ends[1]), int(ends[2]) + 1)
    if found == len(scope.problems):
        scope.note(path, f"expected a range such as 1..8, or a list of them, got {values!r}", node.location)
    return ()


def _run(loop: _Loop, scope: _Scope, made: dict[Key, Entry]) -> None:
    """Make the entries of a loop; it stops at its first problem, which the others would repeat."""
    if loop.count == 0:
        return
    found = len(scope.problems)
    staged = _stage_entry(loop.entry, loop.path, replace(scope, loops=tuple(loop.ranges)))
    if found < len(scope.problems):
        return
    for values in itertools.product(*loop.ranges.values()):
        variables = dict(zip(loop.ranges, values, strict=True))
        try:
            _add(_filled(staged, {**scope.args, **variables}), loop, made)
        except InputError as error:
            scope.problems.extend(_with_variables(problem, variables) for problem in error.problems)
            return


def _with_variables(problem: Problem, variables: Names) -> Problem:
    values = ", ".join(f"{name} = {value}" for name, value in variables.items())
    return replace(problem, message=f"{problem.message} (with {values})") if values else problem


def _add(entry: Entry | None, loop: _Loop, made: dict[Key, Entry]) -> None:
    if entry is None:
        return
    if entry.key in made:
        kind = "vertex" if loop.path[0] == "vertices" else "parameter"
        first = made[entry.key].location
        hint = "use every loop variable in its name" if first == entry.location else f"first at {first}"
        raise InputError(
            [Problem(loop.path, f"{kind} {entry.key!r} is defined twice; {hint}", entry.location)]
        )
    made[entry.key] = entry


# ---- staging


def _filled(staged: Any, names: Names) -> Any:
    return staged(names) if callable(staged) else staged


def _stage(node: Node, path: Path, scope: _Scope) -> _Staged:
    """Fill in the arguments, and return a function of the loop variables where those are needed."""
    if node.items is not None:
        return _stage_list(node, node.items, path, scope)
    if node.entries is not None:
        return (_stage_if if "if" in node.entries else _stage_map)(node, node.entries, path, scope)
    if isinstance(node.value, str) and "$" in node.value:
        return _stage_text(node, node.value, path, scope)
    return node


def _stage_text(node: Node, text: str, path: Path, scope: _Scope) -> _Staged:
    def fill(names: Names) -> Node:
        return _leaf(_located(_joined, text, names, path, node.location), node.location)

    return fill if _waits(text, scope) else scope.settle(fill, node)


def _stage_list(node: Node, items: tuple[Node, ...], path: Path, scope: _Scope) -> _Staged:
    staged = [_stage(item, (*path, index), scope) for index, item in enumerate(items)]

    def fill(names: Names) -> Node:
        filled = [_filled(item, names) for item in staged]
        return Node(None, node.location, tuple(item for item in filled if item is not None))

    if any(map(callable, staged)):
        return fill
    return node if _same(staged, items) else fill({})


def _stage_map(node: Node, entries: Mapping[Key, Entry], path: Path, scope: _Scope) -> _Staged:
    staged = [_stage_entry(entry, (*path, key), scope) for key, entry in entries.items()]

    def fill(names: Names) -> Node:
        filled = [_filled(entry, names) for entry in staged]
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


def _stage_entry(entry: Entry, path: Path, scope: _Scope) -> Entry | Callable[[Names], Entry | None] | None:
    key, value = _stage_key(entry, path, scope), _stage(entry.value, path, scope)

    def fill(names: Names) -> Entry | None:
        node = _filled(value, names)
        return Entry(_filled(key, names), node, entry.location) if node is not None else None

    if callable(key) or callable(value):
        return fill
    return entry if value is entry.value and key == entry.key else fill({})


def _stage_key(entry: Entry, path: Path, scope: _Scope) -> Key | Callable[[Names], Key]:
    text = entry.key
    if not isinstance(text, str) or "$" not in text:
        return text

    def fill(names: Names) -> str:
        return _located(_name, text, names, path, entry.location)

    return fill if _waits(text, scope) else scope.settle(fill, text)


def _stage_if(node: Node, entries: Mapping[Key, Entry], path: Path, scope: _Scope) -> _Staged:
    body = replace(node, entries={key: entry for key, entry in entries.items() if key != "if"})
    condition = _stage_condition(entries["if"].value, (*path, "if"), scope)
    if condition is False:
        return None
    staged = _stage(body, path, scope)
    if condition is True:
        return staged
    return lambda names: _filled(staged, names) if _filled(condition, names) else None


def _stage_condition(node: Node, path: Path, scope: _Scope) -> bool | Callable[[Names], bool]:
    found = len(scope.problems)
    staged = _stage(node, path, scope)
    if found < len(scope.problems):
        return True

    def fill(names: Names) -> bool:
        value = _filled(staged, names).value
        if isinstance(value, int):
            return bool(value)
        raise InputError(
            [Problem(path, f"expected a condition such as $(l > 1), got {value!r}", node.location)]
        )

    return fill if callable(staged) else scope.settle(fill, True)


def _waits(text: str, scope: _Scope) -> bool:
    """Tell whether a text needs a loop variable; a text that cannot be read fails where it is filled."""
    try:
        return any(not isinstance(piece, str) and piece.names & set(scope.loops) for piece in _pieces(text))
    except ValueError:
        return False


def _located(
    read: Callable[[str, Names], T], text: str, names: Names, path: Path, location: Location | None
) -> T:
    try:
        return read(text, names)
    except ValueError as error:
        raise InputError([Problem(path, str(error), location)]) from None


def _leaf(value: Any, location: Location | None) -> Node:
    return (
        Node(value, location)
        if isinstance(value, int | str | float)
        else from_plain(value, location=location)
    )
