"""A mapping inside an attribute of an op: hashable, its keys checked against a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from reprlib import repr as short
from typing import TYPE_CHECKING, Any

from pcsim.errors import InputError, Problem, nearest

if TYPE_CHECKING:
    from pcsim.ops.op import Attribute


@dataclass(frozen=True)
class Settings(Mapping[str, Any]):
    """Keys with values, as a document gives them, each checked.

    >>> Settings((("rule", "fixed_in_degree"), ("degree", 10)))["degree"]
    10
    """

    pairs: tuple[tuple[str, Any], ...]

    def __getitem__(self, key: str) -> Any:
        return dict(self.pairs)[key]

    def __iter__(self) -> Iterator[str]:
        return (key for key, _ in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)


def settings(kind: str, given: Mapping[Any, Any], table: Mapping[str, Attribute]) -> Settings:
    """Return what was given, checked; ``kind`` says what has these keys. Optional keys that are not given stay out.

    Raises
    ------
    InputError
        With a problem for every unknown, missing or bad key; each path is (key,).
    """
    problems = [
        Problem((str(key),), f"unknown key {key!r} of {kind}" + nearest(str(key), table))
        for key in given
        if key not in table
    ]
    slips = "".join(problem.message for problem in problems)
    good = {}
    for name, row in table.items():
        if name in given:
            try:
                good[name] = row.parse(given[name])
            except ValueError as error:
                problems.append(Problem((name,), f"got {short(given[name])}, {error}"))
        elif row.required and f"did you mean {name!r}?" not in slips:
            problems.append(Problem((name,), f"{kind} needs the key {name!r}: {row.summary}"))
    if problems:
        raise InputError(problems)
    return Settings(tuple(good.items()))


def keys_schema(table: Mapping[str, Attribute], **more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a mapping with the keys of a table; ``more`` are schemas of keys that it needs too."""
    return {
        "type": "object",
        "properties": {**more, **{name: row.schema for name, row in table.items()}},
        "required": [*more, *(name for name, row in table.items() if row.required)],
        "additionalProperties": False,
    }
