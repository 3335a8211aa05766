"""Fills in ``$name``, ``${name}`` and ``$(expression)`` in a text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pcsim.documents.expression import Expression, expression_of, worked_out
from pcsim.errors import wrong

if TYPE_CHECKING:
    from pcsim.documents.expression import Names

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

Piece = str | Expression


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
        return joined(text, names)
    except ValueError as error:
        raise wrong((), str(error)) from None


def joined(text: str, names: Names) -> Any:
    """Return a text filled in; raises ValueError."""
    pieces = pieces_of(text)
    if len(pieces) == 1 and isinstance(pieces[0], Expression):
        return worked_out(pieces[0], names)
    return "".join(
        piece if isinstance(piece, str) else _written(worked_out(piece, names), piece.text) for piece in pieces
    )


def name_of(text: str, names: Names) -> str:
    """Return a text filled in, as a name; raises ValueError."""
    return _written(joined(text, names), text)


def _written(value: Any, text: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return str(value)
    msg = f"{text!r} is {value!r}, which cannot stand inside a text"
    raise ValueError(msg)


@lru_cache(maxsize=4096)
def pieces_of(text: str) -> tuple[Piece, ...]:
    """Return the texts and the expressions of a text; raises ValueError."""
    pieces: list[Piece] = []
    start = 0
    while (at := text.find("$", start)) >= 0:
        piece, end = _piece(text, at + 1)
        pieces += [text[start:at], piece]
        start = end
    return tuple(piece for piece in [*pieces, text[start:]] if piece != "")


def _piece(text: str, at: int) -> tuple[Piece, int]:
    """Read what follows a ``$``; return it and where the text goes on."""
    first = text[at : at + 1]
    if first == "$":
        return "$", at + 1
    if first == "(":
        end = _closing(text, at)
        return expression_of(text[at + 1 : end]), end + 1
    if first == "{":
        return _braced(text, at)
    if name := NAME.match(text, at):
        return expression_of(name[0]), name.end()
    msg = f"a lone $ in {text[:80]!r}; write $name, $(expression), or $$ for a dollar sign"
    raise ValueError(msg)


def _braced(text: str, at: int) -> tuple[Piece, int]:
    end = text.find("}", at)
    if end < 0 or not NAME.fullmatch(text[at + 1 : end]):
        msg = f"${{...}} in {text[:80]!r} takes one name; write $(...) for an expression"
        raise ValueError(msg)
    return expression_of(text[at + 1 : end]), end + 1


def _closing(text: str, at: int) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += (text[index] == "(") - (text[index] == ")")
        if depth == 0:
            return index
    msg = f"$( in {text[:80]!r} is not closed"
    raise ValueError(msg)
