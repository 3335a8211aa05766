"""Sums of products of arrays whose axes have labels: pair by pair, each a matrix product.

A label that several operands share and that the result has not is summed over. An axis of extent 1 broadcasts: it is
left out before. How a sum is worked out depends on labels and shapes alone, and is planned once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pcsim.arrays import Array, Namespace, Shape

Label = Hashable
Labels = tuple[Label, ...]

MOST_LABELS = 26
"""An equation may have as many labels at most; NumPy plans sums of 52, and derivatives need a few more than sums."""


@dataclass(frozen=True)
class Narrowing:
    """One operand without axes that broadcast, with equal labels made one, and summed over what it alone has."""

    shape: Shape
    equation: str
    """Empty where nothing is to be done."""

    def __call__(self, xp: Namespace, x: Array) -> Array:
        """Return the operand as it is multiplied."""
        x = x.reshape(self.shape)
        return xp.einsum(self.equation, x) if self.equation else x


@dataclass(frozen=True)
class Pairing:
    """The product of two operands, as one of matrices: (*both, left, summed) and (*both, summed, right).

    Attributes
    ----------
    places : of both among the operands that are left
    orders : of the axes of each
    shapes : of both as matrices
    shape : of the result, whose labels are those of both, of the left, of the right
    """

    places: tuple[int, int]
    orders: tuple[tuple[int, ...], tuple[int, ...]]
    shapes: tuple[Shape, Shape]
    shape: Shape

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return prod(self.shapes[0]) * self.shapes[1][-1]

    def __call__(self, xp: Namespace, a: Array, b: Array) -> Array:
        """Return the product."""
        a, b = (x.transpose(order).reshape(shape) for x, order, shape in
                zip((a, b), self.orders, self.shapes, strict=True))  # fmt: skip
        rows, summed, columns = a.shape[-2], a.shape[-1], b.shape[-1]
        if summed == 1:
            return (a * b).reshape(self.shape)
        if rows == columns == 1 and a.ndim > 2:
            return xp.sum(a[..., 0, :] * b[..., 0], axis=-1).reshape(self.shape)
        return xp.matmul(a, b).reshape(self.shape)


@dataclass(frozen=True)
class Plan:
    """How a sum of products is worked out."""

    narrowings: tuple[Narrowing, ...]
    pairings: tuple[Pairing, ...]
    order: tuple[int, ...]
    """Of the axes of the last product, in the result."""

    @property
    def work(self) -> int:
        """Multiply-adds."""
        return sum(pairing.work for pairing in self.pairings)


def sum_of_products(xp: Namespace, labels: Sequence[Labels], operands: Sequence[Array], out: Labels) -> Array:
    """Return the sum over all labels but those of ``out``, each of which an operand has, and once."""
    plan = planned(tuple(labels), tuple(x.shape for x in operands), out)
    left = [narrow(xp, x) for narrow, x in zip(plan.narrowings, operands, strict=True)]
    for pairing in plan.pairings:
        pair = [left[place] for place in pairing.places]
        left = [x for place, x in enumerate(left) if place not in pairing.places]
        left.append(pairing(xp, *pair))
    return left[0].transpose(plan.order)


@lru_cache(maxsize=4096)
def planned(labels: tuple[Labels, ...], shapes: tuple[Shape, ...], out: Labels) -> Plan:
    """Return how a sum of products is worked out."""
    extents = extents_of(labels, shapes)
    having = [
        tuple(label for label, n in zip(each, shape, strict=True) if n == extents[label])
        for each, shape in zip(labels, shapes, strict=True)
    ]
    owners = Counter(label for each in having for label in set(each))
    known = [tuple(n for n in dict.fromkeys(each) if owners[n] > 1 or n in out) for each in having]
    narrowings = tuple(narrowed(each, kept, extents) for each, kept in zip(having, known, strict=True))
    pairings = []
    for places in order_of(known, extents, out):
        pair, known = [known[place] for place in places], [each for n, each in enumerate(known) if n not in places]
        pairing, made = paired(places, pair, extents, {*out, *(label for each in known for label in each)}, out)
        pairings.append(pairing)
        known.append(made)
    return Plan(narrowings, tuple(pairings), tuple(known[0].index(label) for label in out))


def narrowed(having: Labels, kept: Labels, extents: dict[Label, int]) -> Narrowing:
    """Return how an operand comes by the labels that are kept."""
    return Narrowing(tuple(extents[label] for label in having), "" if kept == having else written([having], kept))


def extents_of(labels: Iterable[Labels], shapes: Iterable[Shape]) -> dict[Label, int]:
    """Return the extent of each label: the largest of its axes; the others are 1."""
    extents: dict[Label, int] = {}
    for each, shape in zip(labels, shapes, strict=True):
        for label, extent in zip(each, shape, strict=True):
            extents[label] = max(extent, extents.get(label, 1))
    return extents


def written(labels: Sequence[Labels], out: Labels) -> str:
    """Return an equation as NumPy writes it."""
    letters = dict(zip(dict.fromkeys(label for each in labels for label in each), ascii_letters, strict=False))
    left = ",".join("".join(letters[label] for label in each) for each in labels)
    return left + "->" + "".join(letters[label] for label in out)


def order_of(labels: Sequence[Labels], extents: dict[Label, int], out: Labels) -> list[tuple[int, int]]:
    """Return which two operands meet next, the rest of them counted anew each time."""
    if len(labels) < 3:
        return [(0, 1)][: len(labels) - 1]
    shadows = [np.broadcast_to(np.float32(0), [extents[label] for label in each]) for each in labels]
    path, _ = np.einsum_path(written(labels, out), *shadows, optimize="greedy")
    return [pair for step in path[1:] for pair in pairs_of(step, len(labels))]


def pairs_of(step: tuple[int, ...], count: int) -> list[tuple[int, int]]:
    """Return a step of NumPy's plan as pairs; its last one may take all that are left."""
    if len(step) == 2:
        return [step]
    return [(left - 2, left - 1) for left in range(len(step), 1, -1)]


def paired(
    places: tuple[int, int], labels: Sequence[Labels], extents: dict[Label, int], needed: set[Label], out: Labels
) -> tuple[Pairing, Labels]:
    """Return the product of two operands, and the labels of its result."""
    a, b = labels
    front = next((label for label in out if (label in a) != (label in b)), None)
    if front in b:  # the result then comes out in the order asked for
        places, (a, b) = (places[1], places[0]), (b, a)
    shared = [label for label in a if label in b]
    both, summed = [n for n in shared if n in needed], [n for n in shared if n not in needed]
    left, right = [n for n in a if n not in shared], [n for n in b if n not in shared]
    shape = tuple(extents[label] for label in both)
    rows, inside, columns = (prod(extents[label] for label in part) for part in (left, summed, right))
    orders = tuple(a.index(n) for n in both + left + summed), tuple(b.index(n) for n in both + summed + right)
    made = (*both, *left, *right)
    shapes = (*shape, rows, inside), (*shape, inside, columns)
    return Pairing(places, orders, shapes, tuple(extents[label] for label in made)), made
