"""What names vertices and edges: the one rule.

A vertex may be named by any text of at most 1,000 characters that show, without blanks at its ends: spaces, brackets,
slashes, dots, ``#``, ``$`` and ``->`` are like other characters, and a number in a document is its digits. Where a
document has templates, ``$$`` stands for one ``$``; where a scenario names vertices only in entries that are templates
(``scenario/data_templates.py``).

An edge is named ``pre->post``, further ones between the same pair ``pre->post#1``, ``pre->post#2``. A name that would
make this ambiguous stands in it as JSON text: the edge from ``a->b`` to ``c`` is ``"a->b"->c``.

A pattern is one of ``fnmatch``: ``*``, ``?`` and ``[ab]``, with ``[*]`` for a star; what it spells exactly goes first.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

MOST_CHARACTERS = 1000
PATTERN = r"^\S(.*\S)?$"
"""The rule as a regular expression, but for characters that do not show."""

_AMBIGUOUS = re.compile(r'->|^"|#[0-9]+$')

EXPANDED = ("vertices", "parameters", "outputs", "formula")
"""Sections of a graph document in which ``$`` begins a template."""


def edge_name(pre: str, post: str, number: int = 0) -> str:
    """Return the name of an edge; ``number`` counts those between the same pair before it.

    >>> edge_name("h1", "y"), edge_name("h1", "y", 1), edge_name("a->b", "c#1")
    ('h1->y', 'h1->y#1', '"a->b"->"c#1"')
    """
    return f"{_end(pre)}->{_end(post)}" + (f"#{number}" if number else "")


def _end(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) if _AMBIGUOUS.search(name) else name


def chosen(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern chooses: the one that it spells exactly, else those that it matches.

    >>> chosen("h[1]", ["h1", "h[1]"]), chosen("h?", ["h1", "h2", "y"])
    (['h[1]'], ['h1', 'h2'])
    """
    known = list(names)
    return [pattern] if pattern in known else [name for name in known if fnmatchcase(name, pattern)]


def without_templates(document: Mapping[str, Any], sections: Collection[str] = EXPANDED) -> dict[str, Any]:
    """Return a document that has no templates, written so that reading it finds none."""
    return {key: _doubled(value) if key in sections else value for key, value in document.items()}


def _doubled(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, Mapping):
        return {_doubled(key): _doubled(part) for key, part in value.items()}
    return [_doubled(part) for part in value] if isinstance(value, list | tuple) else value
