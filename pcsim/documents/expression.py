"""Whole-number arithmetic, comparisons and conditions in a document, worked out and never run as code."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pcsim.errors import nearest, whole, wrong

Names = Mapping[str, Any]

MAX_NUMBER = 10**12
MAX_EXPONENT = 64
MAX_LENGTH = 400
MAX_DEPTH = 50

_ALLOWED = "an expression has names, whole numbers, + - * // % **, comparisons, and, or, not, parentheses"
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


@dataclass(frozen=True)
class Expression:
    """An expression that was parsed and holds nothing that is not allowed."""

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
        return worked_out(expression_of(expression), names)
    except ValueError as error:
        raise wrong((), str(error)) from None


def worked_out(expression: Expression, names: Names) -> Any:
    """Return the value of an expression; raises ValueError."""
    try:
        return _value(expression.tree, names)
    except ValueError as error:
        msg = f"in $({expression.text}): {error}"
        raise ValueError(msg) from None


@lru_cache(maxsize=4096)
def expression_of(text: str) -> Expression:
    """Parse an expression; raises ValueError."""
    try:
        tree = _parse(text.strip())
        _check(tree, 0)
    except ValueError as error:
        msg = f"in $({text[:80]}): {error}"
        raise ValueError(msg) from None
    return Expression(text, tree, frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))


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
    try:
        number = whole(value)
    except ValueError as error:
        msg = f"{error}, got {value!r}"
        raise ValueError(msg) from None
    if abs(number) > MAX_NUMBER:
        raise ValueError("a number is beyond 1e12")
    return number


def _truth(value: Any) -> bool:
    return value if isinstance(value, bool) else _whole(value) != 0
