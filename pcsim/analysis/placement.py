"""Where actors are on a chip: cores of a mesh, the way that messages take, and the delays that this makes.

A chip is a grid of tiles, each of a few cores; chips are joined below each other to one larger grid where a graph needs
more. An actor that is too large for a core is cut into equal pieces, each on a core: every piece takes all inputs of
its vertex, and holds an equal part of its units and weights. Messages go along the row to the column of their
destination, then along the column (X-Y routing), and cores of one tile are no hop apart.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from math import ceil, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from pcsim.errors import nearest, wrong
from pcsim.graph.assembly import assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pcsim.graph.graph import Edge, Graph

Array = np.ndarray

MOST_DENSE = 1500
"""Up to so many pieces eigenvectors are those of a dense matrix."""


@dataclass(frozen=True)
class Chip:
    """A mesh of tiles.

    Attributes
    ----------
    rows, columns : tiles
    cores : of each tile
    units, weights : that a core holds; a vertex needs two units for each number of its value: value and error
    """

    rows: int
    columns: int
    cores: int
    units: int
    weights: int

    def holding(self, cores: int) -> Chip:
        """Return as many of these chips, below each other, as have so many cores."""
        one = self.rows * self.columns * self.cores
        return replace(self, rows=self.rows * max(1, ceil(cores / one)))

    @cached_property
    def positions(self) -> Array:
        """Row and column of the tile of each core: (cores, 2). Cores are numbered row by row, back and forth."""
        tiles = [
            (row, column if row % 2 == 0 else self.columns - 1 - column)
            for row in range(self.rows)
            for column in range(self.columns)
        ]
        return np.repeat(np.array(tiles), self.cores, axis=0)

    def distances(self, ones: Array, others: Array) -> Array:
        """Return the hops between cores: arrays of core numbers that broadcast."""
        return np.asarray(np.abs(self.positions[ones] - self.positions[others]).sum(axis=-1))


@dataclass(frozen=True)
class Piece:
    """A part of a vertex that fits on a core, ``share`` of its units and weights."""

    vertex: str
    share: float
    units: float
    weights: float


@dataclass(frozen=True)
class Pieces:
    """What is placed, and what crosses between: numbers of a tick for one sample."""

    pieces: tuple[Piece, ...]
    traffic: Mapping[tuple[int, int], float]

    @cached_property
    def neighbours(self) -> list[dict[int, float]]:
        """For each piece, what crosses between it and others, both ways together."""
        found: list[dict[int, float]] = [defaultdict(float) for _ in self.pieces]
        for (one, other), numbers in self.traffic.items():
            found[one][other] += numbers
            found[other][one] += numbers
        return found

    @cached_property
    def laplacian(self) -> Array:
        """The Laplacian of the traffic, dense."""
        matrix = np.zeros((len(self.pieces),) * 2)
        for (one, other), numbers in self.traffic.items():
            matrix[[one, other], [other, one]] -= numbers
        np.fill_diagonal(matrix, matrix.diagonal() - matrix.sum(axis=1))
        return matrix


def pieces_of(graph: Graph, weights: Mapping[str, float], chip: Chip) -> Pieces:
    """Return the pieces of a graph; ``weights`` are those that each vertex keeps."""
    pieces: list[Piece] = []
    of: dict[str, list[int]] = {}
    for name, vertex in graph.vertices.items():
        units, kept = 2.0 * prod(vertex.shape), weights.get(name, 0.0)
        count = max(1, ceil(units / chip.units), ceil(kept / chip.weights))
        of[name] = list(range(len(pieces), len(pieces) + count))
        pieces += [Piece(name, 1 / count, units / count, kept / count)] * count
    traffic: dict[tuple[int, int], float] = defaultdict(float)
    for edge in graph.edges:
        numbers = prod(graph.vertices[edge.pre].shape) * (2 if graph.carries_errors(edge) else 1)
        for one in of[edge.pre]:
            for other in of[edge.post]:
                traffic[one, other] += numbers * pieces[one].share
    return Pieces(tuple(pieces), dict(traffic))


# -- ways to place -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placement:
    """One way to place pieces: (pieces, chip, seed) -> the core of each piece; the chip grows where it is full."""

    name: str
    summary: str
    arrange: Callable[[Pieces, Chip, int], tuple[Chip, Array]]
    source: str = ""


def _filled(order: Sequence[int], found: Pieces, chip: Chip) -> tuple[Chip, Array]:
    """Fill core after core with pieces in this order."""
    cores, core, units, weights = np.zeros(len(order), dtype=int), 0, 0.0, 0.0
    for number in order:
        piece = found.pieces[number]
        if units + piece.units > chip.units or weights + piece.weights > chip.weights:
            core, units, weights = core + 1, 0.0, 0.0
        units, weights, cores[number] = units + piece.units, weights + piece.weights, core
    return chip.holding(core + 1), cores


def _in_order(found: Pieces, chip: Chip, seed: int) -> tuple[Chip, Array]:
    del seed
    return _filled(range(len(found.pieces)), found, chip)


def _random(found: Pieces, chip: Chip, seed: int) -> tuple[Chip, Array]:
    """Draw a core for each piece among those with room for it."""
    rng = np.random.default_rng(seed)
    chip = _filled(rng.permutation(len(found.pieces)).tolist(), found, chip)[0]
    return _one_by_one(found, chip, rng.permutation(len(found.pieces)).tolist(), lambda _, room: rng.random(len(room)))


def _greedy(found: Pieces, chip: Chip, seed: int) -> tuple[Chip, Array]:
    """Place next what exchanges most with what is there, where the numbers cross the fewest hops."""
    del seed
    chip = _filled(range(len(found.pieces)), found, chip)[0]
    cores = np.full(len(found.pieces), -1)

    every = np.arange(len(chip.positions))[:, None]

    def hops(number: int, _: Array) -> Array:
        near = [(cores[other], numbers) for other, numbers in found.neighbours[number].items() if cores[other] >= 0]
        if not near:
            return np.asarray(np.abs(chip.positions - chip.positions.mean(axis=0)).sum(axis=1))
        which, numbers = np.array(near).T
        return np.asarray(chip.distances(every, which.astype(int)) @ numbers)

    return _one_by_one(found, chip, _by_traffic(found), hops, cores)


def _by_traffic(found: Pieces) -> list[int]:
    """Return pieces in an order in which each exchanges most with those before it."""
    pull, order, left = np.zeros(len(found.pieces)), [], set(range(len(found.pieces)))
    total = [sum(near.values()) for near in found.neighbours]
    while left:
        number = max(left, key=lambda one: (pull[one], total[one], -one))
        left.remove(number)
        order.append(number)
        for other, numbers in found.neighbours[number].items():
            pull[other] += numbers
    return order


def _one_by_one(
    found: Pieces,
    chip: Chip,
    order: Sequence[int],
    worth: Callable[[int, Array], Array],
    cores: Array | None = None,
) -> tuple[Chip, Array]:
    """Place each piece on the core with room where ``worth`` is least; a further chip is added where none has room."""
    cores = np.full(len(order), -1) if cores is None else cores
    room = np.tile([float(chip.units), float(chip.weights)], (len(chip.positions), 1))
    for number in order:
        needs = np.array([found.pieces[number].units, found.pieces[number].weights])
        fits = (room >= needs).all(axis=1)
        if not fits.any():
            return _filled(order, found, chip)
        values = np.where(fits, worth(number, room), np.inf)
        cores[number] = int(values.argmin())
        room[cores[number]] -= needs
    return chip, cores


def _spectral(found: Pieces, chip: Chip, seed: int) -> tuple[Chip, Array]:
    """Fill cores in the order of the Fiedler vector of the traffic."""
    del seed
    return _filled(np.argsort(_fiedler(found), kind="stable").tolist(), found, chip)


def _fiedler(found: Pieces) -> Array:
    """Return the eigenvector of the Laplacian that belongs to its least eigenvalue above 0; its first part is positive.

    Raises InputError where there are too many pieces for a dense matrix.
    """
    if len(found.pieces) > MOST_DENSE:
        message = f"'spectral' takes at most {MOST_DENSE:,} pieces of actors, got {len(found.pieces):,}; take 'greedy'"
        raise wrong("placement", message)
    if len(found.pieces) < 3:
        return np.arange(float(len(found.pieces)))
    values, vectors = np.linalg.eigh(found.laplacian)
    above = np.flatnonzero(values > 1e-9 * values[-1])
    vector = vectors[:, above[0] if len(above) else 1]
    first = vector[np.flatnonzero(np.abs(vector) > 1e-9 * np.abs(vector).max())[0]]
    return np.asarray(np.round(vector * np.sign(first), 9))


def _metis(found: Pieces, chip: Chip, seed: int) -> tuple[Chip, Array]:
    """Cut the traffic into as many parts as cores are needed, and fill cores part after part."""
    del seed
    cores = int(_filled(range(len(found.pieces)), found, chip)[1].max()) + 1
    try:
        metis: Any = import_module("pymetis")
    except ImportError:
        message = "placement 'metis' needs pymetis: pip install '.[metis]'; 'greedy' and 'spectral' need nothing"
        raise wrong("placement", message) from None
    starts, ends, weights = [0], [], []
    for near in found.neighbours:
        ends += list(near)
        weights += [max(1, round(numbers)) for numbers in near.values()]
        starts.append(len(ends))
    _, parts = metis.part_graph(cores, metis.CSRAdjacency(starts, ends), eweights=weights)
    return _filled(np.argsort(parts, kind="stable").tolist(), found, chip)


_ROWS = (
    Placement("in-order", "core after core, from the sources to the outputs", _in_order),
    Placement("random", "a core with room, drawn by the scenario's seed", _random),
    Placement("greedy", "next what exchanges most with what is placed, the fewest hops from it", _greedy),
    Placement("spectral", "core after core in the order of the Fiedler vector of the traffic", _spectral,
              source="Fiedler 1973; Hall 1970"),
    Placement("metis", "core after core by parts between which little crosses; needs pymetis", _metis,
              source="Karypis & Kumar 1998"),
)  # fmt: skip

PLACEMENTS: dict[str, Placement] = {row.name: row for row in _ROWS}


# -- what a placement means ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Placed:
    """A graph on a chip.

    Attributes
    ----------
    placement : the row of ``PLACEMENTS``
    cores : the core of each piece
    """

    placement: str
    graph: Graph
    chip: Chip
    pieces: Pieces
    cores: Array

    def __repr__(self) -> str:
        return (
            f"Placed({self.placement!r}, {len(self.pieces.pieces)} pieces of {len(self.graph.vertices)} actors on "
            f"{len(set(self.cores.tolist()))} cores of {self.chip.rows} x {self.chip.columns} tiles)"
        )

    @cached_property
    def where(self) -> dict[str, list[tuple[int, float]]]:
        """The cores of each vertex, with its share on each."""
        shares: dict[str, dict[int, float]] = {name: defaultdict(float) for name in self.graph.vertices}
        for piece, core in zip(self.pieces.pieces, self.cores.tolist(), strict=True):
            shares[piece.vertex][core] += piece.share
        return {name: list(found.items()) for name, found in shares.items()}

    @property
    def tiles(self) -> int:
        """Tiles in use."""
        return len(set(map(tuple, self.chip.positions[self.cores].tolist())))

    def hops(self, edge: Edge) -> int:
        """Return the most hops that a number of an edge takes."""
        ones, others = (np.array([core for core, _ in self.where[name]]) for name in (edge.pre, edge.post))
        return int(self.chip.distances(ones[:, None], others).max())

    @property
    def mean_hops(self) -> float:
        """Hops of a number, on average over all that crosses in a tick."""
        pairs = np.array(list(self.pieces.traffic)).reshape(-1, 2)
        numbers = np.array(list(self.pieces.traffic.values()))
        hops = self.chip.distances(self.cores[pairs[:, 0]], self.cores[pairs[:, 1]])
        return float(hops @ numbers / numbers.sum()) if numbers.size else 0.0

    def delays(self, hops_per_tick: int = 1) -> dict[str, int]:
        """Return the whole ticks that messages of each edge travel beyond a neighbour's: ``hops // hops_per_tick``.

        Edges of parameters have none: what a parameter receives waits.

        Raises InputError where ``hops_per_tick`` is below 1.
        """
        if hops_per_tick < 1:
            raise wrong("hops_per_tick", f"must be a whole number of at least 1, got {hops_per_tick!r}")
        return {
            edge.name: 0 if self.graph.role(edge.pre) == "parameter" else self.hops(edge) // hops_per_tick
            for edge in self.graph.edges
        }

    def delayed(self, hops_per_tick: int = 1) -> Graph:
        """Return the graph with each edge longer by the ticks that its messages travel on the chip, both ways.

        No barrier holds the ticks of the chip then: a message that needs longer than a tick arrives in a later one.
        """
        more = self.delays(hops_per_tick)
        edges = [
            replace(
                edge, value_delay=edge.value_delay + more[edge.name], error_delay=edge.error_delay + more[edge.name]
            )
            for edge in self.graph.edges
        ]
        return assemble(self.graph.vertices.values(), edges, self.graph)


def put_on_chip(graph: Graph, weights: Mapping[str, float], chip: Chip, name: str = "greedy", seed: int = 0) -> Placed:
    """Place the actors of a graph on a chip, or on as many as they need.

    Raises InputError for an unknown placement, or one that needs a library that is not here.
    """
    if name not in PLACEMENTS:
        raise wrong("placement", f"unknown placement {name!r}" + nearest(name, PLACEMENTS, "pcsim list placements"))
    found = pieces_of(graph, weights, chip)
    grown, cores = PLACEMENTS[name].arrange(found, chip, seed)
    return Placed(name, graph, grown, found, cores)
