"""Exact draws of pairs and sets, at the cost of what is drawn and not of what could be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pcsim.ops.synapses.edge_files import SynapseList

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Whole = np.ndarray
"""An array of whole numbers."""

CHUNK = 1 << 18
"""Places looked at at a time."""


@dataclass(frozen=True)
class Wanted:
    """Between which populations, from which stream, and the folder of files."""

    before: int
    after: int
    draw: np.random.Generator
    folder: Path = Path()

    @property
    def pairs(self) -> int:
        """Return how many pairs of neurons there are."""
        return self.before * self.after


def pairs(places: Whole, wanted: Wanted) -> tuple[Whole, Whole]:
    """Return neuron before and neuron after of pairs numbered row by row."""
    post = places // wanted.before
    return (places - post * wanted.before).astype(np.int32), post.astype(np.int32)


def distinct(rng: np.random.Generator, rows: int, partners: int, degree: int) -> NDArray[np.int32]:
    """Return (rows, degree) numbers below ``partners``, ascending and distinct in each row.

    Every set is equally likely: what is drawn twice is drawn anew, and no step prefers a number to another.
    """
    found = rng.integers(0, partners, (rows, degree), dtype=np.int32)
    found.sort(axis=1)
    again = np.flatnonzero(_repeats(found).any(axis=1))
    while len(again):
        part = found[again]
        twice = _repeats(part)
        part[:, 1:][twice] = rng.integers(0, partners, int(twice.sum()), dtype=np.int32)
        part.sort(axis=1)
        found[again] = part
        again = again[_repeats(part).any(axis=1)]
    return found


def _repeats(rows: Whole) -> NDArray[np.bool_]:
    return np.asarray(rows[:, 1:] == rows[:, :-1])


def distinct_places(rng: np.random.Generator, places: int, many: int) -> NDArray[np.int64]:
    """Return ``many`` distinct numbers below ``places``, ascending, every set equally likely."""
    found = np.sort(rng.integers(0, places, many))
    while (twice := found[1:] == found[:-1]).any():
        found[1:][twice] = rng.integers(0, places, int(twice.sum()))
        found.sort()
    return found


def joined(parts: list[tuple[Whole, Whole]]) -> SynapseList:
    """Return lists of neurons before and after end to end."""
    if not parts:
        return SynapseList(np.zeros(0, np.int32), np.zeros(0, np.int32))
    return SynapseList(np.concatenate([pre for pre, _ in parts]), np.concatenate([post for _, post in parts]))


def chosen(rng: np.random.Generator, places: int, chance: float) -> Iterator[NDArray[np.int64]]:
    """Yield, ascending, which of the places are chosen, each by itself with this chance."""
    if chance == 0:
        return
    few = int(1.1 * places * chance) + 16
    size = max(1, min(CHUNK, few, (2**63 - 1) // (places + 1) - 1))  # so that no sum of gaps overflows
    last = -1
    while last < places:
        found = np.minimum(rng.geometric(chance, size), places + 1)
        np.cumsum(found, out=found)
        found += last
        last = int(found[-1])
        yield found if last < places else found[found < places]
