"""A ranking that says where it would turn: which constant, made how much smaller or larger, changes the order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Constants = Mapping[tuple[str, str], float]
"""{(device, constant): value}."""

MARGIN = 0.25
"""Constants are made smaller and larger by this share of their value."""

HALVINGS = 40


@dataclass(frozen=True)
class Candidate:
    """What is ranked: its name, and its size for any values of the constants; the smallest is first."""

    name: str
    size: Callable[[Constants], float]


@dataclass(frozen=True)
class Turn:
    """A constant that changes the order.

    Attributes
    ----------
    constant : (device, name); the name is empty where all constants of a device change together
    factor : times its value, from which on the order is another one
    passes, passed : who is then before whom
    """

    constant: tuple[str, str]
    factor: float
    passes: str
    passed: str


def ranked(candidates: Sequence[Candidate], constants: Constants) -> list[tuple[Candidate, float]]:
    """Return candidates with their sizes, the smallest first."""
    pairs = [(candidate, candidate.size(constants)) for candidate in candidates]
    return sorted(pairs, key=lambda pair: pair[1])


def turns(candidates: Sequence[Candidate], constants: Constants, margin: float = MARGIN) -> list[Turn]:
    """Return where a constant, between ``1 - margin`` and ``1 + margin`` times its value, changes the order.

    For each constant alone, and for all constants of a device together, each two neighbours of the ranking are
    compared. Estimates rise with each constant or fall with it, and so does their difference but for maxima within
    them; the first change on the way to either end is found by halving.
    """
    order = [candidate for candidate, _ in ranked(candidates, constants)]
    return [
        turn
        for constant, change in _changes(constants)
        for end in (1 - margin, 1 + margin)
        for first, second in pairwise(order)
        for turn in _turn(constant, change, end, first, second)
    ]


def _changes(constants: Constants) -> Iterator[tuple[tuple[str, str], Callable[[float], Constants]]]:
    """Yield (what, factor -> constants) for each constant alone and for those of a device together."""
    for key in constants:
        yield key, lambda factor, key=key: {**constants, key: constants[key] * factor}  # type: ignore[misc]
    for device in dict.fromkeys(device for device, _ in constants):
        yield (
            (device, ""),
            lambda factor, device=device: {  # type: ignore[misc]
                key: value * (factor if key[0] == device else 1.0) for key, value in constants.items()
            },
        )


def _turn(
    constant: tuple[str, str], change: Callable[[float], Constants], end: float, first: Candidate, second: Candidate
) -> Iterator[Turn]:
    """Yield the turn of two neighbours between 1 and ``end``, if there is one."""

    def kept(factor: float) -> bool:
        changed = change(factor)
        return first.size(changed) <= second.size(changed)

    if kept(end):
        return
    near, far = 1.0, end
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if kept(middle) else (near, middle)
    yield Turn(constant, far, second.name, first.name)
